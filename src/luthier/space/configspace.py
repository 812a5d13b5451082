"""A space as a ConfigSpace object and back, for samplers and tools that speak ConfigSpace."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

from luthier.errors import SettingError
from luthier.recipe import Recipe
from luthier.space.domain import Choice, Domain

if TYPE_CHECKING:
    from ConfigSpace import Configuration, ConfigurationSpace
    from ConfigSpace.conditions import ConditionLike
    from ConfigSpace.forbidden import ForbiddenLike
    from ConfigSpace.hyperparameters import Hyperparameter

    from luthier.space.space import Space

    _Made = dict[str, list[Hyperparameter[Any, Any]]]


def to_configspace(space: Space) -> ConfigurationSpace:
    """The same settings, conditions and forbidden combinations as a ``ConfigurationSpace``.

    A setting with several alternatives becomes one hyperparameter each, ``learning_rate.1``,
    ``learning_rate.2``, of which at most one is active. Weights of values stay; the prior of a range stays as
    its default value only, since ConfigSpace has no mixture of a normal and a uniform: `Space.sample` is the
    map that keeps it.

    Raises:
        SettingError: A setting has several alternatives whose conditions look at a setting that is not always
            active: that
            an inactive one does *not* have a value cannot be said in ConfigSpace.
    """
    from ConfigSpace import ConfigurationSpace

    made: _Made = {}
    for name, alternatives in space.settings.items():
        labels = (
            [name] if len(alternatives) == 1 else [f"{name}.{at}" for at in range(1, len(alternatives) + 1)]
        )
        made[name] = [_hyperparameter(label, a.domain) for label, a in zip(labels, alternatives, strict=True)]
    result = ConfigurationSpace()
    result.add(*(one for several in made.values() for one in several))
    for name, several in made.items():
        for at, one in enumerate(several):
            condition = _condition(space, made, name, at, one)
            if condition is not None:
                result.add(condition)
    for clause in space.forbidden:
        result.add(*_forbidden(made, clause))
    return result


def from_configuration(space: Space, configuration: Configuration) -> Recipe:
    """The recipe that a configuration stands for; inactive settings take the recipe's defaults."""
    values = {label.partition(".")[0]: _plain(value) for label, value in dict(configuration).items()}
    return Recipe.parse(values)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _hyperparameter(label: str, domain: Domain) -> Hyperparameter[Any, Any]:
    from ConfigSpace import (
        CategoricalHyperparameter,
        Constant,
        UniformFloatHyperparameter,
        UniformIntegerHyperparameter,
    )

    if isinstance(domain, Choice):
        if not domain.varies and isinstance(domain.values[0], int | float | str):
            return Constant(label, domain.values[0])
        return CategoricalHyperparameter(
            label,
            domain.values,
            default_value=domain.default,
            weights=list(domain.weights) if domain.varies else None,
        )
    if domain.integer:
        return UniformIntegerHyperparameter(
            label, int(domain.low), int(domain.high), default_value=int(domain.default), log=domain.log
        )
    return UniformFloatHyperparameter(
        label, domain.low, domain.high, default_value=domain.default, log=domain.log
    )


def _listed(one: Hyperparameter[Any, Any]) -> list[Any]:
    from ConfigSpace import CategoricalHyperparameter, Constant, UniformIntegerHyperparameter

    if isinstance(one, CategoricalHyperparameter):
        return list(one.choices)
    if isinstance(one, UniformIntegerHyperparameter):
        return list(range(one.lower, one.upper + 1))
    assert isinstance(one, Constant)
    return [one.value]


def _condition(
    space: Space, made: _Made, name: str, at: int, one: Hyperparameter[Any, Any]
) -> ConditionLike | None:
    """The alternative's own condition, and for each earlier alternative that its condition does not hold."""
    from ConfigSpace import AndConjunction

    parts: list[ConditionLike] = []
    for parent, wanted in space.settings[name][at].when.items():
        parts += _any_of(one, made[parent], [list(wanted)] * len(made[parent]))
    for earlier in space.settings[name][:at]:
        for parent in earlier.when:
            if len(space.settings[parent]) > 1 or space.settings[parent][0].when:
                raise SettingError(
                    f"Space: {name} has alternatives that depend on {parent}, which is not always active: "
                    "ConfigSpace cannot say that."
                )
        parents = [made[parent][0] for parent in earlier.when]
        others = [
            [value for value in _listed(parent) if value not in wanted]
            for parent, wanted in zip(parents, earlier.when.values(), strict=True)
        ]
        parts += _any_of(one, parents, others)
    return AndConjunction(*parts) if len(parts) > 1 else parts[0] if parts else None


def _any_of(
    child: Hyperparameter[Any, Any], parents: list[Hyperparameter[Any, Any]], wanted: list[list[Any]]
) -> list[ConditionLike]:
    """That one of the parents has one of the values wanted of it: no part, or one."""
    from ConfigSpace import InCondition, OrConjunction

    possible = [
        [value for value in values if value in _listed(p)] for p, values in zip(parents, wanted, strict=True)
    ]
    parts = [InCondition(child, p, values) for p, values in zip(parents, possible, strict=True) if values]
    return [OrConjunction(*parts)] if len(parts) > 1 else list(parts)


def _forbidden(made: _Made, clause: Mapping[str, tuple[Any, ...]]) -> list[ForbiddenLike]:
    """One clause for each way to pick an alternative of every setting in it."""
    from ConfigSpace import ForbiddenAndConjunction, ForbiddenInClause

    found: list[ForbiddenLike] = []
    for picked in product(*(made[name] for name in clause)):
        values = [
            [v for v in wanted if v in _listed(one)]
            for one, wanted in zip(picked, clause.values(), strict=True)
        ]
        if all(values):
            parts = [ForbiddenInClause(one, several) for one, several in zip(picked, values, strict=True)]
            found.append(ForbiddenAndConjunction(*parts) if len(parts) > 1 else parts[0])
    return found
