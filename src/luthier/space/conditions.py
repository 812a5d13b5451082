"""Conditions and forbidden combinations of a space: whether they name what can be, and what is drawn first.
Whether they hold for some values is asked of `Space`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from luthier.errors import SettingError
from luthier.space.domain import Number
from luthier.space.parse import Alternative, check_name

Settings = Mapping[str, Sequence[Alternative]]


def parents(alternatives: Iterable[Alternative]) -> set[str]:
    """The settings that a setting's conditions look at."""
    return {parent for alternative in alternatives for parent in alternative.when}


def parents_first(settings: Settings) -> list[str]:
    """Names as they were given, but parents before children.

    Raises:
        SettingError: Conditions go in a circle.
    """
    sorter = TopologicalSorter({name: parents(alternatives) for name, alternatives in settings.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        raise SettingError(f"Space: conditions go in a circle: {' -> '.join(error.args[1])}.") from None
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=list(settings).index)
        order += ready
        sorter.done(*ready)
    return order


def check_references(settings: Settings, forbidden: Iterable[Mapping[str, tuple[Any, ...]]]) -> None:
    """Sees to it that conditions and forbidden combinations name settings, and values that these may have.

    Raises:
        SettingError: One does not, or the model has a condition.
    """
    for name, alternatives in settings.items():
        for alternative in alternatives:
            for parent, wanted in alternative.when.items():
                _check_reference(settings, parent, wanted, f"Space: {name}: the condition on")
    if any(alternative.when for alternative in settings.get("model", ())):
        raise SettingError(
            "Space: model cannot have a condition.", "Let other settings depend on the model instead."
        )
    for clause in forbidden:
        for name, wanted in clause.items():
            _check_reference(settings, name, wanted, "Space: the forbidden combination of")


def _check_reference(settings: Settings, name: str, wanted: tuple[Any, ...], what: str) -> None:
    check_name(name, what, settings)
    domains = [alternative.domain for alternative in settings[name]]
    if any(isinstance(domain, Number) and not domain.discrete for domain in domains):
        raise SettingError(f"{what} {name} needs listed values, and {name} is a continuous range.")
    for value in wanted:
        if not any(domain.contains(value) for domain in domains):
            raise SettingError(f"{what} {name} names {value!r}, which {name} never is.")
