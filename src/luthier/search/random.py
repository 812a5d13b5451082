"""`Random`: quasi-random search. Scrambled Sobol points, mapped through the priors of the space."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from luthier.recipe import Recipe
from luthier.search.base import Order, Report, Strategy
from luthier.space import Space

_PATIENCE = 1000
"""Points in a row that bring nothing new, after which the space counts as used up."""


class Random(Strategy):
    """Trial 0 is the space's default, the centre of its priors; the rest are points of a scrambled Sobol
    sequence.

    Random search finds what matters with fewer trials than a grid where few settings matter (Bergstra &
    Bengio 2012), and a low-discrepancy sequence covers the space more evenly than independent draws do (Sobol
    1967; scrambling after Owen 1998 and Matousek 1998, as SciPy implements it). Every trial goes to the last
    epoch its recipe allows. No recipe is proposed twice; when points bring nothing new for long, which
    happens in small spaces only, the search is finished.
    """

    name: ClassVar[str] = "random"

    def __init__(self, space: Space, seed: int = 0, option: str = "") -> None:
        from scipy.stats import qmc

        super().__init__(space, seed, option)
        size = len(space.dimensions)
        self._points = qmc.Sobol(size, scramble=True, seed=np.random.default_rng(seed)) if size else None
        self._drawn = 0
        self._trials = 0
        self._seen: set[Recipe] = set()
        self._next: Recipe | None = space.default()

    def ask(self, room: int) -> list[Order]:
        """The next ``room`` recipes, fewer where the space is used up."""
        orders: list[Order] = []
        while len(orders) < room and self._next is not None:
            orders.append(Order(self._trials, self._next, self._next.epochs))
            self._take()
        return orders

    def _take(self) -> None:
        """Counts the recipe in hand as proposed, and draws the one after it."""
        assert self._next is not None
        self._seen.add(self._next)
        self._trials += 1
        self._next = None
        for _ in range(_PATIENCE if self._points is not None else 0):
            assert self._points is not None
            self._drawn += 1
            recipe = self.space.sample(self._points.random(1)[0])
            if recipe not in self._seen:
                self._next = recipe
                return

    def tell(self, report: Report) -> None:
        """Results change nothing: points are chosen beforehand."""

    @property
    def finished(self) -> bool:
        """Whether every recipe that the points lead to has been proposed."""
        return self._next is None

    def state(self) -> dict[str, Any]:
        """How many trials were proposed: the points follow from the seed."""
        return {"trials": self._trials}

    def restore(self, state: dict[str, Any]) -> None:
        """Draws again up to where the state was taken."""
        while self._trials < state["trials"]:
            self._take()
