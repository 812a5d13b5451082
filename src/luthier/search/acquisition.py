"""Acquisition functions: how much a point is worth trying, in logarithms. Which points are compared lives in
`candidates`, the models of scores in `surrogate_gp` and `surrogate_trees`.
"""

from __future__ import annotations

import math

import numpy as np

from luthier.search.surrogate_gp import GaussianProcess, chain

SAMPLES = 32
"""Draws of what the scores without noise may be, a power of two."""
INCUMBENTS = 24
"""Trials that may be the best, at most; others are too far below to matter."""
_FLOOR = 1e-10
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


def log_h(z: np.ndarray) -> np.ndarray:
    """``log(phi(z) + z Phi(z))``, exact far into the tail (Ament et al. 2023, equation 9)."""
    from scipy.special import erfcx, ndtr

    out = np.empty_like(z)
    near, far = z > -1.0, z < -1e4
    middle = ~near & ~far
    out[near] = np.log(np.exp(-0.5 * z[near] ** 2 - _HALF_LOG_2PI) + z[near] * ndtr(z[near]))
    at = z[middle]
    rest = np.log(np.abs(at)) + np.log(erfcx(-at / math.sqrt(2.0))) + 0.5 * math.log(math.pi / 2.0)
    out[middle] = -0.5 * at**2 - _HALF_LOG_2PI + np.log(-np.expm1(np.minimum(rest, -1e-300)))
    out[far] = -0.5 * z[far] ** 2 - _HALF_LOG_2PI - 2.0 * np.log(np.abs(z[far]))
    return out


def log_improvement(mean: np.ndarray, deviation: np.ndarray, best: np.ndarray | float) -> np.ndarray:
    """Logarithm of the expected improvement of a normal variable over ``best``; arrays of one shape."""
    value: np.ndarray = np.log(deviation) + log_h((mean - best) / deviation)
    return value


class NoisyImprovement:
    """Logarithm of noisy expected improvement, with trials that are still running (Letham et al. 2019,
    section 3; Ament et al. 2023 for the logarithm).

    What trials would score without noise is drawn from their joint posterior, for those that run too. Given a
    draw, the expected improvement over the best of it is known in closed form, and is averaged over draws.
    A trial that runs is thus as good as known in its place, with a score that is not: the next recipe goes
    elsewhere, and a batch spreads.

    Args:
        model: Of the scores.
        baseline: (trials, width) features of the trials that were observed, as if trained to the end.
        running: (trials, width) features of those that are not.
        normals: (SAMPLES, enough) standard normal draws, `INCUMBENTS` + running columns at least.
        margin: What counts as an improvement on the best, in standard deviations of the observed scores.
    """

    def __init__(
        self,
        model: GaussianProcess,
        baseline: np.ndarray,
        running: np.ndarray,
        normals: np.ndarray,
        margin: float = 0.0,
    ) -> None:
        self._model = model
        mean, deviation = model.predict(baseline)
        promising = np.argsort(-(mean + 2.0 * deviation), kind="stable")[:INCUMBENTS]
        points = np.concatenate([baseline[np.sort(promising)], running])
        inputs = model.kernel.inputs(points)
        to_rows = model.kernel.between(inputs, model.inputs)
        covariance = model.kernel.between(inputs, inputs) - to_rows @ model.inverse @ to_rows.T
        values, vectors = np.linalg.eigh((covariance + covariance.T) / 2.0)
        floor = _FLOOR * model.kernel.signal
        values = np.maximum(values, floor)
        # Directions in which nothing is left to learn are left out: they would only divide noise by noise.
        known = values > 100.0 * floor
        turned = vectors[:, known] * np.sqrt(values[known])
        means = model.mean + to_rows @ model.weights
        draws = means[:, None] + turned @ normals[:, : turned.shape[1]].T
        self._best = draws.max(axis=0) + margin
        # Covariances of a point with all rows, times `_root`, are those with the draws' own coordinates.
        inner = vectors[:, known] / np.sqrt(values[known])
        self._others = np.concatenate([model.inputs, inputs])
        self._root = np.concatenate([-model.inverse @ (to_rows.T @ inner), inner])
        pad = np.zeros(len(inputs))
        self._by_draw = (
            np.concatenate([model.weights, pad])[:, None] + self._root @ normals[:, : turned.shape[1]].T
        )
        self._rows = len(model.inputs)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(points,) values at (points, width) features."""
        return self._parts(x)[0]

    def slope(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(points,) values and (points, width) derivatives."""
        from scipy.special import log_ndtr

        model = self._model
        value, logs, between, z, deviation, inputs = self._parts(x)
        height = logs - np.log(deviation)[:, None]
        share = np.exp(logs - value[:, None]) / logs.shape[1]
        by_mean = share * np.exp(log_ndtr(z) - height) / deviation[:, None]
        by_deviation = (share * np.exp(-0.5 * z**2 - _HALF_LOG_2PI - height)).sum(axis=1) / deviation
        by_variance = by_deviation / (2.0 * deviation)
        kept = between[:, : self._rows] @ model.inverse
        explained = np.concatenate([kept, np.zeros((len(x), len(self._others) - self._rows))], axis=1)
        explained += (between @ self._root) @ self._root.T
        by_between = by_mean @ self._by_draw.T - 2.0 * by_variance[:, None] * explained
        pull = by_between * model.kernel.slopes(inputs, self._others)
        return value, chain(model.kernel, inputs, pull, self._others)

    def _parts(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        model = self._model
        inputs = model.kernel.inputs(x)
        between = model.kernel.between(inputs, self._others)
        to_rows = between[:, : self._rows]
        left = between @ self._root
        variance = (
            model.kernel.signal
            - ((to_rows @ model.inverse) * to_rows).sum(axis=1)
            - (left * left).sum(axis=1)
        )
        deviation = np.sqrt(np.maximum(variance, _FLOOR * model.kernel.signal))
        means = model.mean + between @ self._by_draw
        z = (means - self._best) / deviation[:, None]
        logs = np.log(deviation)[:, None] + log_h(z)
        top = logs.max(axis=1)
        value = top + np.log(np.exp(logs - top[:, None]).mean(axis=1))
        return value, logs, between, z, deviation, inputs
