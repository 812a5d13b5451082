"""`Random`: quasi-random search. Where its points come from lives in `points`."""

from __future__ import annotations

from typing import Any, ClassVar

from luthier.search.base import Order, Report, Strategy
from luthier.search.points import Points
from luthier.space import Space


class Random(Strategy):
    """Trial 0 is the space's default, the centre of its priors; the rest are points of a scrambled Sobol
    sequence.

    Random search finds what matters with fewer trials than a grid where few settings matter (Bergstra &
    Bengio 2012). Every trial goes to the last epoch its recipe allows. No recipe is proposed twice; when
    points bring nothing new for long, which happens in small spaces only, the search is finished.
    """

    name: ClassVar[str] = "random"

    def __init__(self, space: Space, seed: int = 0, option: str = "") -> None:
        super().__init__(space, seed, option)
        self._points = Points(space, seed)
        self._trials = 0

    def ask(self, room: int) -> list[Order]:
        """The next ``room`` recipes, fewer where the space is used up."""
        orders: list[Order] = []
        while len(orders) < room and self._points.upcoming is not None:
            recipe = self._points.take()
            orders.append(Order(self._trials, recipe, recipe.epochs))
            self._trials += 1
        return orders

    def tell(self, report: Report) -> None:
        """Results change nothing: points are chosen beforehand."""

    @property
    def finished(self) -> bool:
        """Whether every recipe that the points lead to has been proposed."""
        return self._points.upcoming is None

    def state(self) -> dict[str, Any]:
        """How many trials were proposed: the points follow from the seed."""
        return {"trials": self._trials}

    def restore(self, state: dict[str, Any]) -> None:
        """Draws again up to where the state was taken."""
        while self._trials < state["trials"]:
            self._points.take()
            self._trials += 1
