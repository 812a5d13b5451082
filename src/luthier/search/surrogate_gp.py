"""`GaussianProcess`: a regression with uncertainty over a space's features. What is worth trying is decided
in `acquisition` and `judge`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# Priors of the hyperparameters' logarithms: centre and standard deviation, for standardised scores.
_SIGNAL = (0.0, 1.0)
# Scores of validation sets have noise and test functions have none: wide enough for both.
_NOISE = (math.log(1e-4), 2.0)
_LENGTH = (math.sqrt(2.0), math.sqrt(3.0))
_BOUND = 4.0
"""Standard deviations from a prior's centre at which the search for hyperparameters ends."""
_NOISY = 0.05
"""Variance of the noise from which the second search begins."""
_STEPS = 100
_JITTERS = (1e-8, 1e-6, 1e-4, 1e-2)
"""Shares of the variance that are added to the diagonal, the next where the last was too little."""
_ROOT5 = math.sqrt(5.0)


@dataclass(frozen=True)
class Kernel:
    """Matern-5/2 with a length scale a setting: ``s (1 + r + r^2 / 3) exp(-r)``, where
    ``r^2 = 5 sum_j (x_j - z_j)^2 / l_j^2``.

    Attributes:
        scales: (width,) length scale of each column.
        signal: Variance s.
        noise: Variance of the noise.
    """

    scales: np.ndarray
    signal: float
    noise: float

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """(rows, width) features, divided by their length scales."""
        inputs: np.ndarray = x / self.scales
        return inputs

    def between(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """(rows of x, rows of z) covariances, of `inputs`."""
        return self.signal * _matern(_squares(x, z))

    def slopes(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """(rows of x, rows of z) derivatives of the covariance by the squared distance of `inputs`."""
        return self.signal * _matern_slope(_squares(x, z))


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

    Attributes:
        kernel: The `Kernel` found.
        inputs: (rows, width) the rows, as the kernel sees them.
        weights: (rows,) what covariances with the rows are multiplied with to give the mean.
        inverse: (rows, rows) inverse of the covariance of the observations.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, group: np.ndarray) -> None:
        self.x = np.asarray(x, dtype=np.float64)
        self.centre = float(np.mean(y))
        self.spread = float(np.std(y)) or 1.0
        target = (np.asarray(y, dtype=np.float64) - self.centre) / self.spread
        self.kernel = _Posterior(self.x, target, group).mode()
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
        slope = self.spread * chain(self.kernel, inputs, pull, self.inputs)
        return mean * self.spread + self.centre, slope


def chain(kernel: Kernel, inputs: np.ndarray, pull: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Derivatives by features of a function of covariances.

    Args:
        kernel: Whose covariances.
        inputs: (points, width) the points as the kernel sees them.
        pull: (points, rows) derivatives of the function by the squared distances of each point to each row.
        others: (rows, width) the rows as the kernel sees them.

    Returns:
        (points, width).
    """
    by_input = 2.0 * (pull.sum(axis=1, keepdims=True) * inputs - pull @ others)
    slope: np.ndarray = by_input / kernel.scales
    return slope


class _Posterior:
    """The log posterior density of hyperparameters, with its gradient; its argument holds logarithms.

    Length scales have the prior of Hvarfner et al. (2024, "Vanilla Bayesian optimization performs great in
    high dimensions"), which grows with the root of the number of settings, as a density of the length scale
    itself. Warped inputs (Snoek et al. 2014) were tried and left out: with two more hyperparameters a setting
    to find, more was lost on Rosenbrock's, Ackley's and Levy's functions than won on Branin's.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, group: np.ndarray) -> None:
        self._x, self._y, self._group = x, y, group
        self._groups = int(group.max()) + 1 if len(group) else 0
        varied = len(np.unique(group[np.ptp(x, axis=0) > 0.0]))
        # A log-normal density of the length scale, as a function of its logarithm, is a normal one's whose
        # centre is lower by the variance, up to a constant.
        middle = _LENGTH[0] + 0.5 * math.log(max(1, varied)) - _LENGTH[1] ** 2
        self._centre = np.array([middle] * self._groups + [_SIGNAL[0], _NOISE[0]])
        self._width = np.array([_LENGTH[1]] * self._groups + [_SIGNAL[1], _NOISE[1]])

    def mode(self) -> Kernel:
        """The best of what L-BFGS finds from two starts: the prior's centre, and long scales with noise."""
        from scipy.optimize import minimize

        long = self._centre.copy()
        long[: self._groups] += 2.0
        long[self._groups + 1] = math.log(_NOISY)
        reach = _BOUND * self._width
        bounds = list(zip(self._centre - reach, self._centre + reach, strict=True))
        options = {"maxiter": _STEPS}
        found = [
            minimize(self._loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
            for start in (self._centre, long)
        ]
        return self._kernel(min(found, key=lambda each: float(each.fun)).x)

    def _kernel(self, point: np.ndarray) -> Kernel:
        scales, (signal, noise) = np.exp(point[:-2])[self._group], np.exp(point[-2:])
        return Kernel(scales, float(signal), float(noise))

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
        return float(loss), gradient


def _cholesky(matrix: np.ndarray) -> np.ndarray:
    """The lower root of a covariance, with as little added to its diagonal as makes it one."""
    scale = float(np.mean(np.diag(matrix))) if len(matrix) else 1.0
    for jitter in _JITTERS:
        try:
            return np.linalg.cholesky(matrix + jitter * scale * np.eye(len(matrix)))
        except np.linalg.LinAlgError:
            continue
    raise np.linalg.LinAlgError("a covariance is far from positive definite")


def _inverse(root: np.ndarray) -> np.ndarray:
    """The inverse of the matrix whose lower Cholesky root is given."""
    from scipy.linalg import lapack

    half, _ = lapack.dpotri(root, lower=1)
    lower: np.ndarray = np.tril(half)
    whole: np.ndarray = lower + np.tril(half, -1).T
    return whole
