"""ADWIN: whether a stream of outcomes has one mean, and from where on it has its present one.

Which outcomes are given to it is said by `luthier.monitor.judge`.
"""

from __future__ import annotations

import math

import numpy as np

CLOCK = 32
"""Outcomes after which the window is looked at again."""


def bound(first: np.ndarray, second: np.ndarray, variance: float, delta: float) -> np.ndarray:
    """By how much two parts' means may differ by chance (Bifet & Gavalda 2007, section 3.2).

    epsilon = sqrt(2 / m v ln(2 / d')) + 2 / (3 m) ln(2 / d'), where 1 / m = 1 / n0 + 1 / n1, v is the
    variance of the window and d' = delta / n, for the n places where it can be cut.

    Args:
        first: (k,) sizes of the first part.
        second: (k,) sizes of the second.
        variance: Of the outcomes in both.
        delta: Probability of a false cut of one window.

    Returns:
        (k,).
    """
    inverse = 1 / first + 1 / second
    logarithm = math.log(2 * float(first[0] + second[0]) / delta)
    return np.asarray(np.sqrt(2 * inverse * variance * logarithm) + 2 / 3 * inverse * logarithm)


def present(outcomes: np.ndarray, delta: float) -> int:
    """Where the stretch begins that has the mean of today.

    The window grows by each outcome and drops its oldest ones while any cut parts it into two whose means
    differ by more than `bound`; all cuts are tried, as in the first form of the algorithm there, every 32
    outcomes.

    Args:
        outcomes: (n,) in [0, 1], oldest first.
        delta: Probability of a false cut of one window.

    Returns:
        A position; 0 where the mean never changed.
    """
    sums = np.concatenate([[0.0], np.cumsum(outcomes)])
    squares = np.concatenate([[0.0], np.cumsum(np.square(outcomes))])
    start = 0
    for end in sorted({*range(CLOCK, len(outcomes) + 1, CLOCK), len(outcomes)}):
        while (cut := _cut(sums[start : end + 1], squares[start : end + 1], delta)) is not None:
            start += cut
    return start


def _cut(sums: np.ndarray, squares: np.ndarray, delta: float) -> int | None:
    """Where a window is cut the most clearly; None where it has one mean."""
    size = len(sums) - 1
    if size < 2:
        return None
    first = np.arange(1, size, dtype=np.float64)
    total = sums[-1] - sums[0]
    variance = max(0.0, float((squares[-1] - squares[0]) / size - (total / size) ** 2))
    before = sums[1:-1] - sums[0]
    gaps = np.abs(before / first - (total - before) / (size - first))
    excess = gaps - bound(first, size - first, variance, delta)
    at = int(excess.argmax())
    return at + 1 if excess[at] > 0 else None
