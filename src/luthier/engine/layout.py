"""An epoch of stacked heads, laid out: which trial sees which examples when. `heads` trains by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from luthier.engine.batches import training_batches
from luthier.engine.state import Member


@dataclass(frozen=True)
class Layout:
    """An epoch as it will go.

    Attributes:
        indices: (steps, trials * batch) examples.
        counts: (steps, trials) how many of a trial's places are taken by its batch.
        plan: See `Rules.plan`; of the steps from ``first`` on.
        first: The step at which it was made.
    """

    indices: torch.Tensor
    counts: np.ndarray
    plan: torch.Tensor
    first: int


def epoch_of(
    members: Sequence[Member], lengths: np.ndarray, steps: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The next epoch of each member.

    Args:
        members: The trials, in the order of the stack.
        lengths: (n,) cost of each training example.
        steps: Of an epoch.
        size: Places that a trial has in a step: its batch size, or all rows where these are fewer.

    Returns:
        (steps, members, size) int32 examples, and (steps, members) how many of these places are taken by the
        batch.
    """
    shape = (steps, len(members), size)
    indices, counts = np.empty(shape, dtype=np.int32), np.full(shape[:2], size)
    for row, member in enumerate(members):
        epoch = member.state.epoch + 1
        batches = training_batches(lengths, member.recipe.batch_size, member.seed, epoch, member.rows)
        for step, batch in enumerate(batches):
            if len(batch) < size:
                # The rest of the place is taken by examples of the batch itself, and does not count.
                counts[step, row] = len(batch)
                batches[step] = np.resize(batch, size)
        indices[:, row] = np.concatenate(batches).reshape(-1, size)
    return indices, counts
