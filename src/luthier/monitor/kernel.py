"""Maximum mean discrepancy: whether vectors come from the reference's distribution, by a Gaussian kernel.

Single columns are compared in `luthier.monitor.drift`.
"""

from __future__ import annotations

import math

import numpy as np

from luthier.errors import SettingError
from luthier.monitor.drift import Found, Witness

ROWS = 500
"""Rows that are compared at most, of reference and requests each."""
FEWEST = 20
"""Rows of either below which nothing is compared."""


class Discrepancy:
    """Compares vectors by the unbiased maximum mean discrepancy (Gretton et al. 2012, equation 3).

    The kernel is exp(-d^2 / median d^2), the median over pairs of the reference. Without a change the
    discrepancy times m n / (m + n) is distributed as the sum over i of l_i (Z_i^2 - 1), with the eigenvalues
    l_i of the centred kernel (theorem 12 there, for two samples of any sizes). Its second and third cumulant
    are sums of l^2 and l^3, which are estimated from the reference alone, once and without bias by U-centring
    (Szekely & Rizzo 2014, equation 2.4), and a shifted chi-squared distribution that has them gives the p
    value (Liu, Tang & Zhang 2009).

    Args:
        vectors: (r, width) of the reference; rows that are not finite are left out.
    """

    method = "maximum mean discrepancy"

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = some(vectors)
        count = len(self.vectors)
        self.second = self.third = self.within = 0.0
        self.scale = 1.0
        if count < FEWEST:
            return
        distances = squared_distances(self.vectors, self.vectors)
        apart = ~np.eye(count, dtype=bool)
        middle = float(np.median(distances[apart]))
        # More than half of the pairs may be equal where inputs repeat.
        self.scale = middle or float(distances[apart].mean()) or 1.0
        kernel = np.exp(-distances / self.scale)
        np.fill_diagonal(kernel, 0.0)
        self.within = float(kernel.sum() / (count * (count - 1)))
        centred = _u_centred(kernel)
        square = centred @ centred
        self.second = float(np.trace(square) / (count * (count - 3)))
        self.third = float((square * centred).sum() / (count * (count - 1) * (count - 2)))

    def compare(self, values: np.ndarray) -> Found | None:
        """The discrepancy and its p value.

        Args:
            values: (n, width); of more than 500 rows every few are taken.

        Returns:
            None for fewer than 20 rows of either, and where those of the reference are all the same.

        Raises:
            SettingError: Where the width is not the reference's.
        """
        rows = some(values)
        if len(rows) and rows.shape[1] != self.vectors.shape[1]:
            raise SettingError(
                f"Features have {rows.shape[1]} numbers, those of the reference {self.vectors.shape[1]}.",
                "Judge requests against the reference of the model that answered them.",
            )
        if min(len(rows), len(self.vectors)) < FEWEST or self.second <= 1e-12:
            return None
        n, m = len(rows), len(self.vectors)
        own = (self._kernel(rows, rows).sum() - n) / (n * (n - 1))
        squared = self.within + own - 2 * float(self._kernel(rows, self.vectors).mean())
        statistic = m * n / (m + n) * squared / math.sqrt(2 * self.second)
        return Found(math.sqrt(max(0.0, squared)), _tail(statistic, self.third / self.second**1.5))

    def witness(self, values: np.ndarray) -> Witness:
        """How much nearer a row is to these values than to the reference (Gretton et al. 2012, equation 2.3
        of the witness function)."""
        rows = some(values)

        def score(asked: np.ndarray) -> np.ndarray:
            return np.asarray(
                self._kernel(asked, rows).mean(axis=1) - self._kernel(asked, self.vectors).mean(axis=1)
            )

        own = (self.within * (len(self.vectors) - 1) + 1) / len(self.vectors)
        # A reference row's nearness to itself says nothing of where others lie.
        mean = float(score(self.vectors).mean()) + own - self.within
        return Witness(score, mean, len(self.vectors))

    def _kernel(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(-squared_distances(first, second) / self.scale))


def some(vectors: np.ndarray) -> np.ndarray:
    """At most 500 of the finite rows, evenly spaced, in float64."""
    rows = np.asarray(vectors, dtype=np.float64)
    rows = rows[np.isfinite(rows).all(axis=1)]
    return rows if len(rows) <= ROWS else rows[np.linspace(0, len(rows) - 1, ROWS).astype(np.int64)]


def squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, m) squared Euclidean distances, at least 0."""
    lengths = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)
    return np.asarray(np.maximum(0.0, lengths - 2 * first @ second.T))


def _u_centred(kernel: np.ndarray) -> np.ndarray:
    """A symmetric matrix with a diagonal of 0, its rows centred without it."""
    count = len(kernel)
    rows = kernel.sum(axis=1) / (count - 2)
    centred = kernel - rows[:, None] - rows + kernel.sum() / ((count - 1) * (count - 2))
    np.fill_diagonal(centred, 0.0)
    return np.asarray(centred)


def _tail(statistic: float, third: float) -> float:
    """P(X >= statistic) of a standardised sum of l (Z^2 - 1), by its third cumulant over the second's 3/2."""
    from scipy.special import chdtrc, ndtr

    if third < 1e-2:  # the sum of very many small terms is normal
        return float(ndtr(-statistic))
    freedom = 1 / third**2
    return float(chdtrc(freedom, max(0.0, statistic * math.sqrt(2 * freedom) + freedom)))
