"""How far the best of many is flattered, and what the correction leaves of that: simulated studies.

In each study every trial has an accuracy of its own, which is known, and the trials answer the same rows, of
which some are hard for all. The winner's own score and the corrected one are held against the winner's true
accuracy, and so is the interval. Nothing is trained.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from luthier.evaluate.selection import corrected
from luthier.tasks.classification import ratios

STUDIES = int(os.environ.get("STUDIES", "400"))
ROWS = (100, 300, 1000)
TRIALS = (1, 10, 50, 200)
# True accuracies: most trials of a search are near its best one, some far behind.
BEST, SPREAD = 0.90, 0.02
# Correlation of what makes a row hard for one trial and for another.
COMMON = 0.6
RESAMPLES = 500


@dataclass(frozen=True)
class Study:
    """What came of one study.

    Attributes:
        truth: The winner's true accuracy.
        naive: Its accuracy on the rows that it was chosen on.
        expected: The corrected one.
        low: Lower end of the interval.
        high: Upper end.
    """

    truth: float
    naive: float
    expected: float
    low: float
    high: float


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
    return Study(float(true[best]), float(scores[best]), expected, low, high)


def line(trials: int, rows: int) -> str:
    """One setting: biases with their standard errors, how often the interval holds the truth, its width."""
    studies = [one_study(seed, trials=trials, rows=rows) for seed in range(STUDIES)]
    naive, rest = (
        np.array([getattr(one, name) - one.truth for one in studies]) for name in ("naive", "expected")
    )
    error = math.sqrt(STUDIES)
    covers = np.mean([one.low <= one.truth <= one.high for one in studies])
    width = np.mean([one.high - one.low for one in studies])
    return (
        f"{trials:6} {rows:6}  {naive.mean():+.4f} ± {naive.std() / error:.4f}  "
        f"{rest.mean():+.4f} ± {rest.std() / error:.4f}  {covers:6.3f}  {width:.3f}"
    )


def main() -> None:
    """Prints a line for each number of rows and of trials."""
    print(f"{STUDIES} studies a line; a 95% interval, and how often it holds the winner's true accuracy")
    print("trials   rows       naive bias         corrected bias    covers  width")
    for rows in ROWS:
        for trials in TRIALS:
            print(line(trials, rows), flush=True)


if __name__ == "__main__":
    main()
