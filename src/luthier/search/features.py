"""`Features`: points of a space's unit cube as a model of scores sees them, all columns active and comparable.

Nothing here knows scores, or how points come about.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from luthier.space import Choice, Number, Space

CATEGORY = 0.5
"""Value of a category's column: two categories lie this times the square root of two apart, about as far as two
random points of a range's unit interval and somewhat more."""
INACTIVE = 0.5
"""Column of a range that does not apply: its middle, so that it says nothing."""
_MOST = 1000
"""Integers of a range up to which points are moved to the middle of their integer's slice."""


class Features:
    """Maps points of the unit cube to rows of numbers between which distances mean something.

    A range is its coordinate, an integer the middle of its slice (all points of a slice are one recipe), a
    choice one column a value. What does not apply is constant.

    Args:
        space: Whose cube it is.

    Attributes:
        categorical: (dimensions,) whether a setting is a choice in one of its alternatives: its coordinate has no
            order.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.categorical = np.array(
            [
                any(isinstance(one.domain, Choice) and one.domain.varies for one in space.settings[name])
                for name in space.dimensions
            ],
            dtype=bool,
        )

    @cached_property
    def _slices(self) -> dict[Number, tuple[np.ndarray, np.ndarray]]:
        """Of each short integer range: where the slices of its integers end, and their middles."""
        found = {}
        for alternatives in self.space.settings.values():
            for domain in (one.domain for one in alternatives):
                if isinstance(domain, Number) and domain.integer and domain.high - domain.low < _MOST:
                    listed = domain.listed()
                    ends = np.cumsum([domain.mass(value) for value in listed])
                    found[domain] = ends, np.array([domain.unit(value) for value in listed])
        return found

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """The features of points.

        Args:
            points: (n, dimensions) in [0, 1]; coordinates of inactive settings are ignored, and may be NaN.

        Returns:
            (n, features) without NaN.
        """
        points = np.asarray(points, dtype=np.float64)
        applies: dict[str, np.ndarray] = {}
        columns: list[np.ndarray] = []
        for at, name in enumerate(self.space.dimensions):
            which = self._applies(name, points, applies)
            columns += self._range_columns(name, points[:, at], which)
            columns += self._choice_columns(name, points[:, at], which)
        return np.column_stack(columns) if columns else np.zeros((len(points), 0))

    def _range_columns(self, name: str, units: np.ndarray, which: np.ndarray) -> list[np.ndarray]:
        alternatives = self.space.settings[name]
        if not any(isinstance(one.domain, Number) for one in alternatives):
            return []
        column = np.full(len(units), INACTIVE)
        for number, one in enumerate(alternatives):
            rows = which == number
            if isinstance(one.domain, Number) and rows.any():
                column[rows] = self._snapped(one.domain, units[rows])
        return [column]

    def _snapped(self, domain: Number, units: np.ndarray) -> np.ndarray:
        if domain not in self._slices:
            return units
        ends, middles = self._slices[domain]
        return middles[np.minimum(np.searchsorted(ends, units, side="right"), len(middles) - 1)]

    def _choice_columns(self, name: str, units: np.ndarray, which: np.ndarray) -> list[np.ndarray]:
        choices = [
            (number, one.domain)
            for number, one in enumerate(self.space.settings[name])
            if isinstance(one.domain, Choice) and one.domain.varies
        ]
        listed = list(dict.fromkeys(value for _, domain in choices for value in domain.values))
        block = np.zeros((len(units), len(listed)))
        for number, domain in choices:
            for row in np.flatnonzero(which == number):
                block[row, listed.index(domain.quantile(float(units[row])))] = CATEGORY
        return list(block.T)

    def _applies(self, name: str, points: np.ndarray, known: dict[str, np.ndarray]) -> np.ndarray:
        """(n,) the alternative of a setting that applies at each point, -1 where none does."""
        if name not in known:
            which = np.full(len(points), -1)
            for number, one in reversed(list(enumerate(self.space.settings[name]))):
                holds = np.ones(len(points), dtype=bool)
                for parent, wanted in one.when.items():
                    holds &= [value in wanted for value in self._values(parent, points, known)]
                which[holds] = number
            known[name] = which
        return known[name]

    def _values(self, name: str, points: np.ndarray, known: dict[str, np.ndarray]) -> list[object]:
        """The value of a setting that conditions look at, at each point; this class where it is inactive."""
        which = self._applies(name, points, known)
        domains = [one.domain for one in self.space.settings[name]]
        dimensions = self.space.dimensions
        units = points[:, dimensions.index(name)] if name in dimensions else np.zeros(len(points))
        return [
            Features if number < 0 else domains[number].quantile(float(unit))
            for number, unit in zip(which, units, strict=True)
        ]
