"""What is kept of an answered request: the contract between a server, which makes observations, and whoever
records them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Observation:
    """One answered input.

    Attributes:
        id: Unique; what delayed labels are matched by. The client is told it.
        time: Seconds since the epoch at which it was answered.
        version: Of the model that answered.
        output: What the network said, as `luthier.tasks.base.Task.outputs` cuts it, in float32: (outputs,)
            logits or values, or (words, outputs).
        answer: What the client was told, as `luthier.tasks.base.Task.decode` gives it.
        statistics: Numbers that describe the input by name, such as ``length`` in tokens, the share of
            ``unknown`` tokens, ``brightness``.
        features: (d,) what the head read, in float32; None where the backend does not give it.
        input: The input itself, only where the operator asked for it to be kept.
    """

    id: str
    time: float
    version: str
    output: np.ndarray
    answer: Mapping[str, Any]
    statistics: Mapping[str, float] = field(default_factory=dict)
    features: np.ndarray | None = None
    input: Any = None


class Recorder(Protocol):
    """Takes observations from a server that must not wait.

    Attributes:
        dropped: Observations that were given up since the start, because they came faster than they could be
            written or could not be written at all.
    """

    dropped: int

    def record(self, observations: Sequence[Observation]) -> None:
        """Takes observations, or counts them in `dropped`. Returns at once, from any thread; never raises."""
        ...

    def close(self) -> None:
        """Writes what was taken, and lets go of the store."""
        ...
