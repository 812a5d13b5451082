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
        said = task.laid_out([self.teacher[index] for index in indices], targets)
        said = said.to(logits.dtype).to(logits.device)
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


class Teachers:
    """The teachers of heads that train together on vectors at hand; a trial without one has a mix of 0.

    Args:
        lessons: The trials'.
        rows: Training rows.
        outputs: Size of the logits.
        like: Gives device and type.
    """

    def __init__(self, lessons: Sequence[Lesson | None], rows: int, outputs: int, like: torch.Tensor) -> None:
        self._said = like.new_zeros(len(lessons), rows, outputs)
        self._mix = like.new_zeros(len(lessons), 1)
        self._temperature = like.new_ones(len(lessons), 1, 1)
        self._trials = torch.arange(len(lessons), device=like.device).unsqueeze(1)
        for trial, lesson in enumerate(lessons):
            if lesson is not None and lesson.teacher is not None:
                self._said[trial] = torch.from_numpy(np.stack(lesson.teacher)).to(like)
                self._mix[trial], self._temperature[trial] = lesson.mix, lesson.temperature

    def said(self, indices: torch.Tensor) -> torch.Tensor:
        """(trials, batch, outputs) what the teachers say of (trials, batch) rows."""
        return self._said[self._trials, indices]

    def join(
        self, task: Task, logits: torch.Tensor, said: torch.Tensor, losses: torch.Tensor, slopes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`Task.gradient`'s (trials, batch) losses and slopes, with the teachers' share."""
        taught, toward = task.soft_gradient(logits, said, self._temperature)
        own, mix = (1 - self._mix).unsqueeze(-1), self._mix.unsqueeze(-1)
        return (1 - self._mix) * losses + self._mix * taught, own * slopes + mix * toward


def teachers(
    lessons: Sequence[Lesson | None], rows: int, outputs: int, like: torch.Tensor
) -> Teachers | None:
    """The trials' teachers; None where none has one. Arguments as for `Teachers`."""
    if all(lesson is None or lesson.teacher is None for lesson in lessons):
        return None
    return Teachers(lessons, rows, outputs, like)
