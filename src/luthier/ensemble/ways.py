"""`Context`: what a way of making an ensemble is given, and may use; `Way`: one of them.

Which ways there are, by name, lives in `registry`; which one is shipped is decided in `choice`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from luthier.engine.engine import Engine
from luthier.engine.train import never
from luthier.ensemble.base import Candidate, Part
from luthier.study.study import Finished
from luthier.tasks.base import Task

MOST_PARTS = 8
"""Networks of an ensemble at most: each costs as much as the single model again wherever it is used."""


@dataclass
class Context:
    """What is left of a search. The test split has no place here.

    Attributes:
        engine: Has the task, the training and validation rows, the trials' weights and validation outputs; it
            can train more.
        ranked: Trials of which something can be made, the best first.
        seed: Of all that is random.
        seconds: What making the ensemble may take, from now on.
        halt: Gives a reason when it is to stop; asked between steps.
        say: Told what a person should know, such as why there is no ensemble.
        groups: (n,) group keys of the validation rows, or None where each row stands alone.
        parts: Networks of the ensemble at most.
    """

    engine: Engine
    ranked: Sequence[Finished]
    seed: int = 0
    seconds: float = math.inf
    halt: Callable[[], str | None] = never
    say: Callable[[str], None] = lambda text: None
    groups: Any | None = None
    parts: int = MOST_PARTS
    _started: float = field(default_factory=time.perf_counter, repr=False)

    @property
    def task(self) -> Task:
        """The fitted task."""
        return self.engine.task

    @cached_property
    def targets(self) -> list[np.ndarray]:
        """True answers of the validation rows."""
        return self.engine.inputs.targets("validation")

    @cached_property
    def pool(self) -> list[tuple[Finished, list[np.ndarray]]]:
        """The trials whose weights and validation outputs are both at hand, with these outputs.

        The best first. Of trials that say the same of every row the first stands for all.
        """
        found: list[tuple[Finished, list[np.ndarray]]] = []
        seen: set[bytes] = set()
        for trial in self.ranked:
            kept = self.engine.kept
            if kept is None or not self.engine.checkpoints.has(trial.trial):
                continue
            outputs = kept.load(trial.trial)
            if outputs is None or len(outputs) != len(self.targets):
                continue
            said = b"".join(np.ascontiguousarray(output).tobytes() for output in outputs)
            if said not in seen and all(np.isfinite(output).all() for output in outputs):
                seen.add(said)
                found.append((trial, outputs))
        return found

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.seconds - (time.perf_counter() - self._started)

    def over(self) -> bool:
        """Whether to stop: time is up, or the user wants it."""
        return self.left <= 0 or self.halt() is not None

    @staticmethod
    def part(trial: Finished) -> Part:
        """A trial as a part."""
        return Part(trial.recipe, trial.seed, trial.trial)


Way = Callable[[Context], Candidate | None]
"""Makes an ensemble, or says why it cannot. Deterministic in the context, as long as time suffices."""
