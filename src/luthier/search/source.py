"""`Source`: where a schedule's new trials come from, numbered: `Points`, or points and a model (`bohb`)."""

from __future__ import annotations

from typing import Any

from luthier.recipe import Recipe
from luthier.search.points import Points
from luthier.space import Space


class Source:
    """New trials in the order of their numbers; their recipes are those of `Points`.

    Args:
        space: Where recipes come from.
        seed: Of all randomness.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._points = Points(space, seed)
        self._drawn = 0

    @property
    def fresh(self) -> bool:
        """Whether there is another recipe."""
        return self._points.upcoming is not None

    def draw(self) -> tuple[int, Recipe]:
        """The next trial's number and recipe. Raises IndexError where there is none."""
        recipe = self._take(self._drawn)
        self._drawn += 1
        return self._drawn - 1, recipe

    def _take(self, trial: int) -> Recipe:
        return self._points.take()

    def observe(self, trial: int, rung: int, score: float) -> None:
        """Takes note of the score, -inf for none, with which a trial has reached a rung."""

    def state(self) -> dict[str, Any]:
        """Everything needed to continue, as plain JSON values."""
        return {"drawn": self._drawn}

    def restore(self, state: dict[str, Any]) -> list[Recipe]:
        """Continues from what ``state()`` returned; the recipes of all trials drawn until then."""
        return [self.draw()[1] for _ in range(state["drawn"])]
