"""`Cube`: points of a space's unit cube as a model of scores sees them.

Nothing here knows scores, or how points come about.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from luthier.space import Choice, Number, Space
from luthier.space.domain import Domain

CATEGORY = 0.12
"""Value of a category's column: two categories lie this times the square root of two apart, about as far
as a mutation moves a range. Farther apart, what differs in every category would always count as the least
explored.
"""
INACTIVE = 0.5
"""Column of a range that does not apply: its middle, so that it says nothing."""

_PROBES = 32
_CLOSE = 1e-4


class Cube:
    """Maps points of the unit cube to rows of numbers between which distances mean something.

    A range is its coordinate, an integer the middle of its slice (all points of a slice are one recipe), a
    choice one column a value. What does not apply is constant.

    Args:
        space: Whose cube it is.

    Attributes:
        uneven: Whether most points stand for a recipe that lies elsewhere, as in a space that is a list of
            recipes.
        categorical: (dimensions,) whether a setting is a choice in one of its alternatives: its coordinate
            has no order.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self._ends: dict[Domain, np.ndarray] = {}
        self._middles: dict[Domain, np.ndarray] = {}
        self.categorical = np.array(
            [
                any(isinstance(one.domain, Choice) and one.domain.varies for one in space.settings[name])
                for name in space.dimensions
            ],
            dtype=bool,
        )

    @cached_property
    def uneven(self) -> bool:
        """Found out by trying a few points."""
        points = np.random.default_rng(0).random((_PROBES, len(self.space.dimensions)))
        places = np.array([self.space.encode(self.space.sample(point)) for point in points])
        same = np.isclose(self(points), self(places.reshape(points.shape)), atol=_CLOSE).all(axis=1)
        return bool(same.mean() < 0.5)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """The features of points.

        Args:
            points: (n, dimensions) in [0, 1]; coordinates of inactive settings are ignored, and may be NaN.

        Returns:
            (n, features) without NaN.
        """
        points = np.asarray(points, dtype=np.float64)
        known: dict[str, np.ndarray] = {}
        columns: list[np.ndarray] = []
        for at, name in enumerate(self.space.dimensions):
            which = self._applies(name, points, known)
            columns += self._range_column(name, points[:, at], which)
            columns += self._choice_columns(name, points[:, at], which)
        return np.column_stack(columns) if columns else np.zeros((len(points), 0))

    def _range_column(self, name: str, units: np.ndarray, which: np.ndarray) -> list[np.ndarray]:
        alternatives = self.space.settings[name]
        if not any(isinstance(one.domain, Number) for one in alternatives):
            return []
        column = np.full(len(units), INACTIVE)
        for number, domain in enumerate(one.domain for one in alternatives):
            rows = which == number
            if isinstance(domain, Number) and rows.any():
                column[rows] = self._middle(domain, units[rows]) if domain.discrete else units[rows]
        return [column]

    def _choice_columns(self, name: str, units: np.ndarray, which: np.ndarray) -> list[np.ndarray]:
        choices = [
            (number, one.domain)
            for number, one in enumerate(self.space.settings[name])
            if isinstance(one.domain, Choice) and one.domain.varies
        ]
        listed = list(dict.fromkeys(value for _, domain in choices for value in domain.values))
        block = np.zeros((len(units), len(listed)))
        for number, domain in choices:
            rows = np.flatnonzero(which == number)
            places = np.array([listed.index(value) for value in domain.values])
            block[rows, places[self._index(domain, units[rows])]] = CATEGORY
        return list(block.T)

    # -- listed values --------------------------------------------------------------------------------------

    def _index(self, domain: Domain, units: np.ndarray) -> np.ndarray:
        """Which of a domain's listed values each coordinate stands for: `quantile` for many at once."""
        if domain not in self._ends:
            self._ends[domain] = np.cumsum([domain.mass(value) for value in domain.listed()])
        ends = self._ends[domain]
        places: np.ndarray = np.minimum(np.searchsorted(ends, units, side="right"), len(ends) - 1)
        return places

    def _middle(self, domain: Domain, units: np.ndarray) -> np.ndarray:
        if domain not in self._middles:
            self._middles[domain] = np.array([domain.unit(value) for value in domain.listed()])
        middles: np.ndarray = self._middles[domain][self._index(domain, units)]
        return middles

    # -- conditions -----------------------------------------------------------------------------------------

    def _applies(self, name: str, points: np.ndarray, known: dict[str, np.ndarray]) -> np.ndarray:
        """(n,) the alternative of a setting that applies at each point, -1 where none does."""
        if name not in known:
            which = np.full(len(points), -1)
            for number, one in reversed(list(enumerate(self.space.settings[name]))):
                holds = np.ones(len(points), dtype=bool)
                for parent, wanted in one.when.items():
                    holds &= self._is_one_of(parent, wanted, points, known)
                which[holds] = number
            known[name] = which
        return known[name]

    def _is_one_of(
        self, name: str, wanted: tuple[object, ...], points: np.ndarray, known: dict[str, np.ndarray]
    ) -> np.ndarray:
        """(n,) whether a setting, which has listed values, is active with one of those that are wanted."""
        which = self._applies(name, points, known)
        dimensions = self.space.dimensions
        units = points[:, dimensions.index(name)] if name in dimensions else np.zeros(len(points))
        holds = np.zeros(len(points), dtype=bool)
        for number, domain in enumerate(one.domain for one in self.space.settings[name]):
            rows = which == number
            among = np.array([value in wanted for value in domain.listed()])
            holds[rows] = among[self._index(domain, units[rows])]
        return holds
