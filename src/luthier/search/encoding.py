"""`Encoding`: recipes as the rows of numbers that a surrogate of one space is fitted to, and what the space
believes of them. Where recipes come from lives in `candidates`, what became of them in `observations`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from luthier.recipe import Recipe
from luthier.space import Space
from luthier.space.domain import Choice, Domain, Number

CENTRE = 0.5
"""Where an inactive setting is put. Any constant keeps two recipes without the setting equal in it; the
centre makes the step from having the setting to not having it no larger than half its range, and the setting
that the condition looks at says the rest."""


@dataclass(frozen=True)
class Encoded:
    """Recipes, and where they lie.

    Attributes:
        recipes: Recipes of the space.
        units: (recipes, dimensions) coordinates as of `Space.encode`, NaN where a setting is inactive.
        rows: (recipes, width) features, for the whole of a training.
        beliefs: (recipes,) logarithm of the prior probability of the choices, relative to even ones. Beliefs
            on ranges are in the coordinates.
    """

    recipes: list[Recipe]
    units: np.ndarray
    rows: np.ndarray
    beliefs: np.ndarray


class Encoding:
    """The columns of a space, in the order of its dimensions.

    A range is one column, its coordinate in the unit cube: the prior's distribution function is applied, so
    that equal distances are equal shares of the belief, and a logarithmic range is in its logarithm. Choices
    between numbers are one column too, their rank. Other choices have a column for each value, scaled such
    that two different values are at distance 1, like the two ends of a range; an inactive one has no value.
    The last column is the share of the training after which a score was seen.

    Args:
        space: Any space, also a list.

    Attributes:
        width: Number of columns.
        group: (width,) the dimension that each column belongs to; the share counts as one more.
        smooth: (width,) whether the column is the coordinate of a range, which an optimizer can move.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self._at = {name: at for at, name in enumerate(space.dimensions)}
        self._values = [_listed(space, name) for name in space.dimensions]
        self._ranks = [_ranks(values) for values in self._values]
        widths = [
            1 if values is None or ranks is not None else len(values)
            for values, ranks in zip(self._values, self._ranks, strict=True)
        ]
        self.width = sum(widths) + 1
        self.group = np.repeat(np.arange(len(widths) + 1), [*widths, 1])
        ranges = [values is None for values in self._values]
        self.smooth = np.array([*ranges, False])[self.group]

    def points(self, recipes: Sequence[Recipe]) -> Encoded:
        """Where recipes of the space lie."""
        units = np.full((len(recipes), len(self._at)), np.nan)
        beliefs = np.zeros(len(recipes))
        for row, recipe in enumerate(recipes):
            for name, domain in self.space.active(recipe).items():
                if domain.varies:
                    value = getattr(recipe, name)
                    units[row, self._at[name]] = domain.unit(value)
                    if isinstance(domain, Choice):
                        beliefs[row] += math.log(domain.mass(value) * len(domain.values))
        return Encoded(list(recipes), units, self._rows(recipes, units), beliefs)

    def _rows(self, recipes: Sequence[Recipe], units: np.ndarray) -> np.ndarray:
        columns = [self._columns(at, name, recipes, units[:, at]) for name, at in self._at.items()]
        return np.concatenate([*columns, np.ones((len(recipes), 1))], axis=1)

    def _columns(self, at: int, name: str, recipes: Sequence[Recipe], unit: np.ndarray) -> np.ndarray:
        """(recipes, columns) of one setting."""
        values, ranks = self._values[at], self._ranks[at]
        if values is None:
            return np.where(np.isnan(unit), CENTRE, unit)[:, None]
        off = np.isnan(unit)
        # An inactive setting has the recipe's default, which need not be among the values.
        chosen = np.array(
            [
                0 if absent else values.index(getattr(recipe, name))
                for recipe, absent in zip(recipes, off, strict=True)
            ],
            dtype=np.int64,
        )
        if ranks is not None:
            return np.where(off, CENTRE, ranks[chosen])[:, None]
        hot = np.eye(len(values))[chosen] / math.sqrt(2.0)
        hot[off] = 0.0
        return hot


def _listed(space: Space, name: str) -> list[Any] | None:
    """All values of a setting that is a choice in some branch, None for one that is a range in any."""
    domains: list[Domain] = [alternative.domain for alternative in space.settings[name]]
    if any(isinstance(domain, Number) for domain in domains):
        return None
    return list(dict.fromkeys(value for domain in domains for value in domain.listed()))


def _ranks(values: list[Any] | None) -> np.ndarray | None:
    """(values,) positions in [0, 1] of values that are all numbers, by size; None for others."""
    if values is None or any(isinstance(one, bool) or not isinstance(one, int | float) for one in values):
        return None
    order = sorted(values)
    return np.array([order.index(value) / max(1, len(order) - 1) for value in values])
