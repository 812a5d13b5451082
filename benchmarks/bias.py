"""How far the best of many is flattered, what the correction leaves of that, and how often the intervals hold
the truth: simulated studies, in which nothing is trained.

In each study every trial has an accuracy of its own, which is known, and the trials answer the same rows, of
which some are hard for all. The trial that is best on validation rows is the winner. What is said of it is
held against its true accuracy: its own score there, the corrected one with its interval, and the interval
that the test rows give. STUDIES makes a line smaller, to see that it works; nothing is recorded then.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

import table
from luthier.evaluate.intervals import metric_intervals
from luthier.evaluate.selection import corrected
from luthier.tasks.classification import ratios

LIMITED = bool(os.environ.get("STUDIES"))
STUDIES = int(os.environ.get("STUDIES", "300"))
ROWS = (100, 300, 1000)
TRIALS = (1, 10, 50, 200)
# True accuracies: most trials of a search are near its best one, some far behind.
BEST, SPREAD = 0.90, 0.02
# Correlation of what makes a row hard for one trial and for another.
COMMON = 0.6
RESAMPLES = 500
# What the share of intervals that hold the truth should be, over all lines together.
HOLDS = (0.93, 0.97)


@dataclass(frozen=True)
class Study:
    """What came of one study.

    Attributes:
        truth: The winner's true accuracy.
        naive: Its accuracy on the rows that it was chosen on.
        expected: The corrected one.
        low: Lower end of the interval of that.
        high: Upper end.
        test: The interval from as many test rows.
    """

    truth: float
    naive: float
    expected: float
    low: float
    high: float
    test: tuple[float, float]


def accuracy(totals: np.ndarray) -> np.ndarray:
    return ratios(totals[..., 1], totals[..., 0])


def one_study(seed: int, *, trials: int, rows: int) -> Study:
    """Draws accuracies and answers, chooses the best trial, and estimates what it is worth.

    A trial is right on a row where a normal variable is below the quantile of its accuracy; the variable is
    partly the row's, partly the trial's own (a Gaussian copula).
    """
    rng = np.random.default_rng([seed, trials, rows])
    true = np.clip(BEST - SPREAD * rng.exponential(size=trials), 0.5, 1.0)
    hard = math.sqrt(COMMON) * rng.normal(size=(rows, 1))
    right = hard + math.sqrt(1 - COMMON) * rng.normal(size=(rows, trials)) < norm.ppf(true)
    scores = right.mean(axis=0)
    best = int(np.argmax(scores))
    statistics = np.stack([np.ones(right.shape), right], axis=-1)
    expected, (low, high) = corrected(statistics, accuracy, resamples=RESAMPLES, seed=seed)
    unseen = np.stack([np.ones(rows), rng.random(rows) < true[best]], axis=-1)
    test = metric_intervals(unseen, lambda totals: {"accuracy": float(accuracy(totals))}, seed=seed)
    return Study(float(true[best]), float(scores[best]), expected, low, high, test["accuracy"])


def measure(trials: int, rows: int) -> dict[str, Any]:
    """One setting: biases with their standard errors, and how often each interval holds the truth."""
    studies = [one_study(seed, trials=trials, rows=rows) for seed in range(STUDIES)]
    naive, rest = (
        np.array([getattr(one, name) - one.truth for one in studies]) for name in ("naive", "expected")
    )
    error = math.sqrt(STUDIES)
    chosen = np.mean([one.low <= one.truth <= one.high for one in studies])
    test = np.mean([one.test[0] <= one.truth <= one.test[1] for one in studies])
    width = np.mean([one.high - one.low for one in studies])
    return table.row(
        f"best of {trials} on {rows} rows", float(rest.mean()), "bias of the corrected accuracy",
        peer=f"{naive.mean():+.4f} ± {naive.std() / error:.4f} uncorrected",
        spread=f"± {rest.std() / error:.4f} over {STUDIES} studies; interval {width:.3f} wide",
    ) | {"holds": {"test": float(test), "corrected": float(chosen)}}  # fmt: skip


def coverage(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How often each interval holds the winner's true accuracy, over all settings."""
    found = []
    low, high = HOLDS
    for kind in ("test", "corrected"):
        shares = [each["holds"][kind] for each in rows]
        mean = float(np.mean(shares))
        found.append(
            table.row(
                f"95% interval: {kind}", mean, "share that hold the truth",
                spread=f"{min(shares):.3f} to {max(shares):.3f} by setting",
                bar=f"{low} to {high}", met=low <= mean <= high,
            )
        )  # fmt: skip
    return found


def main() -> None:
    """Measures each number of rows and of trials."""
    rows = [measure(trials, rows) for rows in ROWS for trials in TRIALS]
    rows += coverage(rows)
    if not LIMITED:
        table.merge("bias", rows)
    table.show(rows)


if __name__ == "__main__":
    main()
