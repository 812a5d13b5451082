"""What choosing the best of many trials on the same rows does to its score there, from what the trials said
of these rows. Which trials are held against each other, and what is trained for it, is decided elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from luthier.evaluate.intervals import LEVEL, UNKNOWN, Interval, group_sums
from luthier.evaluate.plain import Plain

RESAMPLES = 1000
# Share of units that a resample leaves out, over the share that it draws.
_SHRINK = math.sqrt(math.exp(-1) / (1 - math.exp(-1)))
_CELLS = 4_000_000  # numbers held at once beside the statistics: 32 MB of float64

Scores = Callable[[np.ndarray], np.ndarray]
"""Scores, higher is better, from summed statistics: (..., j) to (...)."""


@dataclass
class Selection(Plain):
    """What is known of the chosen model from the rows that it was chosen on, in the metric's own values.

    Attributes:
        validation: Its value there: flattered, since it was the best of many.
        expected: What is to be expected of it on further rows, corrected for the choice; NaN where that
            cannot be said.
        interval: 95% (low, high) of it.
        trials: Trials that the correction is made from.
        left_out: Trials with a score that it is not made from, because their outputs are not kept.
        groups: Groups that were resampled, or None where rows were.
    """

    validation: float
    expected: float = math.nan
    interval: Interval = UNKNOWN
    trials: int = 0
    left_out: int = 0
    groups: int | None = None


def corrected(
    statistics: np.ndarray, scores: Scores, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, Interval]:
    """The score that is to be expected of the best of many trials, by bootstrap bias correction.

    Algorithm 1 of Tsamardinos, Greasidou & Borboudakis 2018 (BBC-CV), on one validation split instead of
    pooled folds: units are drawn with replacement, the trial that is best on those drawn is scored on those
    that were not, and the mean over resamples is the estimate. No trial is trained for it. Their
    interval is that of the percentiles (section 3.3), which is too wide: the units left out are about 37% of
    all. Here deviations from the mean are drawn in as those of a delete-d jackknife are (Shao & Wu 1989,
    eq. 2.4), by the square root of the units kept over those deleted.

    Args:
        statistics: (units, trials, j): each trial's `Task.score_statistics` of the same rows, summed within
            groups where rows of a group are not independent.
        scores: As `Task.scores`.
        resamples: How many times the units are drawn.
        seed: Seed of the draws.

    Returns:
        The expected score and its 95% interval; NaN where there are fewer than two units.
    """
    units, trials, width = statistics.shape
    if units < 2 or not trials:
        return math.nan, UNKNOWN
    flat = np.ascontiguousarray(statistics, dtype=np.float64).reshape(units, trials * width)
    found = np.full(resamples, np.nan)
    for rows, counts in _draws(units, trials * width, resamples, seed):
        judged = scores((counts @ flat).reshape(-1, trials, width))
        # What has no score on the units drawn is not chosen.
        best = np.argmax(np.where(np.isnan(judged), -np.inf, judged), axis=1)
        left = (counts == 0).astype(np.float64)
        for trial in np.unique(best):
            chose = best == trial
            found[rows][chose] = scores(left[chose] @ flat[:, trial * width : (trial + 1) * width])
    known = found[np.isfinite(found)]
    if 2 * len(known) < resamples:
        return math.nan, UNKNOWN
    tail = (1 - LEVEL) / 2
    mean = float(known.mean())
    low, high = mean + _SHRINK * (np.quantile(known, [tail, 1 - tail]) - mean)
    return mean, (float(low), float(high))


def errors_of_differences(
    statistics: np.ndarray, scores: Scores, best: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """Standard errors of how much better one trial scores than each of the others on the same rows.

    All are judged on the same resamples, so that what makes a row hard for both cancels out.

    Args:
        statistics: As for `corrected`.
        scores: As for `corrected`.
        best: The trial that the others are held against.
        resamples: How many times the units are drawn.
        seed: Seed of the draws.

    Returns:
        (trials,), 0 for ``best`` itself; NaN where there are fewer than two units.
    """
    units, trials, width = statistics.shape
    if units < 2:
        return np.full(trials, np.nan)
    flat = np.ascontiguousarray(statistics, dtype=np.float64).reshape(units, trials * width)
    differences = np.empty((resamples, trials))
    for rows, counts in _draws(units, trials * width, resamples, seed):
        judged = scores((counts @ flat).reshape(-1, trials, width))
        differences[rows] = judged[:, [best]] - judged
    known = np.isfinite(differences).all(axis=1)
    return differences[known].std(axis=0) if 2 * known.sum() >= resamples else np.full(trials, np.nan)


def stacked(tables: list[np.ndarray], groups: Any | None = None) -> np.ndarray:
    """(units, trials, j) from each trial's (n, j) statistics; units are groups where there are any.

    Args:
        tables: One a trial, of the same rows.
        groups: (n,) keys, or None where each row stands alone.
    """
    return np.stack([group_sums(table, groups) for table in tables], axis=1)


def _draws(units: int, width: int, resamples: int, seed: int) -> Any:
    """Multinomial counts of units, (some, units) at a time, with the places of these resamples."""
    rng = np.random.default_rng(seed)
    rows = max(1, min(resamples, _CELLS // max(units, width)))
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = rng.integers(0, units, size=(size, units))
        drawn += np.arange(size)[:, None] * units
        counts = np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units)
        yield slice(start, start + size), counts.astype(np.float64)
