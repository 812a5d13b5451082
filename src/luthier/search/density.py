"""`Density`: where in a space observed recipes lie close together, by kernels. What is done with it lives in
`bohb`.
"""

from __future__ import annotations

import math

import numpy as np

from luthier.space import Choice, Space

_NARROWEST = 0.02
"""Standard deviation of a kernel at least: good recipes that agree are still varied by a fiftieth of a range.
"""


class Kernels:
    """What a kernel is in each dimension of a space's unit cube.

    In the cube the space's prior is uniform. A number has a normal density around the observed coordinate,
    truncated to [0, 1]; a value of a choice, whose slice of [0, 1] says nothing about its neighbours, keeps a
    share of the mass and gives the rest to all values by their weights (after Aitchison & Aitken 1976).

    Args:
        space: Its dimensions, and which of them are choices.
    """

    def __init__(self, space: Space) -> None:
        self.slices = [self._slices(space, name) for name in space.dimensions]

    @staticmethod
    def _slices(space: Space, name: str) -> dict[float, float] | None:
        """Width by middle of the slices of a choice's values; None where the dimension has numbers."""
        varying = [one.domain for one in space.settings[name] if one.domain.varies]
        choices = [domain for domain in varying if isinstance(domain, Choice)]
        if len(choices) < len(varying):
            return None
        return {choice.unit(value): choice.mass(value) for choice in choices for value in choice.values}

    def widths(self, points: np.ndarray) -> np.ndarray:
        """Bandwidths after Scott's rule, (dimensions,): of a choice, the share of mass that is given away.

        Args:
            points: (n, dimensions), NaN where inactive.
        """
        widths = np.empty(points.shape[1])
        for at, slices in enumerate(self.slices):
            column = points[:, at]
            column = column[~np.isnan(column)]
            if slices is None:
                # One point or none says nothing about the spread: that of a uniform distribution.
                spread = column.std() if len(column) > 1 else math.sqrt(1 / 12)
            else:
                shares = np.unique(column, return_counts=True)[1] / max(len(column), 1)
                spread = math.sqrt(max(1.0 - float((shares**2).sum()), 0.0))
            scaled = 1.06 * spread * max(len(column), 1) ** (-1.0 / (4 + points.shape[1]))
            widths[at] = min(max(scaled, _NARROWEST), 1.0)
        return widths


class Density:
    """The density of n observed points in the unit cube: a mean of products of `Kernels`, and the prior.

    The prior, which is uniform in the cube, counts as much as one point (as in Bergstra et al. 2011, section
    4), so the density is nowhere zero. Where a setting is inactive in either point, its dimension says
    nothing: the factor is one.

    Args:
        kernels: Of the space.
        points: (n, dimensions), NaN where inactive.
    """

    def __init__(self, kernels: Kernels, points: np.ndarray) -> None:
        self._kernels, self._points = kernels, points
        self._widths = kernels.widths(points)

    def log(self, at: np.ndarray) -> np.ndarray:
        """Logarithms of the density, (m,), at points (m, dimensions) with NaN where inactive."""
        from scipy.special import logsumexp

        logs = np.zeros((len(at), len(self._points) + 1))
        for dimension, slices in enumerate(self._kernels.slices):
            here, there = at[:, dimension, None], self._points[None, :, dimension]
            kernel = self._number(here, there, dimension)
            if slices is not None:
                kernel = self._choice(here, there, self._widths[dimension], slices)
            logs[:, :-1] += np.where(np.isnan(here) | np.isnan(there), 0.0, kernel)
        result: np.ndarray = logsumexp(logs, axis=1) - math.log(logs.shape[1])
        return result

    def _number(self, here: np.ndarray, there: np.ndarray, dimension: int) -> np.ndarray:
        from scipy.special import ndtr

        width = self._widths[dimension]
        inside = ndtr((1.0 - there) / width) - ndtr(-there / width)
        scale = np.log(inside * width * math.sqrt(2.0 * math.pi))
        result: np.ndarray = -0.5 * ((here - there) / width) ** 2 - scale
        return result

    @staticmethod
    def _choice(here: np.ndarray, there: np.ndarray, given: float, slices: dict[float, float]) -> np.ndarray:
        width = np.vectorize(lambda middle: slices.get(middle, 1.0), otypes=[float])(there)
        result: np.ndarray = np.log(given + np.where(here == there, (1.0 - given) / width, 0.0))
        return result

    def sample(self, rng: np.random.Generator, count: int, factor: float) -> np.ndarray:
        """Points drawn from the density with wider kernels, (count, dimensions), none of them NaN.

        Args:
            rng: Where the randomness comes from.
            count: How many.
            factor: What bandwidths are multiplied by.
        """
        from scipy.special import ndtr, ndtri

        uniform = rng.random((count, len(self._widths)))
        chosen = rng.integers(len(self._points) + 1, size=count)
        rest = rng.random((count, len(self._widths)))
        drawn = uniform.copy()
        for at, slices in enumerate(self._kernels.slices):
            centre = np.append(self._points[:, at], math.nan)[chosen]
            width = min(self._widths[at] * factor, 1.0)
            if slices is None:
                low, high = ndtr(-centre / width), ndtr((1.0 - centre) / width)
                near = centre + width * ndtri(low + uniform[:, at] * (high - low))
            else:
                near = np.where(rest[:, at] < width, uniform[:, at], centre)
            drawn[:, at] = np.where(np.isnan(centre), uniform[:, at], near)
        return np.clip(drawn, 0.0, 1.0)
