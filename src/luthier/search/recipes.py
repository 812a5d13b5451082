"""Recipes as strategies keep them, and what they need to know of all recipes of a space. No search here."""

from __future__ import annotations

from typing import Any

from luthier.recipe import Recipe
from luthier.space import Choice, Space


def plain(recipe: Recipe) -> dict[str, Any]:
    """The settings that are not at their defaults."""
    return recipe.model_dump(exclude_defaults=True)


def rebuilt(values: dict[str, Any]) -> Recipe:
    """The recipe that `plain` wrote."""
    return Recipe.parse(values)


def most_epochs(space: Space) -> int:
    """Epochs of the longest recipe that a space can draw."""
    if "epochs" not in space.settings:
        return space.default().epochs
    domains = [one.domain for one in space.settings["epochs"]]
    return max(int(max(d.values) if isinstance(d, Choice) else d.high) for d in domains)
