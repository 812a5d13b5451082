"""Test rows that training has seen, and what is left of the metric without them.

How equal and nearly equal inputs are found lives in `luthier.data.leaks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from luthier.evaluate.intervals import UNKNOWN, Interval, metric_intervals
from luthier.evaluate.plain import Plain
from luthier.tasks.base import Task


@dataclass
class Leaked(Plain):
    """What test rows that also stand in the training rows do to the result.

    Attributes:
        rows: Test rows that stand, or nearly stand, in the training rows.
        value: The optimised metric without them.
        interval: 95% (low, high) of it.
        n: Rows that are left to judge by.
    """

    rows: int
    value: float
    interval: Interval = UNKNOWN
    n: int = 0


def without(
    task: Task,
    outputs: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    leaked: np.ndarray,
    *,
    groups: Any | None = None,
    seed: int = 0,
) -> Leaked | None:
    """The metric on the rows that training has not seen.

    Args:
        task: The fitted task.
        outputs: n arrays.
        targets: n arrays.
        leaked: (n,) bool, whether training has seen a row.
        groups: (n,) keys where rows of a group are not independent.
        seed: Seed of the bootstrap.

    Returns:
        None where there are no such rows.
    """
    if not leaked.any():
        return None
    statistics = task.statistics(outputs, targets)[~leaked]
    keys = None if groups is None else np.asarray(groups)[~leaked]
    left = int(statistics.any(axis=1).sum())
    if not left:
        return Leaked(int(leaked.sum()), float("nan"))
    intervals = metric_intervals(statistics, task.summarise, groups=keys, seed=seed)
    value = float(task.summarise(statistics.sum(axis=0))[task.metric])
    return Leaked(int(leaked.sum()), value, intervals.get(task.metric, UNKNOWN), left)
