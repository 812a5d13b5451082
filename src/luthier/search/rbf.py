"""`Interpolant`: radial basis functions through scores seen so far, a cheap guess at all others.

Nothing here knows spaces or recipes.
"""

from __future__ import annotations

import math

import numpy as np

SMOOTHINGS = (1e-8, 1e-3, 1e-2, 1e-1)
"""From passing through every value to ignoring much of what may be noise, in units of the cubed distance."""
FEWEST = 5
"""Values at least by whose errors the smoothing is chosen."""


def compressed(losses: np.ndarray) -> np.ndarray:
    """Losses on a scale that does not let a few very bad ones hide the differences between good ones.

    ``log(1 + 2 (loss - best) / (median - best))``: near the best it is linear, far from it logarithmic.
    Monotone.

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
    made: np.ndarray = np.log1p((filled - best) / scale)
    return made


class Interpolant:
    """Cubic radial basis functions with a linear tail, or, while there are too few values for one, linear
    functions with a constant tail (Gutmann 2001, section 2).

    Args:
        points: (n, d), n >= 1.
        values: (n,) finite, lower is better.
        smoothing: Added to the kernel's diagonal; None: that of `SMOOTHINGS` under which the best third of
            the values is guessed best from all others. The rest of the landscape may be as rough as it likes:
            it is among the best that children are chosen.

    Attributes:
        left_out: (n,) of each value, the error of guessing it from all others (Rippa 1999, eq. 13).
    """

    def __init__(self, points: np.ndarray, values: np.ndarray, smoothing: float | None = None) -> None:
        self._points = points
        self._cubic = len(points) >= points.shape[1] + 2
        kernel, tail = self._kernel(points), self._tail(points)
        # Columns of a choice add up to a constant: the tail need not be of full rank. On the complement of
        # the tail both kernels are positive definite, and one decomposition serves every smoothing.
        left, sizes, _ = np.linalg.svd(tail)
        complement = left[:, int((sizes > 1e-9 * sizes[0]).sum()) :]
        powers, vectors = np.linalg.eigh(complement.T @ kernel @ complement)
        basis = complement @ vectors
        best = np.argsort(values, kind="stable")[: max(FEWEST, len(values) // 3)]
        errors = math.inf
        for one in SMOOTHINGS if smoothing is None else (smoothing,):
            weights, left_out = _fit(basis, np.maximum(powers, 0.0) + one, values)
            if (error := float(np.mean(left_out[best] ** 2))) < errors:
                errors, self.left_out, self._weights, chosen = error, left_out, weights, one
        rest = values - kernel @ self._weights - chosen * self._weights
        self._slopes = np.linalg.lstsq(tail, rest, rcond=1e-9)[0]

    def _kernel(self, points: np.ndarray) -> np.ndarray:
        away = distances(points, self._points)
        return away**3 if self._cubic else -away

    def _tail(self, points: np.ndarray) -> np.ndarray:
        ones = np.ones((len(points), 1))
        return np.hstack([ones, points]) if self._cubic else ones

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """The values guessed at (m, d) points, as (m,)."""
        guess: np.ndarray = self._kernel(points) @ self._weights + self._tail(points) @ self._slopes
        return guess


def _fit(basis: np.ndarray, powers: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The weights and the leave-one-out errors, (n,) each.

    Args:
        basis: (n, k) the kernel's eigenvectors.
        powers: (k,) its eigenvalues, positive.
        values: (n,) what is fitted.
    """
    inverse = basis / powers
    weights = inverse @ (basis.T @ values)
    spread = (inverse * basis).sum(axis=1)
    return weights, np.divide(weights, spread, out=np.zeros(len(values)), where=spread > 0.0)


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Euclidean distances of (m, d) points from (n, d) points, as (m, n)."""
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2.0 * first @ second.T
    apart: np.ndarray = np.sqrt(np.maximum(squares, 0.0))
    return apart
