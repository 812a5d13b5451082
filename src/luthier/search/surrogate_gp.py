"""`GaussianProcess`: a regression with uncertainty over a space's features. What is worth trying is decided
in `acquisition` and `judge`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_JITTER = 1e-8
_NOISE = (math.log(1e-4), 2.0)
_SIGNAL = (0.0, 1.0)
_LENGTH_SPREAD = math.sqrt(3.0)
_WARP_SPREAD = 0.5
_STEPS = 100
_ROOT5 = math.sqrt(5.0)


@dataclass(frozen=True)
class Kernel:
    """Matern-5/2 with a length scale a setting, on inputs warped by Kumaraswamy's distribution function.

    ``k(x, z) = s (1 + r + r^2 / 3) exp(-r)`` with ``r^2 = 5 sum_j (w_j(x_j) - w_j(z_j))^2 / l_j^2`` and
    ``w(x) = 1 - (1 - x^a)^b``.

    Attributes:
        scales: (width,) length scale of each column.
        signal: Variance s.
        noise: Variance of the noise.
        warps: (2, width) logarithms of a and b; zeros leave a column as it is.
    """

    scales: np.ndarray
    signal: float
    noise: float
    warps: np.ndarray

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """(rows, width) features, warped and divided by their length scales."""
        inputs: np.ndarray = warp(x, self.warps) / self.scales
        return inputs

    def between(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """(rows of x, rows of z) covariances, of `inputs`."""
        return self.signal * _matern(_squares(x, z))

    def slopes(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """(rows of x, rows of z) derivatives of the covariance by the squared distance of `inputs`."""
        return self.signal * _matern_slope(_squares(x, z))


def warp(x: np.ndarray, warps: np.ndarray) -> np.ndarray:
    """Kumaraswamy's distribution function (Snoek et al. 2014 use the beta distribution's, which has no closed
    form).
    """
    if not warps.any():
        return x
    inner = np.clip(x, 1e-9, 1.0 - 1e-9)
    bent = 1.0 - (1.0 - inner ** np.exp(warps[0])) ** np.exp(warps[1])
    return np.where(warps.any(axis=0), bent, x)


def warp_slope(x: np.ndarray, warps: np.ndarray) -> np.ndarray:
    """Derivative of `warp` by x."""
    if not warps.any():
        return np.ones_like(x)
    a, b = np.exp(warps)
    inner = np.clip(x, 1e-9, 1.0 - 1e-9)
    slope = a * b * inner ** (a - 1.0) * (1.0 - inner**a) ** (b - 1.0)
    return np.where(warps.any(axis=0), slope, 1.0)


def _squares(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    squares = (x * x).sum(axis=1)[:, None] + (z * z).sum(axis=1) - 2.0 * (x @ z.T)
    kept: np.ndarray = np.maximum(squares, 0.0)
    return kept


def _matern(squares: np.ndarray) -> np.ndarray:
    r = _ROOT5 * np.sqrt(squares)
    value: np.ndarray = (1.0 + r + r * r / 3.0) * np.exp(-r)
    return value


def _matern_slope(squares: np.ndarray) -> np.ndarray:
    r = _ROOT5 * np.sqrt(squares)
    slope: np.ndarray = -5.0 / 6.0 * (1.0 + r) * np.exp(-r)
    return slope


class GaussianProcess:
    """A Gaussian process with a constant mean, its hyperparameters at the mode of their posterior.

    Args:
        x: (rows, width) features in [0, 1].
        y: (rows,) finite values to predict; they are standardised within, and predictions are in y's units.
        group: (width,) columns of one group share a length scale.
        warped: (width,) whether a column may be warped; None: none is.

    Attributes:
        kernel: The `Kernel` found.
        inputs: (rows, width) the rows, as the kernel sees them.
        weights: (rows,) what covariances with the rows are multiplied with to give the mean.
        inverse: (rows, rows) inverse of the covariance of the observations.
    """

    def __init__(
        self, x: np.ndarray, y: np.ndarray, group: np.ndarray, warped: np.ndarray | None = None
    ) -> None:
        self.x = np.asarray(x, dtype=np.float64)
        self.centre = float(np.mean(y))
        self.spread = float(np.std(y)) or 1.0
        target = (np.asarray(y, dtype=np.float64) - self.centre) / self.spread
        self.kernel = _Posterior(self.x, target, group, warped).mode()
        self.inputs = self.kernel.inputs(self.x)
        covariance = self.kernel.between(self.inputs, self.inputs)
        root = _cholesky(covariance + self.kernel.noise * np.eye(len(target)))
        self.inverse = _inverse(root)
        total = self.inverse.sum()
        self.mean = float((self.inverse @ target).sum() / total)
        self.weights = self.inverse @ (target - self.mean)

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of what is observed without noise.

        Args:
            x: (points, width) features.

        Returns:
            Both (points,), in the units of y.
        """
        between = self.kernel.between(self.kernel.inputs(x), self.inputs)
        variance = self.kernel.signal - ((between @ self.inverse) * between).sum(axis=1)
        mean = self.mean + between @ self.weights
        return mean * self.spread + self.centre, np.sqrt(np.maximum(variance, 0.0)) * self.spread

    def mean_slope(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The mean at points, (points,), and its derivatives, (points, width); in the units of y."""
        inputs = self.kernel.inputs(x)
        mean = self.mean + self.kernel.between(inputs, self.inputs) @ self.weights
        pull = self.weights * self.kernel.slopes(inputs, self.inputs)
        return mean * self.spread + self.centre, self.spread * chain(
            self.kernel, x, inputs, pull, self.inputs
        )


def chain(
    kernel: Kernel, x: np.ndarray, inputs: np.ndarray, pull: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """Derivatives by features of a function of covariances.

    Args:
        kernel: Whose covariances.
        x: (points, width) features.
        inputs: (points, width) the same as the kernel sees them.
        pull: (points, rows) derivatives of the function by the squared distances of each point to each row.
        others: (rows, width) the rows as the kernel sees them.

    Returns:
        (points, width).
    """
    by_input = 2.0 * (pull.sum(axis=1, keepdims=True) * inputs - pull @ others)
    slope: np.ndarray = by_input * warp_slope(x, kernel.warps) / kernel.scales
    return slope


class _Posterior:
    """The log posterior density of hyperparameters, with its gradient; its argument holds logarithms.

    Length scales have the prior of Hvarfner et al. (2024, "Vanilla Bayesian optimization performs great in
    high dimensions"), which grows with the root of the number of settings, as a density of the length scale
    itself.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, group: np.ndarray, warped: np.ndarray | None) -> None:
        self._x, self._y, self._group = x, y, group
        self._groups = int(group.max()) + 1 if len(group) else 0
        self._warped = np.flatnonzero(warped) if warped is not None else np.zeros(0, dtype=int)
        spread = _LENGTH_SPREAD
        varied = len(np.unique(group[np.ptp(x, axis=0) > 0.0]))
        middle = math.sqrt(2.0) + 0.5 * math.log(max(1, varied)) - spread**2
        count = len(self._warped)
        self._centre = np.array([middle] * self._groups + [_SIGNAL[0], _NOISE[0]] + [0.0] * (2 * count))
        self._width = np.array(
            [spread] * self._groups + [_SIGNAL[1], _NOISE[1]] + [_WARP_SPREAD] * (2 * count)
        )

    def mode(self) -> Kernel:
        """The best of what L-BFGS finds from two starts: the prior's centre, and long scales with noise."""
        from scipy.optimize import minimize

        long = self._centre.copy()
        long[: self._groups] += 2.0
        long[self._groups + 1] = math.log(0.05)
        bounds = [(c - 4.0 * w, c + 4.0 * w) for c, w in zip(self._centre, self._width, strict=True)]
        found = [
            minimize(
                self._loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS}
            )
            for start in (self._centre, long)
        ]
        return self._kernel(min(found, key=lambda each: float(each.fun)).x)

    def _kernel(self, point: np.ndarray) -> Kernel:
        groups, count = self._groups, len(self._warped)
        warps = np.zeros((2, self._x.shape[1]))
        warps[:, self._warped] = point[groups + 2 :].reshape(2, count)
        scales = np.exp(point[:groups])[self._group]
        return Kernel(scales, math.exp(point[groups]), math.exp(point[groups + 1]), warps)

    def _loss(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """Negative log posterior and its gradient (Rasmussen & Williams 2006, equations 5.8 and 5.9)."""
        kernel = self._kernel(point)
        inputs = kernel.inputs(self._x)
        squares = _squares(inputs, inputs)
        covariance = kernel.signal * _matern(squares)
        root = _cholesky(covariance + kernel.noise * np.eye(len(self._y)))
        inverse = _inverse(root)
        mean = (inverse @ self._y).sum() / inverse.sum()
        weights = inverse @ (self._y - mean)
        off = (point - self._centre) / self._width
        loss = 0.5 * (self._y - mean) @ weights + np.log(np.diag(root)).sum() + 0.5 * off @ off
        by_covariance = 0.5 * (inverse - np.outer(weights, weights))
        gradient = off / self._width
        gradient[self._groups] += (by_covariance * covariance).sum()
        gradient[self._groups + 1] += kernel.noise * np.trace(by_covariance)
        pull = by_covariance * kernel.signal * _matern_slope(squares)
        by_input = 4.0 * (pull.sum(axis=1, keepdims=True) * inputs - pull @ inputs)
        # The length scale divides the input, so its logarithm moves it by -inputs.
        gradient[: self._groups] -= np.bincount(
            self._group, (by_input * inputs).sum(axis=0), minlength=self._groups
        )
        if len(self._warped):
            gradient[self._groups + 2 :] += self._warp_gradient(kernel, by_input).ravel()
        return float(loss), gradient

    def _warp_gradient(self, kernel: Kernel, by_input: np.ndarray) -> np.ndarray:
        """(2, warped columns) derivatives of the loss by the logarithms of a and b."""
        at = self._warped
        x = np.clip(self._x[:, at], 1e-9, 1.0 - 1e-9)
        a, b = np.exp(kernel.warps[:, at])
        power = x**a
        rest = 1.0 - power
        by_a = a * b * rest ** (b - 1.0) * power * np.log(x)
        by_b = -b * rest**b * np.log(rest)
        pull = by_input[:, at] / kernel.scales[at]
        return np.stack([(pull * by_a).sum(axis=0), (pull * by_b).sum(axis=0)])


def _cholesky(matrix: np.ndarray) -> np.ndarray:
    """The lower root of a covariance, with as little added to its diagonal as makes it one."""
    scale = float(np.mean(np.diag(matrix))) if len(matrix) else 1.0
    jitter = _JITTER
    while True:
        try:
            return np.linalg.cholesky(matrix + jitter * scale * np.eye(len(matrix)))
        except np.linalg.LinAlgError:
            jitter *= 100.0


def _inverse(root: np.ndarray) -> np.ndarray:
    """The inverse of the matrix whose lower Cholesky root is given."""
    from scipy.linalg import lapack

    half, _ = lapack.dpotri(root, lower=1)
    lower: np.ndarray = np.tril(half)
    whole: np.ndarray = lower + np.tril(half, -1).T
    return whole
