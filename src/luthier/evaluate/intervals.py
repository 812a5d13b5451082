"""Bootstrap intervals from a task's per-example statistics: of one model's metrics, and of the difference of
two models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
FEW = 10
"""Fewer rights or wrongs than this, and a proportion's bootstrap interval is too narrow: Wilson's takes its
place."""
_Z = 1.959963984540054  # normal quantile at (1 + LEVEL) / 2
_CELLS = 2_000_000  # weights held at once: 16 MB of float64, whatever the number of examples

Interval = tuple[float, float]
Summarise = Callable[[np.ndarray], dict[str, float]]
UNKNOWN: Interval = (float("nan"), float("nan"))


def group_sums(statistics: np.ndarray, groups: Any | None) -> np.ndarray:
    """Sums statistics within groups, which makes the groups the units that a bootstrap draws.

    Args:
        statistics: (n, k).
        groups: (n,) keys of any hashable kind, or None where each example stands alone.

    Returns:
        (units, k).
    """
    statistics = np.asarray(statistics, dtype=np.float64)
    if groups is None:
        return statistics
    codes = unit_codes(len(statistics), groups)
    sums = np.zeros((int(codes.max(initial=-1)) + 1, statistics.shape[1]))
    np.add.at(sums, codes, statistics)
    return sums


def unit_codes(rows: int, groups: Any | None) -> np.ndarray:
    """(rows,) the unit that each row belongs to, numbered from 0: its group's, or its own."""
    if groups is None:
        return np.arange(rows)
    return np.unique(np.asarray(groups).astype(str), return_inverse=True)[1].reshape(-1)


def resampled_totals(statistics: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Totals of bootstrap resamples: multinomial weights times statistics (Efron 1979).

    The weights are made and used in chunks, so memory does not grow with ``resamples``.

    Args:
        statistics: (units, k).
        resamples: How many times ``units`` units are drawn with replacement.
        seed: Seed of the draws.

    Returns:
        (resamples, k) float64.
    """
    units, width = statistics.shape
    rng = np.random.default_rng(seed)
    totals = np.empty((resamples, width))
    rows = max(1, _CELLS // max(units, 1))
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = rng.integers(0, units, size=(size, units))
        drawn += np.arange(size)[:, None] * units
        weights = np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units)
        totals[start : start + size] = weights.astype(np.float64) @ statistics
    return totals


def wilson(successes: float, n: float) -> Interval:
    """Wilson's score interval (1927) of a proportion at 95%; sensible also where all or none of ``n``
    succeeded."""
    share = successes / n
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    low = 0.0 if successes == 0 else max(0.0, float(centre - half))
    return low, 1.0 if successes == n else min(1.0, float(centre + half))


def metric_intervals(
    statistics: np.ndarray,
    summarise: Summarise,
    *,
    groups: Any | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """95% intervals of every metric by the percentile bootstrap.

    Two cases are taken from it, because there the percentile interval is too narrow or has no width at all.
    Where a metric is a plain proportion (each unit counts 0 or 1) and fewer than ten are right or wrong,
    Wilson's interval is given. Where every resample gives exactly 1 (an F1 of a model that made no error),
    the lower end is that of a proportion of as many successes as there are units.

    Args:
        statistics: (n, k) per-example statistics.
        summarise: Metrics by name from summed statistics (k,).
        groups: (n,) keys; whole groups are then drawn, since examples of one group are not independent.
        resamples: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        (low, high) by metric name; NaN where fewer than two units are there or most resamples have no value.
    """
    names = list(summarise(statistics.sum(axis=0)))
    units = group_sums(statistics, groups)
    if len(units) < 2:
        return dict.fromkeys(names, UNKNOWN)
    values = _summarise_all(resampled_totals(units, resamples=resamples, seed=seed), summarise, names)
    intervals = {}
    for column, name in enumerate(names):
        intervals[name] = _near_the_edge(units, values[:, column], name, summarise) or _percentiles(
            values[:, column]
        )
    return intervals


def score_interval(
    statistics: np.ndarray,
    scores: Callable[[np.ndarray], np.ndarray],
    *,
    groups: Any | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The 95% interval of one score, as `metric_intervals` gives it; quicker where scores come many at once.

    Args:
        statistics: (n, j) per-example statistics.
        scores: Scores from summed statistics: (..., j) to (...).
        groups: As in `metric_intervals`.
        resamples: Number of resamples.
        seed: Seed of the resampling.
    """
    units = group_sums(statistics, groups)
    if len(units) < 2:
        return UNKNOWN
    kinds, counts = np.unique(units, axis=0, return_counts=True)
    if len(kinds) * 4 <= len(units):
        # Equal units are drawn as so many of one kind: the same draws, and far fewer numbers.
        drawn = np.random.default_rng(seed).multinomial(len(units), counts / len(units), size=resamples)
        values = scores(drawn @ kinds)
    else:
        values = scores(resampled_totals(units, resamples=resamples, seed=seed))

    def summarise(totals: np.ndarray) -> dict[str, float]:
        return {"score": float(scores(totals[None])[0])}

    return _near_the_edge(units, values, "score", summarise) or _percentiles(values)


def paired_difference(
    first: np.ndarray,
    second: np.ndarray,
    value: Callable[[np.ndarray], float],
    *,
    groups: Any | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, Interval]:
    """How much better the first of two models is than the second on the same examples.

    Both are judged on the same resamples, so that what makes an example hard for both cancels out.

    Args:
        first: (n, k) statistics of one model.
        second: (n, k) statistics of the other on the same examples, in the same order.
        value: The score from summed statistics (k,).
        groups: As in `metric_intervals`.
        resamples: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        The difference and its 95% percentile interval.
    """
    difference = value(first.sum(axis=0)) - value(second.sum(axis=0))
    units = group_sums(np.hstack([first, second]), groups)
    if len(units) < 2:
        return difference, UNKNOWN
    totals = resampled_totals(units, resamples=resamples, seed=seed)
    width = first.shape[1]
    values = np.array([value(row[:width]) - value(row[width:]) for row in totals])
    return difference, _percentiles(values)


def _summarise_all(totals: np.ndarray, summarise: Summarise, names: list[str]) -> np.ndarray:
    """(resamples, metrics) values."""
    values = np.full((len(totals), len(names)), np.nan)
    for row, total in enumerate(totals):
        summary = summarise(total)
        values[row] = [summary.get(name, np.nan) for name in names]
    return values


def _percentiles(values: np.ndarray) -> Interval:
    """The middle 95% of resampled values."""
    known = values[np.isfinite(values)]
    if len(known) * 2 < len(values):
        return UNKNOWN
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)


def _near_the_edge(units: np.ndarray, values: np.ndarray, name: str, summarise: Summarise) -> Interval | None:
    """Wilson's interval where the percentile bootstrap breaks down, otherwise None."""
    n = len(units)
    if np.all(values == 1.0):
        return wilson(n, n)
    estimate = summarise(units.sum(axis=0))[name]
    if not min(estimate, 1 - estimate) * n < FEW or not 0 <= estimate <= 1:
        return None
    alone = _summarise_all(units, summarise, list(summarise(units[0])))
    singles = alone[:, list(summarise(units[0])).index(name)]
    is_proportion = bool(np.all((singles == 0) | (singles == 1))) and abs(singles.mean() - estimate) < 1e-9
    return wilson(float(singles.sum()), n) if is_proportion else None
