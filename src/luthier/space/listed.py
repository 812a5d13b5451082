"""`Listed`: a space that is a list of recipes, for choosing among these and no others. How settings vary over
ranges lives in `space`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from luthier.errors import SettingError
from luthier.recipe import Recipe
from luthier.space.domain import Choice, Domain, Number
from luthier.space.parse import Alternative
from luthier.space.space import Space

_POINTS = 4096
_ROUNDS = 150
_LOG_RATIO = 10.0
"""A positive setting whose largest value is at least this many times its smallest is on a logarithmic scale.
"""


class Listed(Space):
    """A finite list of recipes: every strategy proposes these, each at most once, and nothing else.

    In a space file it is the key ``recipes``, each entry the settings of one::

        recipes:
          - {model: minilm, adaptation: full, learning_rate: 1e-4}
          - {model: minilm, adaptation: probe, learning_rate: 1e-2, epochs: 30}

    The first recipe is the space's default, which strategies try first. To a strategy the list is a space
    like another: `dimensions` are the settings in which recipes differ, numbers over the range of the list
    (logarithmic where it spans a factor of ten), others as choices; `encode` gives a recipe's coordinates,
    and `sample` the recipe nearest to a point.

    Args:
        recipes: At least one, all different.
        features: (recipes, features) numbers that describe each recipe beyond its settings, NaN where
            unknown, for strategies that learn; None for none. A feature named like one of
            `luthier.search.features` replaces what would be read off the recipe.
        names: The name of each feature.

    Attributes:
        recipes: As given.
        features: (recipes, features) float64.
        feature_names: As given.

    Raises:
        SettingError: No recipe, or one twice.
        ValueError: The features' shape does not fit recipes and names.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        features: np.ndarray | None = None,
        names: Sequence[str] = (),
    ) -> None:
        if not recipes:
            raise SettingError("A list of recipes needs at least one.", "Write recipes: [{model: NAME}].")
        self.recipes = tuple(recipes)
        self._index = {recipe: at for at, recipe in enumerate(self.recipes)}
        if len(self._index) < len(self.recipes):
            twice = next(recipe for at, recipe in enumerate(recipes) if self._index[recipe] != at)
            raise SettingError(
                f"The recipe {twice.describe()!r} of {twice.model} is listed twice.", "Take one of them out."
            )
        given = np.zeros((len(recipes), 0)) if features is None else np.asarray(features, dtype=np.float64)
        if given.shape != (len(recipes), len(names)):
            raise ValueError(
                f"features of shape {given.shape} for {len(recipes)} recipes, {len(names)} names"
            )
        self.features, self.feature_names = given, tuple(names)
        super().__init__({name: [Alternative(domain)] for name, domain in _domains(self.recipes).items()})

    @classmethod
    def from_entries(cls, space: Mapping[str, Any]) -> Listed:
        """The list from its plain form, as `to_dict` gives it.

        Raises:
            SettingError: There is something beside ``recipes``, or that is no list of mappings; or a setting
                is unknown or out of range.
        """
        if others := [name for name in space if name != "recipes"]:
            raise SettingError(
                f"Space: {others[0]} cannot vary beside recipes, which list every setting.",
                "Move it into each recipe, or take recipes out.",
            )
        entries = space["recipes"]
        if not isinstance(entries, list | tuple) or not all(isinstance(each, Mapping) for each in entries):
            raise SettingError(
                f"Space: recipes must be a list of mappings, not {entries!r}.", "Write - {model: NAME}."
            )
        return cls([_parse(entry) for entry in entries])

    def to_dict(self) -> dict[str, Any]:
        """The plain form, without features: ``recipes``, each with the settings that are not its defaults."""
        return {"recipes": [recipe.model_dump(exclude_defaults=True) for recipe in self.recipes]}

    def with_models(self, models: Sequence[str]) -> Listed:
        """Itself: each recipe names its model."""
        return self

    def index(self, recipe: Recipe) -> int:
        """The recipe's place in the list. Raises KeyError if it is not in it."""
        return self._index[recipe]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Listed) and self.recipes == other.recipes

    __hash__ = None

    def default(self) -> Recipe:
        """The first of the list."""
        return self.recipes[0]

    def contains(self, recipe: Recipe) -> bool:
        """Whether the recipe is in the list."""
        return recipe in self._index

    def sample(self, unit: np.ndarray) -> Recipe:
        """The recipe nearest to a point of the unit cube.

        Distances carry an offset for each recipe, found such that uniform points fall on all recipes about
        equally often (cells of equal volume: semi-discrete optimal transport, Aurenhammer et al. 1998),
        except that a recipe's own coordinates always give that recipe.

        Args:
            unit: (dimensions,) in [0, 1].
        """
        point = np.asarray(unit, dtype=np.float64)
        if point.shape != (len(self.dimensions),):
            raise ValueError(f"a point has shape {point.shape}, the space needs ({len(self.dimensions)},)")
        distances = ((self._encoded - point) ** 2).sum(axis=1)
        at = int(distances.argmin())
        # To the six digits of a value in a table.
        return self.recipes[at if distances[at] < 1e-12 else int((distances - self._offsets).argmin())]

    def encode(self, recipe: Recipe) -> np.ndarray:
        """The recipe's coordinates, (dimensions,) in [0, 1]: ``sample(encode(recipe))`` gives it back.

        Raises:
            SettingError: The recipe is not in the list.
        """
        if recipe not in self._index:
            raise SettingError(f"The recipe {recipe.describe()!r} of {recipe.model} is not in the list.")
        return np.array(self._encoded[self._index[recipe]])

    def grid(self, resolution: int | None = None) -> Iterator[Recipe]:
        """The list, in order, whatever the resolution."""
        return iter(self.recipes)

    def grid_size(self, resolution: int | None = None) -> int:
        """Its length."""
        return len(self.recipes)

    @cached_property
    def _encoded(self) -> np.ndarray:
        """(recipes, dimensions): where each lies."""
        return np.array([super(Listed, self).encode(recipe) for recipe in self.recipes])

    @cached_property
    def _offsets(self) -> np.ndarray:
        """(recipes,): what is taken off the squared distance to each, so that cells have equal volumes."""
        from scipy.stats import qmc

        size, width = self._encoded.shape
        offsets = np.zeros(size)
        if size == 1:
            return offsets
        points = qmc.Sobol(width, scramble=True, seed=np.random.default_rng(0)).random(_POINTS)
        distances = (
            (points**2).sum(axis=1, keepdims=True)
            - 2 * points @ self._encoded.T
            + (self._encoded**2).sum(axis=1)
        )
        for step in range(_ROUNDS):
            share = np.bincount((distances - offsets).argmin(axis=1), minlength=size) * size / _POINTS
            offsets += width * 0.02 / (1 + 0.1 * step) * np.clip(1.0 - share, -2.0, 1.0)
        return offsets


def _parse(entry: Mapping[str, Any]) -> Recipe:
    if "model" not in entry:
        raise SettingError(f"Space: the recipe {dict(entry)!r} names no model.", "Add model: NAME to it.")
    # YAML 1.1 reads 1e-5 as a string; a recipe reads the number in it.
    return Recipe.parse(dict(entry))


def _domains(recipes: Sequence[Recipe]) -> dict[str, Domain]:
    """What each setting of a list may be."""
    found: dict[str, Domain] = {}
    for name, field in Recipe.model_fields.items():
        values = list(dict.fromkeys(getattr(recipe, name) for recipe in recipes))
        if len(values) > 1 or field.is_required() or values[0] != field.default:
            found[name] = _domain(values)
    return found


def _domain(values: list[Any]) -> Domain:
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if len(values) == 1 or not numeric:
        return Choice(tuple(values), (1.0 / len(values),) * len(values))
    low, high = min(values), max(values)
    log = low > 0 and high / low >= _LOG_RATIO
    return Number(low, high, all(isinstance(value, int) for value in values), log)
