"""What a task's conformance is checked on: the task, a small data set, and answers that are right, wrong or
noisy. The checks themselves are in `conformance`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from luthier.tasks.base import Columns, Examples, Modality, Task
from luthier.tasks.columns import Hints

Outputs = list[np.ndarray]


@dataclass
class Case:
    """A task and a small data set for it, on which the checks run.

    Attributes:
        task: The class.
        train: A dozen rows or more; every label in it.
        test: Five rows or more, with at least two different answers.
        processor: Encodes the task's inputs.
        modality: As in `Task.claim`.
        hints: Roles to fix, where the columns cannot be inferred.
        root: Folder of the frames' file names.
        answer: Maps (task, targets) to outputs that are surely right; by default `right_answers`.
    """

    task: type[Task]
    train: pd.DataFrame
    test: pd.DataFrame
    processor: Any
    modality: Modality = "text"
    hints: Hints = field(default_factory=dict)
    root: str = "."
    answer: Callable[[Task, Sequence[np.ndarray]], Outputs] | None = None

    def fitted(self) -> Task:
        """The task, fitted to the training rows with the columns it claims."""
        columns = self.task.claim(self.train, self.modality, self.hints)
        require(columns is not None, "the task does not claim its own data")
        task = self.task(columns or Columns({}))
        task.fit(self.train)
        return task

    def encoded(self, task: Task, frame: pd.DataFrame | None = None) -> Examples:
        """Rows (those of the test split unless given), encoded."""
        return task.encode(self.test if frame is None else frame, self.processor, root=self.root)

    def bare(self, task: Task) -> pd.DataFrame:
        """The rows of the test split without their answers."""
        target = task.columns.roles["target"]
        return self.test.drop(columns=[target] if isinstance(target, str) else list(target))

    def right(self, task: Task, targets: Sequence[np.ndarray]) -> Outputs:
        """Outputs that are surely right."""
        return (self.answer or right_answers)(task, targets)

    def wrong(self, task: Task, targets: Sequence[np.ndarray]) -> Outputs:
        """The opposite of what is right."""
        return [-output for output in self.right(task, targets)]


def right_answers(task: Task, targets: Sequence[np.ndarray], sure: float = 12.0) -> Outputs:
    """Outputs that are surely right for the targets of classes, tags, 0/1 vectors or single values."""
    found = []
    for target in map(np.asarray, targets):
        if target.dtype.kind == "f":
            vector = target[: task.num_outputs] if target.ndim else target[None]
            found.append((sure * (2 * vector - 1) if target.ndim else vector).astype(np.float32))
        else:
            hot = np.zeros((*target.shape, task.num_outputs), dtype=np.float32)
            np.put_along_axis(hot, np.maximum(target, 0)[..., None].astype(np.int64), sure, axis=-1)
            found.append(hot)
    return found


def noisy(outputs: Outputs, seed: int) -> Outputs:
    """Outputs with so much noise that some answers change."""
    rng = np.random.default_rng(seed)
    return [(o + rng.normal(0, 8, o.shape)).astype(np.float32) for o in outputs]


def require(condition: bool, message: str) -> None:
    """Raises AssertionError with the message unless the condition holds, also under ``python -O``."""
    if not condition:
        raise AssertionError(message)
