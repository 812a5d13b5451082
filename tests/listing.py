"""A space that is a list of recipes: what a strategy meets where only some combinations exist."""

from __future__ import annotations

import numpy as np

from luthier.recipe import Recipe
from luthier.space import Space


class Listing(Space):
    """Draws the recipe of a list that is nearest to a point.

    Args:
        space: Where the recipes are drawn.
        size: How many.
    """

    def __init__(self, space: Space, size: int) -> None:
        super().__init__(space.settings, space.forbidden)
        points = np.random.default_rng(7).random((size, len(space.dimensions)))
        self.recipes = list(dict.fromkeys(space.sample(point) for point in points))
        self._places = np.array([space.encode(recipe) for recipe in self.recipes])

    def sample(self, unit: np.ndarray) -> Recipe:
        return self.recipes[int(((self._places - unit) ** 2).sum(axis=1).argmin())]

    def default(self) -> Recipe:
        return self.recipes[0]

    def contains(self, recipe: Recipe) -> bool:
        return recipe in self.recipes
