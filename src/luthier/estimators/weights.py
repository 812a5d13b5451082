"""Sample weights for a run, which knows rows but no weights: which rows to give it, and how often."""

from __future__ import annotations

import numpy as np

MOST = 10
"""Whole-number weights repeat rows up to so many times the number of rows."""


def repeated(weights: np.ndarray, seed: int) -> np.ndarray:
    """Positions of rows, each as often as its weight says.

    Weights that are whole numbers, or whole multiples of the least, are kept to exactly. Others are rounded
    up or down to n rows in all, by systematic sampling (Madow 1949): a row occurs its weight's share of n
    times in expectation, and never a whole time more or less. Rows without weight never occur.

    Args:
        weights: (n,) at least zero, not all of them zero.
        seed: Of the rounding.

    Returns:
        (m,) int positions, ascending.
    """
    for unit in (1.0, weights[weights > 0].min()):
        if weights.sum() <= MOST * len(weights) * unit:
            counts = np.round(weights / unit).astype(np.int64)
            if np.abs(weights / unit - counts).max() < 1e-9:
                return np.repeat(np.arange(len(weights)), counts // np.gcd.reduce(counts))
    ends = np.cumsum(weights) * (len(weights) / weights.sum())
    # The last end is n but for rounding, which must not lose a row.
    ends[np.flatnonzero(weights)[-1] :] = len(weights)
    marks = np.arange(len(weights)) + np.random.default_rng(seed).random()
    return np.searchsorted(ends, marks, side="right")
