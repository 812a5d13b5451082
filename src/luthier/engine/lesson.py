"""`Lesson`: what a training learns from where that is not each training row once, with its own answer.

The loss of a teacher's answers is the task's; who decides on a lesson lives above the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from luthier.tasks.base import Task


@dataclass(frozen=True, eq=False)
class Lesson:
    """Goes with an order, and is given again when the trial goes on.

    Attributes:
        rows: (n,) training rows that an epoch goes through, with repeats, such as a bootstrap resample's;
            None for each row once. There are as many as training rows, so that an epoch has its steps.
        weights: (n,) what each training row counts in the loss, at least 0 and 1 on the whole; None for 1
            each.
        teacher: n arrays of outputs, one a training row, that the trial is to come close to; None for none.
        mix: The share of the teacher in the loss, in [0, 1]; the rest is that of the true answers.
        temperature: What logits are divided by before they are compared with the teacher's.
    """

    rows: np.ndarray | None = None
    weights: np.ndarray | None = None
    teacher: Sequence[np.ndarray] | None = None
    mix: float = 0.5
    temperature: float = 2.0

    def check(self, count: int) -> None:
        """Raises ValueError unless this is a lesson on so many training rows."""
        if self.rows is not None and (
            len(self.rows) != count or self.rows.min() < 0 or self.rows.max() >= count
        ):
            raise ValueError(f"A lesson's rows should be {count} numbers below {count}.")
        if self.weights is not None and (
            len(self.weights) != count or not np.isfinite(self.weights).all() or self.weights.min() < 0
        ):
            raise ValueError(f"A lesson's weights should be {count} numbers of at least 0.")
        if self.teacher is not None and len(self.teacher) != count:
            raise ValueError(f"A teacher should answer {count} rows, not {len(self.teacher)}.")
        if not 0 <= self.mix <= 1 or self.temperature <= 0:
            raise ValueError(f"No lesson has mix {self.mix} and temperature {self.temperature}.")

    def losses(
        self, task: Task, logits: torch.Tensor, targets: torch.Tensor, indices: np.ndarray, true: torch.Tensor
    ) -> torch.Tensor:
        """(batch,) losses with the teacher's share.

        Args:
            task: Compares.
            logits: As for `Task.loss`.
            targets: As for `Task.loss`.
            indices: (batch,) training rows.
            true: (batch,) losses of the true answers.
        """
        if self.teacher is None:
            return true
        said = task.laid_out([self.teacher[index] for index in indices], targets).to(logits.device)
        taught = task.soft_loss(logits, said, temperature=self.temperature)
        return (1 - self.mix) * true + self.mix * taught


def counts(
    lessons: Sequence[Lesson | None], rows: int, device: torch.device, dtype: torch.dtype
) -> torch.Tensor | None:
    """(trials, rows) what each training row counts in each trial's loss; None where all count 1."""
    if all(lesson is None or lesson.weights is None for lesson in lessons):
        return None
    table = np.ones((len(lessons), rows))
    for row, lesson in zip(table, lessons, strict=True):
        if lesson is not None and lesson.weights is not None:
            row[:] = lesson.weights
    return torch.from_numpy(table).to(device, dtype)
