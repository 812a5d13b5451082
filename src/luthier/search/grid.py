"""`Grid`: every combination of listed values, in order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, ClassVar

from luthier.recipe import Recipe
from luthier.search.base import Order, Report, Strategy
from luthier.space import Space

MANY = 200
"""Recipes above which a grid is worth a warning."""


class Grid(Strategy):
    """All combinations of a space's values; the last-named setting changes fastest, and priors play no part.

    Args:
        space: Its continuous ranges need ``values`` or ``steps``.
        seed: Not used: a grid has an order.

    Raises:
        SettingError: A continuous range has neither, naming the setting.
    """

    name: ClassVar[str] = "grid"
    uses_priors: ClassVar[bool] = False

    def __init__(self, space: Space, seed: int = 0, option: str = "") -> None:
        super().__init__(space, seed, option)
        self._size = space.grid_size()
        self._recipes: Iterator[Recipe] = space.grid()
        self._trials = 0

    def ask(self, room: int) -> list[Order]:
        """The next ``room`` recipes, fewer at the end of the grid."""
        orders = [
            Order(self._trials + at, recipe, recipe.epochs)
            for at, recipe in enumerate(islice(self._recipes, room))
        ]
        self._trials += len(orders)
        return orders

    def tell(self, report: Report) -> None:
        """Results change nothing."""

    @property
    def finished(self) -> bool:
        """Whether every combination has been proposed."""
        return self._trials >= self._size

    def state(self) -> dict[str, Any]:
        """How far along the grid it is."""
        return {"trials": self._trials}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        self._trials = state["trials"]
        self._recipes = islice(self.space.grid(), self._trials, None)

    def total(self) -> int:
        """The number of combinations."""
        return self._size

    def notes(self) -> list[str]:
        """A warning where the grid is so large that a budget is unlikely to reach its end."""
        if self._size <= MANY:
            return []
        return [
            f"The grid has {self._size} recipes and is tried in order: when the budget ends, values listed "
            "last will not have been tried. The random strategy covers the same space evenly at any time."
        ]
