"""`Space`: which settings of a recipe vary, over what, under which conditions, and where good values are
believed to lie. Whether its conditions can hold is looked at in `conditions`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from luthier.errors import SettingError
from luthier.recipe import Recipe
from luthier.space.conditions import check_references, parents, parents_first
from luthier.space.domain import Domain
from luthier.space.parse import (
    Alternative,
    parse_forbidden,
    parse_setting,
    plain_forbidden,
    plain_setting,
)

if TYPE_CHECKING:
    from ConfigSpace import Configuration, ConfigurationSpace

_REDRAWS = 10_000


class Space:
    """Distributions over recipes.

    Each setting has one alternative or several, each a domain (a range, values, or a constant) with a
    condition; the first alternative whose condition holds applies. So one name can have a different range in
    every branch::

        adaptation: {values: [full, last_k, probe], weights: [.6, .3, .1]}
        last_k: {low: 1, high: 4, when: {adaptation: last_k}}
        learning_rate:
          - {low: 1e-3, high: 3e-2, log: true, prior: 1e-2, when: {adaptation: probe}}
          - {low: 2e-5, high: 3e-4, log: true, prior: 1e-4}
        epochs: 4
        forbidden: [{adaptation: full, batch_size: [64, 128]}]

    Where none applies the setting is *inactive* and takes the recipe's default. The *dimensions* of a space
    are the settings that vary in some branch, in the order they were named. Immutable.

    Args:
        settings: Alternatives by setting.
        forbidden: Combinations that are never drawn: every named setting active with one of the listed
            values.

    Raises:
        SettingError: A condition names a setting the space lacks, conditions go in a circle, a condition can
            never hold, or
            everything is forbidden.
    """

    def __init__(
        self,
        settings: Mapping[str, Sequence[Alternative]],
        forbidden: Sequence[Mapping[str, tuple[Any, ...]]] = (),
    ) -> None:
        self.settings = {name: tuple(alternatives) for name, alternatives in settings.items()}
        self.forbidden = tuple(dict(clause) for clause in forbidden)
        self.dimensions = [
            name
            for name, alternatives in self.settings.items()
            if any(alternative.domain.varies for alternative in alternatives)
        ]
        check_references(self.settings, self.forbidden)
        self._order = parents_first(self.settings)
        if self.forbidden and not any(True for _ in self._allowed_assignments()):
            raise SettingError(
                "Space: the forbidden combinations forbid everything.", "Take one of them out."
            )

    # -- plain forms -----------------------------------------------------------------------------------------

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Space:
        """A space from its plain form (see the class). Raises SettingError for anything it cannot mean."""
        if not isinstance(values, Mapping):
            raise SettingError(f"A space must map settings to what they may be, not be {values!r}.")
        entries = dict(values)
        if "recipes" in entries:
            from luthier.space.listed import Listed

            return Listed.from_entries(entries)
        forbidden = parse_forbidden(entries.pop("forbidden", None))
        return cls({name: parse_setting(name, entry) for name, entry in entries.items()}, forbidden)

    @classmethod
    def from_yaml(cls, source: str | Path) -> Space:
        """A space from a YAML file, given as a path, or from YAML text (a string with a line break or a colon
        and a space).

        Raises:
            SettingError: The file cannot be read, is not YAML, or is not a space.
        """
        is_text = isinstance(source, str) and ("\n" in source or ": " in source)
        try:
            text = str(source) if is_text else Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingError(f"The space file {str(source)!r} cannot be read: {error}.") from None
        try:
            values = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SettingError(f"The space is not valid YAML: {error}") from None
        return cls.from_dict({} if values is None else values)

    def to_dict(self) -> dict[str, Any]:
        """The plain form, JSON values only; ``Space.from_dict`` reads it back."""
        plain: dict[str, Any] = {
            name: plain_setting(alternatives) for name, alternatives in self.settings.items()
        }
        return plain | ({"forbidden": plain_forbidden(self.forbidden)} if self.forbidden else {})

    def to_yaml(self) -> str:
        """The plain form as YAML."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def with_models(self, models: Sequence[str]) -> Space:
        """This space over ``models``, unless it says itself which models it is over."""
        if "model" in self.settings:
            return self
        entry = {"value": models[0]} if len(models) == 1 else {"values": list(models)}
        return Space({"model": parse_setting("model", entry), **self.settings}, self.forbidden)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and (self.settings, self.forbidden) == (
            other.settings,
            other.forbidden,
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Space({self.to_dict()!r})"

    # -- drawing ---------------------------------------------------------------------------------------------

    def sample(self, unit: np.ndarray) -> Recipe:
        """Maps a point of the unit cube to a recipe through each setting's quantile function (see `Number`,
        `Choice`).

        Uniform points give recipes distributed as the priors say. A point that falls on a forbidden
        combination is drawn again from a generator seeded by the point: the map stays a function, and the
        distribution is the priors' given that the combination is allowed.

        Args:
            unit: (dimensions,) in [0, 1]; coordinates of settings that are inactive there are ignored.
        """
        point = np.asarray(unit, dtype=np.float64)
        if point.shape != (len(self.dimensions),):
            raise ValueError(f"a point has shape {point.shape}, the space needs ({len(self.dimensions)},)")
        rng: np.random.Generator | None = None
        for _ in range(_REDRAWS):
            coordinates = dict(zip(self.dimensions, point.tolist(), strict=True))
            values = self._draw(lambda name, domain: domain.quantile(coordinates.get(name, 0.5)))  # noqa: B023
            if not self._is_forbidden(values):
                return self._recipe(values)
            rng = rng or np.random.default_rng(np.frombuffer(point.tobytes(), dtype=np.uint32))
            point = rng.random(len(self.dimensions))
        return self.default()

    def default(self) -> Recipe:
        """The centre of the priors: most probable values, centres of ranges; the likeliest allowed if that is
        forbidden.
        """
        values = self._draw(lambda _, domain: domain.default)
        if self._is_forbidden(values):
            fixed = max(self._allowed_assignments(), key=self._mass)
            values = self._draw(lambda name, domain: fixed.get(name, domain.default))
        return self._recipe(values)

    def build(self, choose: Callable[[str, Domain], Any]) -> Recipe | None:
        """The recipe whose active settings are chosen one by one, parents before children.

        Args:
            choose: The value of a setting, given its name and the domain that applies under the values chosen
                before.

        Returns:
            The recipe, or None where the combination is forbidden.
        """
        values = self._draw(choose)
        return None if self._is_forbidden(values) else self._recipe(values)

    def encode(self, recipe: Recipe) -> np.ndarray:
        """Where in the unit cube a recipe lies: ``sample(encode(recipe))`` gives it back, up to six digits.

        Returns:
            (dimensions,) floats in [0, 1], NaN where the setting is inactive or constant for this recipe.

        Raises:
            SettingError: A value lies outside the space.
        """
        units: dict[str, float] = {}

        def take(name: str, domain: Domain) -> Any:
            value = getattr(recipe, name)
            if not domain.contains(value):
                raise SettingError(f"The recipe's {name}, {value!r}, lies outside the space.")
            if domain.varies:
                units[name] = domain.unit(value)
            return value

        self._draw(take)
        return np.array([units.get(name, math.nan) for name in self.dimensions], dtype=np.float64)

    def contains(self, recipe: Recipe) -> bool:
        """Whether the space can draw this recipe: active values inside, all others at their defaults, nothing
        forbidden.
        """
        try:
            self.encode(recipe)
        except SettingError:
            return False
        values = self._draw(lambda name, _: getattr(recipe, name))
        return not self._is_forbidden(values) and self._recipe(values) == recipe

    def active(self, recipe: Recipe) -> dict[str, Domain]:
        """What each setting that applies to a recipe is drawn from, by name; the recipe may lie outside."""
        found: dict[str, Domain] = {}

        def take(name: str, domain: Domain) -> Any:
            found[name] = domain
            return getattr(recipe, name)

        self._draw(take)
        return found

    # -- grids -----------------------------------------------------------------------------------------------

    def grid(self, resolution: int | None = None) -> Iterator[Recipe]:
        """Every combination of listed values, integers and steps; the last-named setting changes fastest.

        Args:
            resolution: Values taken of a range that says no ``steps`` itself; None is an error for continuous
                ones.

        Raises:
            SettingError: A continuous range has neither ``values`` nor ``steps``, naming the setting.
        """
        self._check_grid(resolution)
        assignments = self._assignments(self._order, lambda domain: domain.grid(resolution))
        return (self._recipe(values) for values in assignments if not self._is_forbidden(values))

    def grid_size(self, resolution: int | None = None) -> int:
        """How many recipes `grid` gives, without making them."""
        self._check_grid(resolution)
        free = [name for name in self._order if name not in self._structural]
        total = 0
        for values in self._assignments(self._structural, lambda domain: domain.grid(resolution)):
            if not self._is_forbidden(values):
                active = [domain for name in free if (domain := self._active(name, values)) is not None]
                total += math.prod(len(domain.grid(resolution)) for domain in active)
        return total

    def _check_grid(self, resolution: int | None) -> None:
        for name, alternatives in self.settings.items():
            if not all(alternative.domain.grid(resolution) for alternative in alternatives):
                raise SettingError(
                    f"A grid needs listed values, and {name} is a continuous range.",
                    f"Write {name}: {{values: [...]}}, or add steps: 3 to its range.",
                )

    # -- for people and for other libraries ------------------------------------------------------------------

    def describe(self) -> list[dict[str, str]]:
        """One row an alternative: ``setting``, ``values``, ``prior`` and ``when``, as people write them."""
        from luthier.space.describe import describe

        return describe(self)

    def to_configspace(self) -> ConfigurationSpace:
        """This space as a ConfigSpace object, for samplers of that kind (see `luthier.space.configspace`)."""
        from luthier.space.configspace import to_configspace

        return to_configspace(self)

    def from_configuration(self, configuration: Configuration) -> Recipe:
        """The recipe that a configuration of `to_configspace` stands for."""
        from luthier.space.configspace import from_configuration

        return from_configuration(self, configuration)

    # -- conditions ------------------------------------------------------------------------------------------

    def _active(self, name: str, values: Mapping[str, Any]) -> Domain | None:
        """The domain of the first alternative whose condition holds given the values of active settings."""
        for alternative in self.settings[name]:
            if all(
                parent in values and values[parent] in wanted for parent, wanted in alternative.when.items()
            ):
                return alternative.domain
        return None

    def _draw(self, choose: Callable[[str, Domain], Any]) -> dict[str, Any]:
        """Values of the active settings, parents before children."""
        values: dict[str, Any] = {}
        for name in self._order:
            domain = self._active(name, values)
            if domain is not None:
                values[name] = choose(name, domain)
        return values

    def _recipe(self, values: Mapping[str, Any]) -> Recipe:
        if "model" not in values:
            raise SettingError(
                "The space names no model.", "Add model: NAME to it, or name one where the space is used."
            )
        return Recipe(**values)

    def _is_forbidden(self, values: Mapping[str, Any]) -> bool:
        return any(
            all(name in values and values[name] in wanted for name, wanted in clause.items())
            for clause in self.forbidden
        )

    @cached_property
    def _structural(self) -> list[str]:
        """Settings that conditions or forbidden combinations look at, with all their ancestors, parents
        first.
        """
        needed = {name for clause in self.forbidden for name in clause}
        needed |= {parent for alternatives in self.settings.values() for parent in parents(alternatives)}
        for name in reversed(self._order):
            if name in needed:
                needed |= parents(self.settings[name])
        return [name for name in self._order if name in needed]

    def _assignments(
        self, names: Sequence[str], listed: Callable[[Domain], Sequence[Any]]
    ) -> Iterator[dict[str, Any]]:
        """All combinations of the listed values of ``names`` (parents first), without those of inactive
        settings.
        """
        if not names:
            yield {}
            return
        *before, last = names
        for values in self._assignments(before, listed):
            domain = self._active(last, values)
            if domain is None:
                yield values
            else:
                yield from ({**values, last: value} for value in listed(domain))

    def _allowed_assignments(self) -> Iterator[dict[str, Any]]:
        assignments = self._assignments(self._structural, lambda domain: domain.listed())
        return itertools.filterfalse(self._is_forbidden, assignments)

    def _mass(self, values: Mapping[str, Any]) -> float:
        domains = {name: self._active(name, values) for name in values}
        return math.prod(domain.mass(values[name]) for name, domain in domains.items() if domain is not None)
