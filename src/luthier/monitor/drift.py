"""Two-sample comparisons of one column: shares of categories by chi-squared, numbers by Kolmogorov-Smirnov.

Both take the reference to be a sample as finite as the requests are. Whole vectors are compared in
`luthier.monitor.kernel`; what is compared and when it counts is said by `luthier.monitor.judge`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

EXPECTED = 5.0
"""Expected count below which categories are pooled (Cochran 1954)."""
DISCRETE = 20
"""Numbers of at most this many distinct values are categories: Kolmogorov-Smirnov is too cautious on ties."""


class Found(NamedTuple):
    """What a comparison says.

    Attributes:
        effect: Size of the difference, 0 for none.
        p: Probability of such a difference by chance.
    """

    effect: float
    p: float


@dataclass(frozen=True)
class Witness:
    """A score of single rows that shows a difference: requests have a higher mean than the reference.

    Attributes:
        score: From (n, ...) values of the column to (n,) scores.
        mean: Of the score over the reference.
        n: Rows of the reference.
    """

    score: Callable[[np.ndarray], np.ndarray]
    mean: float
    n: int


class Comparison(Protocol):
    """Compares values of requests with those of the reference."""

    method: str

    def compare(self, values: np.ndarray) -> Found | None:
        """The difference of (n, ...) values to the reference; None where they cannot be compared."""
        ...

    def witness(self, values: np.ndarray) -> Witness:
        """What shows the difference of these values on single rows."""
        ...


class Shares:
    """Compares how often each category occurs, by Pearson's chi-squared test of homogeneity.

    Args:
        counts: Occurrences of each of the known ``categories`` in the reference.
        categories: Their values, ascending.
    """

    method = "chi-squared"

    def __init__(self, counts: np.ndarray, categories: np.ndarray) -> None:
        self.counts = np.asarray(counts, dtype=np.float64)
        self.categories = np.asarray(categories)

    @classmethod
    def of(cls, values: np.ndarray) -> Shares:
        """From the reference's own values."""
        categories, counts = np.unique(values, return_counts=True)
        return cls(counts, categories)

    def compare(self, values: np.ndarray) -> Found | None:
        """The total variation distance of the shares, and the p value; None without values."""
        mine, theirs, _ = self._counts(values)
        if not mine.sum() or not theirs.sum():
            return None
        return Found(
            float(np.abs(mine / mine.sum() - theirs / theirs.sum()).sum() / 2), homogeneity(mine, theirs)
        )

    def witness(self, values: np.ndarray) -> Witness:
        """The log-ratio of a category's shares, each shrunk as if it had been seen half a time more."""
        mine, theirs, categories = self._counts(values)
        shares = [(one + 0.5) / (one.sum() + 0.5 * len(one)) for one in (mine, theirs)]
        ratio = np.log(shares[1] / shares[0])

        def score(rows: np.ndarray) -> np.ndarray:
            place = np.clip(np.searchsorted(categories, rows), 0, len(categories) - 1)
            # A category that neither has is as unlike the reference as any.
            return np.asarray(np.where(categories[place] == rows, ratio[place], ratio.max()))

        return Witness(score, float((ratio * mine).sum() / max(mine.sum(), 1)), int(mine.sum()))

    def _counts(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Counts of the reference and of the values over the categories of either, and these."""
        categories = np.union1d(self.categories, values)
        mine, theirs = np.zeros(len(categories)), np.zeros(len(categories))
        mine[np.searchsorted(categories, self.categories)] = self.counts
        np.add.at(theirs, np.searchsorted(categories, values), 1)
        return mine, theirs, categories


def homogeneity(first: np.ndarray, second: np.ndarray) -> float:
    """The p value of Pearson's chi-squared test that two samples have the same shares.

    Categories of which fewer than 5 are expected in the smaller sample are pooled, the rarest first.

    Args:
        first: (k,) counts, not all of them 0.
        second: (k,) counts, not all of them 0.

    Returns:
        1 where fewer than two categories are left.
    """
    from scipy.special import chdtrc

    order = np.argsort(first + second, kind="stable")
    table = np.stack([first, second])[:, order].astype(np.float64)
    total = table.sum()
    wanted = EXPECTED * total / table.sum(axis=1).min()
    # As few of the rarest as make a category that is large enough, with all that are too rare in it.
    pooled = max(
        int(np.searchsorted(np.cumsum(table.sum(axis=0)), wanted - 1e-9)) + 1,
        int((table.sum(axis=0) < wanted).sum()),
    )
    if table.sum(axis=0)[0] < wanted:
        table = np.concatenate([table[:, :pooled].sum(axis=1, keepdims=True), table[:, pooled:]], axis=1)
    if table.shape[1] < 2:
        return 1.0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / total
    return float(chdtrc(table.shape[1] - 1, ((table - expected) ** 2 / expected).sum()))


class Numbers:
    """Compares numbers by the Kolmogorov-Smirnov test of two samples.

    Args:
        values: (m,) of the reference, finite.
    """

    method = "Kolmogorov-Smirnov"

    def __init__(self, values: np.ndarray) -> None:
        self.values = np.sort(np.asarray(values, dtype=np.float64))

    def compare(self, values: np.ndarray) -> Found | None:
        """The largest distance of the distribution functions, and its asymptotic p value with the
        correction of Stephens (1970) for finite samples; ties make it larger. None without values."""
        from scipy.special import kolmogorov

        if not len(values) or not len(self.values):
            return None
        _, gap = self._gaps(values)
        distance = float(np.abs(gap).max())
        root = np.sqrt(len(values) * len(self.values) / (len(values) + len(self.values)))
        return Found(distance, float(kolmogorov((root + 0.12 + 0.11 / root) * distance)))

    def witness(self, values: np.ndarray) -> Witness:
        """Whether a number lies on that side of the largest distance where requests are more frequent; the
        further beyond it, the higher, by less than 1e-3."""
        points, gap = self._gaps(values)
        at = int(np.abs(gap).argmax())
        border, lower = points[at], gap[at] > 0
        width = float(np.ptp(points)) or 1.0

        def score(rows: np.ndarray) -> np.ndarray:
            beyond = (border - rows if lower else rows - border) / width
            inside = rows <= border if lower else rows > border
            return np.asarray(inside + 1e-3 * np.tanh(beyond))

        return Witness(score, float(score(self.values).mean()), len(self.values))

    def _gaps(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All points, and how much higher the requests' distribution function is there."""
        ordered = np.sort(values)
        points = np.concatenate([self.values, ordered])
        mine = np.searchsorted(self.values, points, side="right") / len(self.values)
        return points, np.searchsorted(ordered, points, side="right") / len(ordered) - mine


def column(values: np.ndarray) -> Shares | Numbers | None:
    """The comparison that fits a column of the reference.

    Args:
        values: (m,); those that are not finite count as unknown.

    Returns:
        `Shares` for at most 20 distinct values, `Numbers` for more, None where none is known.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return None
    return Shares.of(known) if len(np.unique(known)) <= DISCRETE else Numbers(known)
