"""What tasks take and hand out: columns, batches, examples, decisions. What is done with them is `base`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch

Modality = Literal["text", "image"]


@dataclass(frozen=True)
class Columns:
    """Which columns of a table play which part.

    Attributes:
        roles: Role to column name(s); the roles are the task's own, ``input`` and ``target`` in all built-in
            ones. A list where several columns play one part (the 0/1 columns of a multi-label target).
        confidence: How sure the task is that it is meant, 0 to 1; the highest claim wins an inference.
        why: The reason, said to the user.
    """

    roles: dict[str, str | list[str]]
    confidence: float = 1.0
    why: str = ""


@dataclass
class Batch:
    """Tensors for one step.

    Attributes:
        inputs: Keyword arguments of the network's forward: ``input_ids`` and ``attention_mask`` (batch,
            length), or ``pixel_values`` (batch, channels, height, width).
        targets: (batch,) class indices or values, (batch, labels) floats, or (batch, length) class indices
            with -100 where no loss is counted.
        indices: (batch,) positions of these examples in their `Examples`.
    """

    inputs: dict[str, torch.Tensor]
    targets: torch.Tensor
    indices: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))


@dataclass(frozen=True)
class Decisions:
    """Answers that carry a probability, and whether they are right.

    Attributes:
        confidence: (m,) the probability that the model gives to what it says.
        right: (m,) bool.
        example: (m,) position of the example that each belongs to.
    """

    confidence: np.ndarray
    right: np.ndarray
    example: np.ndarray


class Examples(Protocol):
    """A split, encoded once for one model's preprocessing, from which batches are drawn."""

    lengths: np.ndarray
    """(n,) cost of each example in tokens (1 for images): batches are bucketed by it."""
    truncated: int
    """How many examples were cut to the maximum length."""

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> Batch:
        """The examples at ``indices``, padded to the longest among them."""
        ...

    def targets_of(self, indices: np.ndarray) -> torch.Tensor:
        """The targets of ``batch(indices)``, without the work of making its inputs."""
        ...

    def fingerprint(self) -> str:
        """A hex digest of all that the inputs of batches depend on, in the examples' order.

        Equal fingerprints mean equal inputs, so what a frozen network makes of them can be kept, and met
        again by another process. Targets do not count: they are asked for by `targets_of` each time.
        """
        ...
