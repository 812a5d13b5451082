"""What a fine-tuned model must beat, all in one form: the majority, a classical learner, and models trained
elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from luthier.evaluate.intervals import (
    UNKNOWN,
    Interval,
    metric_intervals,
    paired_difference,
)
from luthier.evaluate.plain import Plain
from luthier.tasks.base import Task


@dataclass
class Baseline(Plain):
    """One baseline on the held-out split.

    Attributes:
        name: What it is, for people, e.g. "TF-IDF + logistic regression".
        metrics: All metrics by name, the optimised one first.
        interval: 95% interval of the optimised metric.
        seconds: What training and applying it took.
        note: What a reader should know, e.g. "3 of 5 epochs in the time given".
        difference: How much better the chosen model is on the optimised metric (positive: the chosen one is
            better, also where less of the metric is better); None where no chosen model was given.
        difference_interval: Its paired 95% interval, or None.
        kind: What `Settings.baselines` calls it.
        p: Of McNemar's exact test that both are right equally often; None where answers are not right or
            wrong one an example, where examples are not independent, and where no chosen model was given.
    """

    name: str
    metrics: dict[str, float]
    interval: Interval
    seconds: float
    note: str = ""
    difference: float | None = None
    difference_interval: Interval | None = None
    kind: str = ""
    p: float | None = None


def from_outputs(
    name: str,
    task: Task,
    outputs: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    seconds: float,
    note: str = "",
    *,
    kind: str = "",
    chosen: Sequence[np.ndarray] | None = None,
    groups: Any | None = None,
    seed: int = 0,
) -> Baseline:
    """A baseline from its outputs, however they came about.

    Args:
        name: What it is, for people.
        task: The fitted task.
        outputs: n arrays on the held-out split.
        targets: n arrays, the true answers.
        seconds: What training and applying it took.
        note: What a reader should know.
        kind: What `Settings.baselines` calls it.
        chosen: The chosen model's n outputs on the same examples, for the paired difference.
        groups: (n,) keys for a grouped bootstrap.
        seed: Seed of the bootstrap.
    """
    statistics = task.statistics(outputs, targets)
    intervals = metric_intervals(statistics, task.summarise, groups=groups, seed=seed)
    baseline = Baseline(
        name=name,
        metrics={key: float(value) for key, value in task.summarise(statistics.sum(axis=0)).items()},
        interval=intervals.get(task.metric, UNKNOWN),
        seconds=float(seconds),
        note=note,
        kind=kind,
    )
    if chosen is not None:
        if groups is None:
            baseline.p = mcnemar(task, chosen, outputs, targets)
        baseline.difference, baseline.difference_interval = paired_difference(
            task.statistics(chosen, targets),
            statistics,
            lambda totals: task.score(task.summarise(totals)),
            groups=groups,
            seed=seed,
        )
    return baseline


def mcnemar(
    task: Task,
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
) -> float | None:
    """The two-sided p value of two models being right equally often on the same examples.

    McNemar's test (1947) in its exact form: of the examples that one of them alone gets right, each does so
    of half.

    Args:
        task: The fitted task.
        first: n outputs of one model.
        second: n outputs of the other.
        targets: n arrays.

    Returns:
        In (0, 1]; None where answers are not right or wrong, one an example.
    """
    from scipy.stats import binomtest

    if task.target_kind != "class":  # Several answers of an example are not independent.
        return None
    one, other = task.decisions(first, targets), task.decisions(second, targets)
    if one is None or other is None:
        return None
    wins, losses = int((one.right & ~other.right).sum()), int((other.right & ~one.right).sum())
    return 1.0 if wins + losses == 0 else float(binomtest(wins, wins + losses, 0.5).pvalue)


def majority(
    task: Task,
    train_targets: Sequence[np.ndarray],
    test_targets: Sequence[np.ndarray],
    *,
    chosen: Sequence[np.ndarray] | None = None,
    groups: Any | None = None,
    seed: int = 0,
) -> Baseline:
    """Always the most frequent answer, or the mean (see `from_outputs` for the arguments)."""
    started = time.perf_counter()
    outputs = task.majority(train_targets, test_targets)
    seconds = time.perf_counter() - started
    name = "Always the mean" if task.label_names == ["value"] else "Always the most frequent answer"
    return from_outputs(
        name, task, outputs, test_targets, seconds, kind="majority", chosen=chosen, groups=groups, seed=seed
    )


def classical(
    task: Task,
    train_frame: pd.DataFrame,
    test_frame: pd.DataFrame,
    *,
    chosen: Sequence[np.ndarray] | None = None,
    groups: Any | None = None,
    seed: int = 0,
    root: str = ".",
) -> Baseline | None:
    """A learner without a pre-trained model, or None where the task has none (see `from_outputs` for the
    arguments).

    Args:
        root: Folder that relative file names in the frames are resolved against.
    """
    started = time.perf_counter()
    made = task.classical(train_frame, test_frame, seed=seed, root=root)
    seconds = time.perf_counter() - started
    if made is None:
        return None
    name, outputs = made
    targets = task.targets(test_frame)
    return from_outputs(
        name, task, outputs, targets, seconds, kind="classical", chosen=chosen, groups=groups, seed=seed
    )
