"""Strategies by name: the built-in ones, and those that other packages add under the entry point group
luthier.strategies.
"""

from __future__ import annotations

from luthier.errors import SettingError
from luthier.plugins import Plugins
from luthier.search.base import Strategy
from luthier.space import Space

GROUP = "luthier.strategies"

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
_PLUGINS = Plugins(GROUP, "strategy", "strategies", _BUILT_IN)


def names() -> list[str]:
    """All strategies, in alphabetical order; nothing is imported for it."""
    return sorted(_PLUGINS.names())


def get(name: str) -> type[Strategy]:
    """The class of a strategy.

    Raises:
        SettingError: The name is unknown, lists those that are known; or another package's strategy cannot be
            imported, or is none.
    """
    found: type[Strategy] = _PLUGINS.load(name, Strategy)
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
