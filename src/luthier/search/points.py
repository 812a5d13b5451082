"""`Points`: recipes that no result has led to, the space's centre and then quasi-random ones, none twice.

What is done with them lives in the strategies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from luthier.recipe import Recipe
from luthier.space import Space

_PATIENCE = 1000
"""Points in a row that bring nothing new, after which the space counts as used up."""


def sobol(size: int, seed: int | Sequence[int]) -> Any:
    """A scrambled Sobol sequence, a `scipy.stats.qmc.Sobol`, from its beginning.

    Args:
        size: Its dimensions, at least one.
        seed: Of the scrambling.
    """
    from scipy.stats import qmc

    return qmc.Sobol(size, scramble=True, seed=np.random.default_rng(seed))


class Points:
    """The space's default, the centre of its priors, and then points of a scrambled Sobol sequence.

    A low-discrepancy sequence covers the space more evenly than independent draws do (Sobol 1967; scrambling
    after Owen 1998 and Matousek 1998, as SciPy implements it). No recipe comes twice; when points bring
    nothing new for long, which happens in small spaces only, the space is used up. Calls in the same order
    give the same recipes, so a strategy restores its points by repeating its calls.

    Args:
        space: Where the points lie; they go through its priors.
        seed: Of the scrambling.

    Attributes:
        upcoming: What `take` gives next; None when the space is used up.
    """

    def __init__(self, space: Space, seed: int) -> None:
        size = len(space.dimensions)
        self._space = space
        self._sobol = sobol(size, seed) if size else None
        self._seen: set[Recipe] = set()
        self.upcoming: Recipe | None = space.default()

    def __contains__(self, recipe: Recipe) -> bool:
        """Whether a recipe was taken or added."""
        return recipe in self._seen

    def take(self) -> Recipe:
        """The next recipe.

        Raises:
            IndexError: The space is used up.
        """
        if self.upcoming is None:
            raise IndexError("the space is used up")
        recipe = self.upcoming
        self.add(recipe)
        return recipe

    def add(self, recipe: Recipe) -> None:
        """Counts a recipe as used, also one from elsewhere, so that it does not come (again)."""
        self._seen.add(recipe)
        if recipe == self.upcoming:
            self.upcoming = self._draw()

    def _draw(self) -> Recipe | None:
        if self._sobol is not None:
            for _ in range(_PATIENCE):
                recipe = self._space.sample(self._sobol.random(1)[0])
                if recipe not in self._seen:
                    return recipe
        return None
