"""Learning curves over data sizes: what fewer rows would have given, and what more of them may bring."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from luthier.evaluate.intervals import UNKNOWN, Interval, group_sums
from luthier.evaluate.linear import linear_head
from luthier.evaluate.plain import Plain
from luthier.tasks.base import Task

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
REPEATS = 6
"""Samples of rows drawn at each size but the whole."""
LEAST = 8
"""Fewer rows than this are no size."""
RESAMPLES = 400
_EXPONENTS = np.array([0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0])
_CELLS = 2**24  # numbers of all heads' statistics together: 128 MB of float64


@dataclass
class SizeCurve(Plain):
    """The metric by the number of training rows.

    Attributes:
        rows: Numbers of rows, ascending.
        values: The metric on validation for each, of a head on the model's frozen features.
        lows: Lower ends of its interval over repeats.
        highs: Upper ends.
        twice: What twice the rows may reach; NaN where that cannot be said.
        interval: 95% (low, high) of that.
        gain: How much better that is than with all rows, positive also where less of the metric is better.
        gain_interval: 95% (low, high) of the gain, which says more than that of ``twice``: both ends of it
            are judged on the same rows.
        seconds: What measuring took.
    """

    rows: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    lows: list[float] = field(default_factory=list)
    highs: list[float] = field(default_factory=list)
    twice: float = float("nan")
    interval: Interval = UNKNOWN
    gain: float = float("nan")
    gain_interval: Interval = UNKNOWN
    seconds: float = 0.0


def size_curve(
    task: Task,
    vectors: np.ndarray,
    wanted: np.ndarray,
    judged: np.ndarray,
    targets: Sequence[np.ndarray],
    *,
    groups: Any | None = None,
    seconds: float = 5.0,
    seed: int = 0,
) -> SizeCurve | None:
    """Trains closed-form heads on samples of the rows, and carries the curve on to twice as many.

    The error is taken to fall as a + b n^-c, with a and b at least 0 (Hestness et al. 2017, eq. 1; Viering &
    Loog 2021, section 4.1); c is the best of a grid, and larger sizes weigh more, since the law holds for
    them. The interval is that of refitted laws over bootstrap draws of validation rows and of repeats.

    Args:
        task: Judges; its score is what the curve shows.
        vectors: (n, width) frozen features of the training rows, as `linear.standard` scales them.
        wanted: (n, outputs) what the head is fitted to, such as one-hot classes.
        judged: (m, width) features of the validation rows.
        targets: m arrays, their true answers.
        groups: (m,) keys where validation rows of one group are not independent, or None.
        seconds: No further repeat is begun after so long.
        seed: Of samples and draws.

    Returns:
        None where there are too few rows for two sizes, or time for no repeat.
    """
    started, count = time.perf_counter(), len(vectors)
    sizes = sorted({round(share * count) for share in SHARES if round(share * count) >= LEAST})
    if len(sizes) < 2 or len(targets) < 2:
        return None
    rng = np.random.default_rng(seed)
    statistics: list[np.ndarray] = []
    owner: list[int] = []
    for repeat in range(REPEATS):
        for size in sizes:
            if size == count and repeat:
                continue
            rows = np.sort(rng.choice(count, size, replace=False))
            head = linear_head(vectors[rows], wanted[rows])
            statistics.append(group_sums(task.score_statistics(list(head(judged)), targets), groups))
            owner.append(size)
        full = (len(statistics) + len(sizes)) * statistics[0].size > _CELLS
        if full or time.perf_counter() - started > seconds:
            break
    curve = _told(task, np.stack(statistics, axis=1), np.array(owner), sizes, rng)
    curve.seconds = time.perf_counter() - started
    return curve


def _told(
    task: Task, statistics: np.ndarray, owner: np.ndarray, sizes: list[int], rng: np.random.Generator
) -> SizeCurve:
    """The curve from (units, heads, j) statistics of heads and the size of each."""
    sign = 1.0 if task.maximize else -1.0
    ceiling = 1.0 if task.maximize else 0.0
    units, heads, width = statistics.shape
    flat = statistics.reshape(units, heads * width)
    scores = task.scores(flat.sum(axis=0).reshape(heads, width))
    drawn = rng.multinomial(units, np.full(units, 1 / units), size=RESAMPLES).astype(np.float64)
    resampled = task.scores((drawn @ flat).reshape(RESAMPLES, heads, width))
    parts = [np.flatnonzero(owner == size) for size in sizes]
    means = np.array([scores[part].mean() for part in parts])
    # Both sources at once: other validation rows, and other samples of training rows.
    picks = [rng.choice(part, size=(RESAMPLES, len(part))) for part in parts]
    spread = np.stack([np.take_along_axis(resampled, pick, axis=1).mean(axis=1) for pick in picks], axis=1)
    each = np.stack([np.take_along_axis(resampled, pick[:, :1], axis=1)[:, 0] for pick in picks], axis=1)
    lows, highs = np.nanquantile(each, [0.025, 0.975], axis=0) if np.isfinite(each).any() else (means, means)
    if sign < 0:
        lows, highs = -highs, -lows
    curve = SizeCurve(sizes, (sign * means).tolist(), lows.tolist(), highs.tolist())
    spread = spread[np.isfinite(spread).all(axis=1)]
    if len(sizes) < 3 or not np.isfinite(means).all() or 2 * len(spread) < RESAMPLES:
        return curve
    errors, rows = ceiling - means, np.array(sizes)
    # No more than all of the error can go, whatever the law says.
    curve.gain = min(float(_gains(rows, errors[None])[0]), max(float(errors[-1]), 0.0))
    gains = np.minimum(_gains(rows, ceiling - spread), np.maximum(ceiling - spread[:, -1], 0.0))
    curve.gain_interval = _ends(gains)
    curve.twice = sign * (means[-1] + curve.gain)
    curve.interval = _ends(sign * (spread[:, -1] + gains))
    return curve


def _gains(sizes: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """How much error twice the rows would take away, by the law that fits best.

    Args:
        sizes: (k,) rows.
        errors: (curves, k).

    Returns:
        (curves,), at least 0.
    """
    share = sizes / sizes[-1]
    weight = share**2
    weight = weight / weight.sum()
    best = np.full(len(errors), math.inf)
    gains = np.zeros(len(errors))
    for exponent in _EXPONENTS:
        x = share**-exponent
        mean_x, mean_e = weight @ x, errors @ weight
        slope = ((errors - mean_e[:, None]) * (weight * (x - mean_x))).sum(axis=1) / (
            weight @ (x - mean_x) ** 2
        )
        floor = mean_e - slope * mean_x
        below = floor < 0
        slope = np.where(below, errors @ (weight * x) / (weight @ x**2), slope)
        floor = np.where(below, 0.0, floor)
        flat = slope < 0
        slope, floor = np.where(flat, 0.0, slope), np.where(flat, mean_e, floor)
        residual = ((errors - floor[:, None] - slope[:, None] * x) ** 2) @ weight
        better = residual < best
        best = np.where(better, residual, best)
        gains = np.where(better, slope * (1 - 2.0**-exponent), gains)
    return gains


def _ends(values: np.ndarray) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
