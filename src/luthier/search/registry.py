"""Strategies by name: the built-in ones, and those that other packages add under the entry point group
luthier.strategies.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from luthier.errors import SettingError
from luthier.search.base import Strategy
from luthier.space import Space

GROUP = "luthier.strategies"

# Found without an installation too, and never replaced by another package's.
_BUILT_IN = {
    "auto": "luthier.search.auto:Auto",
    "bayesian": "luthier.search.bayesian:Bayesian",
    "evolution": "luthier.search.evolution:Evolution",
    "grid": "luthier.search.grid:Grid",
    "hyperband": "luthier.search.hyperband:Hyperband",
    "optuna": "luthier.search.optuna:OptunaSampler",
    "population": "luthier.search.population:Population",
    "random": "luthier.search.random:Random",
}


def _others() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in _BUILT_IN}


def names() -> list[str]:
    """All strategies, in alphabetical order; nothing is imported for it."""
    return sorted({*_BUILT_IN, *_others()})


def get(name: str) -> type[Strategy]:
    """The class of a strategy.

    Raises:
        SettingError: The name is unknown, lists those that are known; or another package's strategy cannot be
            imported.
    """
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        found: type[Strategy] = getattr(import_module(module), attribute)
        return found
    others = _others()
    if name not in others:
        known = names()
        near = difflib.get_close_matches(name, known, n=1)
        meant = f"Did you mean {near[0]!r}? " if near else ""
        raise SettingError(
            f"The strategy {name!r} is unknown.", f"{meant}Known strategies: {', '.join(known)}."
        )
    point = others[name]
    try:
        found = point.load()
    except Exception as error:
        raise SettingError(f"The strategy {name!r} ({point.value}) cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise SettingError(f"The strategy {name!r} ({point.value}) is not a Strategy.")
    return found


def resolve(name: str) -> tuple[type[Strategy], str]:
    """The class that a name means, and the option: ``hyperband`` or ``hyperband:asha``.

    Raises:
        SettingError: As for `get`; or the strategy has no such option.
    """
    base, _, option = name.partition(":")
    kind = get(base)
    if option and option not in kind.options:
        known = f"It has: {', '.join(kind.options)}." if kind.options else "It has none."
        raise SettingError(f"The strategy {base!r} has no option {option!r}.", known)
    return kind, option


def create(name: str, space: Space, seed: int = 0) -> Strategy:
    """A strategy over a space.

    Args:
        name: As for `resolve`.
        space: What it searches.
        seed: Of its randomness.

    Raises:
        SettingError: As for `resolve`; or the strategy cannot search this space.
    """
    kind, option = resolve(name)
    return kind(space, seed, option)
