"""`Interpolant`: radial basis functions through scores seen so far, a cheap guess at all others.

Nothing here knows spaces or recipes.
"""

from __future__ import annotations

import numpy as np

SMOOTHINGS = (1e-8,)
"""From passing through every value to ignoring much of what may be noise, in units of the cubed distance."""


def compressed(losses: np.ndarray) -> np.ndarray:
    """Losses on a scale that does not let a few very bad ones hide the differences between good ones.

    ``log(1 + 2 (loss - best) / (median - best))``: near the best it is linear, far from it logarithmic. Monotone.

    Args:
        losses: (n,) lower is better; NaN (no score at all) counts as the worst of the others.
    """
    known = losses[np.isfinite(losses)]
    if not len(known):
        return np.zeros(len(losses))
    best = known.min()
    filled = np.where(np.isfinite(losses), losses, known.max())
    scale = (np.median(filled) - best) / 2.0 or (filled.max() - best) / 2.0
    if not scale > 0.0:
        return np.zeros(len(losses))
    return np.log1p((filled - best) / scale)


class Interpolant:
    """Cubic radial basis functions with a linear tail, or, while there are too few values for one, linear functions
    with a constant tail (Gutmann 2001, section 2).

    How much it smooths is chosen among `SMOOTHINGS` by leave-one-out errors, for which no refitting is needed
    (Rippa 1999, eq. 13). One eigendecomposition serves all: on the complement of the tail both kernels are positive
    definite.

    Args:
        points: (n, d), n >= 1.
        values: (n,) finite.
    """

    def __init__(self, points: np.ndarray, values: np.ndarray) -> None:
        self._points = points
        self._cubic = len(points) >= points.shape[1] + 2
        kernel, tail = self._kernel(points), self._tail(points)
        # Columns of a choice add up to a constant: the tail need not be of full rank.
        left, sizes, _ = np.linalg.svd(tail)
        rank = int((sizes > 1e-9 * sizes[0]).sum())
        complement = left[:, rank:]
        powers, vectors = np.linalg.eigh(complement.T @ kernel @ complement)
        vectors = complement @ vectors
        fits = [_left_out(vectors, np.maximum(powers, 0.0) + one, values) for one in SMOOTHINGS]
        best = int(np.argmin([error for error, _ in fits]))
        self._weights = fits[best][1]
        rest = values - kernel @ self._weights - SMOOTHINGS[best] * self._weights
        self._slopes = np.linalg.lstsq(tail, rest, rcond=1e-9)[0]

    def _kernel(self, points: np.ndarray) -> np.ndarray:
        away = distances(points, self._points)
        return away**3 if self._cubic else -away

    def _tail(self, points: np.ndarray) -> np.ndarray:
        ones = np.ones((len(points), 1))
        return np.hstack([ones, points]) if self._cubic else ones

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """The values guessed at (m, d) points, as (m,)."""
        return self._kernel(points) @ self._weights + self._tail(points) @ self._slopes


def _left_out(vectors: np.ndarray, powers: np.ndarray, values: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean squared leave-one-out error, and the weights (n,)."""
    inverse = vectors / powers
    weights = inverse @ (vectors.T @ values)
    spread = (inverse * vectors).sum(axis=1)
    errors = np.divide(weights, spread, out=np.zeros(len(values)), where=spread > 0.0)
    return float(np.mean(errors**2)), weights


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Euclidean distances of (m, d) points from (n, d) points, as (m, n)."""
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1)[None] - 2.0 * first @ second.T
    return np.sqrt(np.maximum(squares, 0.0))

