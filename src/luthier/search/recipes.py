"""Recipes as JSON values and back, for the states of strategies."""

from __future__ import annotations

from typing import Any

from luthier.recipe import Recipe
from luthier.space import Space


def plain(recipe: Recipe, space: Space) -> dict[str, Any]:
    """The settings that a space names; all others are the recipe's defaults wherever the space drew it."""
    values = recipe.model_dump(include=set(space.settings))
    return {name: values[name] for name in space.settings}


def rebuilt(values: dict[str, Any]) -> Recipe:
    """The recipe that `plain` wrote."""
    return Recipe.parse(values)
