"""Scores as a surrogate sees them: failures given a value, and outliers below tamed. No model lives here."""

from __future__ import annotations

import numpy as np


def tamed(scores: np.ndarray) -> np.ndarray:
    """Scores on a scale on which a surrogate fits where it matters.

    The better half stays as it is. The worse half, in which a diverged training may lie a hundred times as
    far from the median as the best does, keeps its order only: it is laid out by rank as the lower half of a
    normal distribution of the better half's spread (the half-rank warping of Song et al. 2024, "The Vizier
    Gaussian process bandit algorithm"). A failure, NaN, is as bad as the worst.

    Args:
        scores: (rows,), higher is better; at least one is finite.

    Returns:
        (rows,), finite.
    """
    from scipy.special import ndtri

    finite = np.isfinite(scores)
    filled = np.where(finite, scores, scores[finite].min())
    middle = float(np.median(filled))
    above = filled[filled >= middle]
    spread = float(np.sqrt(np.mean((above - middle) ** 2)))
    below = filled < middle
    if spread == 0.0 or not below.any():
        return filled
    # Equal scores have the lowest rank of theirs: many failures are not half as bad as one.
    ranks = np.searchsorted(np.sort(filled), filled[below])
    tame = filled.copy()
    tame[below] = middle + spread * ndtri((ranks + 0.5) / len(filled))
    return tame
