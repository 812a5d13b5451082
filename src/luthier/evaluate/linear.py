"""`linear_head`: a linear head on fixed vectors in closed form, with what it says of each training row as if
that row had been left out. What is made of it lives in `sizes` and `noise`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Ridge penalties that are tried, as shares of the mean eigenvalue of the vectors' scatter."""
WIDEST = 512
"""Vectors wider than this are projected to this many random directions: an eigendecomposition takes the cube
of the width."""


@dataclass(frozen=True)
class LinearHead:
    """A fitted head.

    Attributes:
        centre: (width,) taken from a vector first.
        weights: (width, outputs).
        offset: (outputs,) added last.
        left_out: (n, outputs) what it would say of each training row had that row been left out.
    """

    centre: np.ndarray
    weights: np.ndarray
    offset: np.ndarray
    left_out: np.ndarray

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """(m, outputs) of vectors (m, width)."""
        return np.asarray((vectors - self.centre) @ self.weights + self.offset)


def linear_head(vectors: np.ndarray, wanted: np.ndarray) -> LinearHead:
    """Ridge regression on one-hot or other targets (regularised least squares, one against all: Rifkin,
    Yeo & Poggio 2003), with the penalty that has the least leave-one-out error.

    Leave-one-out answers need no further fit: they are y - (y - f) / (1 - h), with h the diagonal of the hat
    matrix (Golub, Heath & Wahba 1979, section 2).

    Args:
        vectors: (n, width) float64, n at least 2.
        wanted: (n, outputs).
    """
    centre, offset = vectors.mean(axis=0), wanted.mean(axis=0)
    x, y = vectors - centre, wanted - offset
    count = len(x)
    wide = count <= x.shape[1]
    values, axes = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    # Rounding alone would give weight to directions in which nothing varies.
    spread = values > 1e-12 * max(float(values.max(initial=0.0)), 1e-12)
    values, axes = values[spread], axes[:, spread]
    left = axes if wide else x @ axes / np.sqrt(values)
    projected = left.T @ y
    squared = left**2
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for penalty in PENALTIES:
        kept = values / (values + penalty * float(values.sum()) / count)
        residual = y - left @ (kept[:, None] * projected)
        free = np.maximum(1.0 - squared @ kept - 1.0 / count, 1e-6)
        left_out = wanted - residual / free[:, None]
        error = float(((wanted - left_out) ** 2).mean())
        if best is None or error < best[0]:
            best = error, kept, left_out
    assert best is not None
    _, kept, left_out = best
    right = x.T @ left / np.sqrt(values) if wide else axes
    weights = right @ ((kept / np.sqrt(values))[:, None] * projected)
    return LinearHead(centre, weights, offset, left_out)


def standard(train: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in float64, each number scaled by its spread over ``train``, and no wider than `WIDEST`.

    Args:
        train: (n, width).
        other: (m, width).
    """
    train, other = np.asarray(train, dtype=np.float64), np.asarray(other, dtype=np.float64)
    centre, spread = train.mean(axis=0), train.std(axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    train, other = (train - centre) / spread, (other - centre) / spread
    if train.shape[1] > WIDEST:
        # Distances stay nearly as they are (Johnson & Lindenstrauss 1984).
        axes = np.random.default_rng(0).normal(size=(train.shape[1], WIDEST)) / math.sqrt(WIDEST)
        train, other = train @ axes, other @ axes
    return train, other
