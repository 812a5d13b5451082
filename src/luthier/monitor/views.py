"""What monitoring reads off outputs: answered classes, numbers to compare, and how sure each decision is.

It knows the four kinds of targets and no task; nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from luthier.monitor.judgement import Kind

EDGE = 1e-6
"""Confidences are kept this far from 0 and 1: beyond it float32 says nothing."""


@dataclass(frozen=True)
class View:
    """Outputs as monitoring looks at them.

    Attributes:
        answered: (n,) the class of each answer; None where a row has no one class.
        scores: (n, k) numbers of each row: probabilities of classes or labels, of tags their mean over the
            words, or values.
        names: Of the k columns.
        confidence: (d,) the probability given to each decision; empty for numbers.
        example: (d,) the row that each decision belongs to.
    """

    answered: np.ndarray | None
    scores: np.ndarray
    names: tuple[str, ...]
    confidence: np.ndarray
    example: np.ndarray

    @property
    def sureness(self) -> np.ndarray:
        """(n,) the mean confidence of each row; NaN where it has no decision."""
        return row_means(self.confidence, self.example, len(self.scores))


def finite(outputs: Any) -> np.ndarray:
    """(n,) bool, whether all numbers of an output are finite; one of no words is."""
    if isinstance(outputs, np.ndarray) and outputs.ndim == 2:
        return np.asarray(np.isfinite(outputs).all(axis=1))
    return np.array([bool(np.isfinite(output).all()) for output in outputs], dtype=bool)


def row_means(values: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """(count,) means of the values of each row; NaN for a row that has none."""
    held = np.bincount(rows, minlength=count)
    sums = np.bincount(rows, values, minlength=count)
    return np.asarray(np.where(held > 0, sums / np.maximum(held, 1), np.nan))


def view(kind: Kind, classes: Sequence[str], outputs: Any) -> View:
    """Reads outputs.

    Args:
        kind: The task's `target_kind`.
        classes: Names of the outputs.
        outputs: n arrays as `Task.outputs` cuts them, of finite numbers; n may be 0.

    Returns:
        The view. Two classes have one column of scores, since the other says the same.
    """
    names, none = tuple(classes), np.empty(0)
    if kind == "tags":
        return _words(names, outputs)
    table = np.asarray(outputs, dtype=np.float64).reshape(-1, len(names))
    rows = np.arange(len(table))
    if kind == "number":
        return View(None, table, names, none, np.empty(0, dtype=np.int64))
    if kind == "multi":
        shares = 1 / (1 + np.exp(-np.clip(table, -60, 60)))
        sure = np.maximum(shares, 1 - shares).ravel()
        return View(None, shares, names, sure, np.repeat(rows, len(names)))
    shares = _softmax(table)
    answered = shares.argmax(axis=1)
    kept = slice(1, None) if len(names) == 2 else slice(None)
    return View(answered, shares[:, kept], names[kept], shares.max(axis=1, initial=0), rows)


def _words(names: tuple[str, ...], outputs: Sequence[np.ndarray]) -> View:
    """Of tags: rows are texts, decisions are words."""
    counts = np.array([len(output) for output in outputs], dtype=np.int64)
    words = [np.asarray(output, dtype=np.float64).reshape(-1, len(names)) for output in outputs]
    shares = _softmax(np.concatenate([np.empty((0, len(names))), *words]))
    rows = np.repeat(np.arange(len(counts)), counts)
    scores = np.stack([row_means(column, rows, len(counts)) for column in shares.T], axis=1)
    return View(None, scores, names, shares.max(axis=1, initial=0), rows)


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
