"""`Pool`: what several networks say of the same rows as one array, in which weighted means are sums.

Only selection needs this speed. What is shipped is formed by `Combination.outputs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from luthier.ensemble.base import Outputs
from luthier.tasks.base import Task

TINY = 1e-30


class Pool:
    """Outputs of some networks, as probabilities where the task has them and as numbers where not.

    Args:
        task: The fitted task.
        outputs: Each network's outputs on the same n examples.
        targets: The n true answers.

    Attributes:
        values: (networks, rows, outputs) float32; a row is an example, or for tagging a word.
        read: (networks, rows) 1 where a network has an answer, since texts may be cut at different lengths.
    """

    def __init__(self, task: Task, outputs: Sequence[Outputs], targets: Sequence[np.ndarray]) -> None:
        self.task = task
        self.targets = targets
        self._lengths: np.ndarray | None = None
        if task.level == "token":
            sizes = np.array([[len(output) for output in part] for part in outputs])
            self._lengths = sizes.max(axis=0)
            table = np.stack([padded(part, self._lengths) for part in outputs])
            self.read = np.stack([reads(own, self._lengths) for own in sizes])
        else:
            table = np.stack([np.asarray(part, dtype=np.float32) for part in outputs])
            self.read = np.ones(table.shape[:2], dtype=np.float32)
        self.values = np.asarray(self._chances(table) * self.read[..., None], dtype=np.float32)
        first = np.asarray(targets[0]).shape if len(targets) else ()
        same = task.level == "example" and all(np.shape(target) == first for target in targets)
        # Said once as an array, they need not be gathered again for each of thousands of means.
        self._answers: Sequence[np.ndarray] = np.asarray(targets) if same else targets  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.values)

    def outputs(self, values: np.ndarray, read: np.ndarray) -> Sequence[np.ndarray]:
        """n outputs as a task judges them, from weighted sums of `values` and of `read`."""
        mean = values / np.maximum(read, TINY)[:, None]
        kind = self.task.target_kind
        if kind != "number":
            logs = np.log(np.maximum(mean, TINY))
            mean = logs - np.log(np.maximum(1 - mean, TINY)) if kind == "multi" else logs
        if self._lengths is None:
            rows: Sequence[np.ndarray] = mean
            return rows
        return np.split(mean, np.cumsum(self._lengths)[:-1])

    def score(self, values: np.ndarray, read: np.ndarray, counts: np.ndarray | None) -> float:
        """The objective of a weighted sum, higher is better; what has none is worst.

        Args:
            values: (rows, outputs).
            read: (rows,).
            counts: (n,) how often each example counts; None for once each.
        """
        statistics = self.task.score_statistics(self.outputs(values, read), self._answers)
        total = statistics.sum(axis=0) if counts is None else counts @ statistics
        score = float(self.task.scores(total[None])[0])
        return score if np.isfinite(score) else -np.inf

    def loss(self, values: np.ndarray, read: np.ndarray, counts: np.ndarray | None) -> float:
        """The mean loss of a weighted sum, over the examples that have one; arguments as for `score`."""
        losses = self.task.example_losses(self.outputs(values, read), self._answers)
        known = np.isfinite(losses)
        weights = known.astype(float) if counts is None else counts * known
        return float(np.where(known, losses, 0.0) @ weights / max(weights.sum(), TINY))

    def _chances(self, table: np.ndarray) -> np.ndarray:
        kind = self.task.target_kind
        if kind == "number":
            return table
        return np.asarray(expit(table) if kind == "multi" else softmax(table, axis=-1))


def padded(outputs: Outputs, lengths: np.ndarray, dtype: type[np.floating[Any]] = np.float32) -> np.ndarray:
    """Words of all examples one after the other, (rows, outputs), zero where a network has none."""
    width = next((output.shape[1] for output in outputs if output.ndim == 2), 0)
    table = np.zeros((int(lengths.sum()), width), dtype=dtype)
    for start, output in zip(np.cumsum(lengths) - lengths, outputs, strict=True):
        table[start : start + len(output)] = output
    return table


def reads(own: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """(rows,) 1 for the words that one network has an answer for."""
    parts = [np.arange(length) < kept for kept, length in zip(own, lengths, strict=True)]
    return np.concatenate(parts).astype(np.float32) if parts else np.empty(0, dtype=np.float32)
