"""LogME: how well frozen features explain the targets, as a guess of how well their model will fine-tune."""

from __future__ import annotations

import numpy as np

MAX_STEPS = 100
TOLERANCE = 1e-5
FLOOR = 1e-12


def logme(features: np.ndarray, targets: np.ndarray) -> float:
    """Logarithm of maximum evidence of a Bayesian linear model, per example; higher is better.

    For each column y of the targets (a class becomes one column, 1 for its members), the evidence
    p(y | F, alpha, beta) of y = F w + noise, with w ~ N(0, 1 / alpha) and noise ~ N(0, 1 / beta), is
    maximised over alpha and beta by the fixed-point iteration of You et al., "LogME: Practical Assessment
    of Pre-trained Models for Transfer Learning" (ICML 2021), algorithm 1. The result is the mean over columns
    of the evidence (equation 2) divided by n. All columns share one singular value decomposition.

    Args:
        features: (n, d), finite.
        targets: (n,) integers: classes, or with only two of them one column; (n,) floats: one regression; (n,
            k): k regressions, such as the 0/1 columns of a multi-label target.

    Returns:
        Comparable between models on the same targets, not between targets; NaN where nothing varies.

    Raises:
        ValueError: Shapes do not agree.
    """
    features = np.asarray(features, dtype=np.float64)
    targets = np.asarray(targets)
    if features.ndim != 2 or len(features) != len(targets) or targets.ndim not in {1, 2}:
        raise ValueError(f"Features {features.shape} and targets {targets.shape} do not agree.")
    columns = _columns(targets)
    if columns.shape[1] == 0 or not np.any(features):
        return float("nan")
    return float(np.mean(_evidence(features, columns)))


def _columns(targets: np.ndarray) -> np.ndarray:
    if targets.ndim == 2:
        columns = targets.astype(np.float64)
    elif targets.dtype.kind in "fc":
        columns = targets.astype(np.float64)[:, None]
    else:
        classes = np.unique(targets)
        columns = (targets[:, None] == classes[None, :]).astype(np.float64)
    return columns[:, np.ptp(columns, axis=0) > 0] if len(columns) else columns[:, :0]


def _evidence(features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(k,) maximised log evidence divided by n of each column of targets (n, k)."""
    n, d = features.shape
    left, singular, _ = np.linalg.svd(features, full_matrices=False)
    kept = singular > singular[0] * max(n, d) * np.finfo(np.float64).eps
    left, singular = left[:, kept], singular[kept]
    sigma = (singular**2)[:, None]  # (r, 1) eigenvalues of F^T F
    z2 = (left.T @ targets) ** 2  # (r, k)
    outside = np.maximum((targets**2).sum(axis=0) - z2.sum(axis=0), 0.0)  # (k,) what F cannot reach
    alpha, beta = np.ones(targets.shape[1]), np.ones(targets.shape[1])
    for _ in range(MAX_STEPS):
        gamma, m2, residual = _moments(sigma, z2, outside, alpha, beta)
        new_alpha = gamma / np.maximum(m2, FLOOR)
        new_beta = np.maximum(n - gamma, FLOOR) / np.maximum(residual, FLOOR)
        moved = np.abs(new_alpha / new_beta - alpha / beta) / (alpha / beta)
        alpha, beta = new_alpha, new_beta
        if np.all(moved <= TOLERANCE):
            break
    _, m2, residual = _moments(sigma, z2, outside, alpha, beta)
    rank = len(singular)
    determinant = np.log(alpha + beta * sigma).sum(axis=0) + (d - rank) * np.log(alpha)
    evidence = (
        d * np.log(alpha)
        + n * np.log(beta)
        - determinant
        - beta * residual
        - alpha * m2
        - n * np.log(2 * np.pi)
    )
    result: np.ndarray = evidence / (2.0 * n)
    return result


def _moments(
    sigma: np.ndarray, z2: np.ndarray, outside: np.ndarray, alpha: np.ndarray, beta: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Effective parameters gamma, squared norm of the posterior mean, and squared residual; (k,) each."""
    precision = alpha + beta * sigma
    gamma = (beta * sigma / precision).sum(axis=0)
    m2 = (beta**2 * sigma * z2 / precision**2).sum(axis=0)
    residual = (z2 * (alpha / precision) ** 2).sum(axis=0) + outside
    return gamma, m2, residual
