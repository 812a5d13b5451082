"""Ways of making ensembles by name: the built-in ones, and those that other packages add under the entry
point group luthier.ensembles. What a name stands for is imported when it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from luthier.plugins import Plugins

if TYPE_CHECKING:
    from luthier.ensemble.ways import Way

GROUP = "luthier.ensembles"
NONE, AUTO = "none", "auto"


@dataclass(frozen=True)
class Entry:
    """What is known of a way before it is imported.

    Attributes:
        target: ``module:function``.
        trains: Whether it trains networks, for which a share of the budget is held back.
        single: Whether what it makes is one network, which costs no more than a trial where it is used.
        tried: Whether ``auto`` tries it.
    """

    target: str
    trains: bool = False
    single: bool = False
    tried: bool = False


BUILT_IN: dict[str, Entry] = {
    "greedy": Entry("luthier.ensemble.greedy:greedy", tried=True),
    "stacking": Entry("luthier.ensemble.stacking:stacking", tried=True),
    "greedy-soup": Entry("luthier.ensemble.soup:greedy_soup", single=True, tried=True),
    "soup": Entry("luthier.ensemble.soup:soup", single=True),
    "swa": Entry("luthier.ensemble.averaging:swa", trains=True, single=True),
    "ewa": Entry("luthier.ensemble.averaging:ewa", trains=True, single=True),
    "distil": Entry("luthier.ensemble.distil:distil", trains=True, single=True),
    "bagging": Entry("luthier.ensemble.bagging:bagging", trains=True),
    "adaboost": Entry("luthier.ensemble.adaboost:adaboost", trains=True),
    "boosting": Entry("luthier.ensemble.boosting:boosting", trains=True, single=True),
    "snapshot": Entry("luthier.ensemble.snapshot:snapshot", trains=True),
}
_PLUGINS = Plugins(
    GROUP, "ensemble", "ensembles", {name: one.target for name, one in BUILT_IN.items()}, (NONE, AUTO)
)


def names() -> list[str]:
    """All that ``--ensemble`` takes, in alphabetical order; nothing is imported for it."""
    return sorted(_PLUGINS.names())


def entry(name: str) -> Entry:
    """What is known of a way. Of another package's the worst is assumed: it trains, and gives several
    networks.

    Raises:
        SettingError: The name is unknown; lists those that are known.
    """
    return BUILT_IN[name] if name in BUILT_IN else Entry(_PLUGINS.target(name), trains=True)


def get(name: str) -> Way:
    """The function that makes an ensemble.

    Raises:
        SettingError: As for `entry`; or another package's cannot be imported.
    """
    found: Way = _PLUGINS.load(name)
    return found


def resolve(name: str) -> list[str]:
    """The ways to try for what ``--ensemble`` was given: none, those that ``auto`` tries, or the one named.

    Raises:
        SettingError: As for `get`.
    """
    if name == NONE:
        return []
    if name == AUTO:
        return [known for known, found in BUILT_IN.items() if found.tried]
    get(name)
    return [name]
