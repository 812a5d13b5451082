"""Reads and writes the plain form of a space: what each YAML entry means, and every error it can hold."""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from luthier.errors import SettingError
from luthier.recipe import Recipe
from luthier.space.domain import Choice, Domain, Number

_KEYS = ("low", "high", "log", "prior", "steps", "values", "weights", "value", "when")


@dataclass(frozen=True)
class Alternative:
    """A domain, and when it applies: each named setting must be active with one of the listed values."""

    domain: Domain
    when: dict[str, tuple[Any, ...]] = field(default_factory=dict)


def canonical(name: str, value: Any) -> Any:
    """``value`` as a `Recipe` holds it. Raises SettingError naming the setting and the value."""
    values = {"model": "m", name: value}
    return getattr(Recipe.parse(values), name)


def check_name(name: str, what: str, known: Iterable[str]) -> None:
    """Raises SettingError, with the nearest known name, where ``name`` is not known."""
    names = sorted(known)
    if name in names:
        return
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(names)}."
    raise SettingError(f"{what} {name!r} is unknown.", hint)


def _kinds(name: str) -> set[Any]:
    annotation = Recipe.model_fields[name].annotation
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return set(typing.get_args(annotation)) if is_union else {annotation}


def _number(name: str, key: str, value: Any) -> float:
    """YAML 1.1 reads ``1e-5`` as a string, so strings that spell numbers are numbers here."""
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
    except (TypeError, ValueError):
        raise SettingError(f"Space: {name}: {key} must be a finite number, not {value!r}.") from None
    return number


def _bound(name: str, key: str, value: Any, integer: bool) -> float:
    number = _number(name, key, value)
    if integer and number != int(number):
        raise SettingError(f"Space: {name}: {key} must be a whole number, not {value!r}.")
    number = int(number) if integer else number
    canonical(name, number)
    return number


def _range(name: str, entry: Mapping[str, Any]) -> Number:
    kinds = _kinds(name)
    integer = int in kinds
    if not integer and float not in kinds:
        raise SettingError(
            f"Space: {name} is not a number.", f"List what it may be: {name}: {{values: [...]}}."
        )
    if "weights" in entry:
        raise SettingError(
            f"Space: {name}: weights belong to values.", "A range has a prior: the centre of your belief."
        )
    for key in ("low", "high"):
        if key not in entry:
            raise SettingError(f"Space: {name} has a range without {key}.")
    low, high = (_bound(name, key, entry[key], integer) for key in ("low", "high"))
    if low >= high:
        raise SettingError(f"Space: {name}: low ({low:g}) must be below high ({high:g}).")
    log = entry.get("log", False)
    if not isinstance(log, bool):
        raise SettingError(f"Space: {name}: log must be true or false, not {log!r}.")
    if log and low <= 0:
        raise SettingError(f"Space: {name}: a log range needs low above 0, not {low:g}.")
    prior = None if entry.get("prior") is None else _number(name, "prior", entry["prior"])
    if prior is not None and not low <= prior <= high:
        raise SettingError(f"Space: {name}: prior {prior:g} lies outside its range, {low:g} to {high:g}.")
    return Number(low, high, integer, log, prior, _steps(name, entry.get("steps")))


def _steps(name: str, steps: Any) -> int | None:
    if steps is None:
        return None
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise SettingError(f"Space: {name}: steps must be a whole number from 1, not {steps!r}.")
    return steps


def _choice(name: str, entry: Mapping[str, Any]) -> Choice:
    for key in ("log", "prior", "steps", "low", "high", "value"):
        if key in entry:
            raise SettingError(
                f"Space: {name}: {key} does not go with values.", "Beliefs about values are weights."
            )
    values = entry["values"]
    if not isinstance(values, list | tuple) or not values:
        raise SettingError(f"Space: {name}: values must be a list of at least one value, not {values!r}.")
    kept = tuple(canonical(name, value) for value in values)
    for at, value in enumerate(kept):
        if value in kept[:at]:
            raise SettingError(f"Space: {name}: the value {value!r} is listed twice.")
    weights = entry.get("weights")
    if weights is None:
        weights = [1.0] * len(kept)
    if not isinstance(weights, list | tuple) or len(weights) != len(kept):
        raise SettingError(
            f"Space: {name}: weights must be a list with one number a value ({len(kept)}), not {weights!r}."
        )
    numbers = [_number(name, "weights", weight) for weight in weights]
    if min(numbers) <= 0:
        raise SettingError(
            f"Space: {name}: weights must be above 0, not {min(numbers):g}.", "Leave unwanted values out."
        )
    total = math.fsum(numbers)
    if (
        abs(total - 1.0) > 1e-9
    ):  # kept as they are where they add up, so that writing and reading changes nothing
        numbers = [number / total for number in numbers]
    return Choice(kept, tuple(numbers))


def _when(name: str, when: Any) -> dict[str, tuple[Any, ...]]:
    if when is None:
        return {}
    if not isinstance(when, Mapping) or not when:
        raise SettingError(f"Space: {name}: when must map settings to values, not be {when!r}.")
    return {
        parent: _values_of(f"Space: {name}: the condition on", parent, wanted)
        for parent, wanted in when.items()
    }


def _values_of(what: str, name: str, wanted: Any) -> tuple[Any, ...]:
    check_name(name, what, Recipe.model_fields)
    values = wanted if isinstance(wanted, list | tuple) else [wanted]
    if not values:
        raise SettingError(f"{what} {name} lists no values.")
    return tuple(canonical(name, value) for value in values)


def _alternative(name: str, entry: Mapping[str, Any]) -> Alternative:
    for key in entry:
        check_name(key, f"Space: {name}: the key", _KEYS)
    when = _when(name, entry.get("when"))
    if "values" in entry:
        return Alternative(_choice(name, entry), when)
    if "value" in entry:
        others = [key for key in entry if key not in ("value", "when")]
        if others:
            raise SettingError(
                f"Space: {name}: {others[0]} does not go with value.", "For several, write values: [...]."
            )
        return Alternative(Choice((canonical(name, entry["value"]),), (1.0,)), when)
    return Alternative(_range(name, entry), when)


def parse_setting(name: str, entry: Any) -> tuple[Alternative, ...]:
    """The alternatives that one entry of the plain form stands for.

    A mapping is a range, values, or a value; a list of mappings is alternatives; any other list is values
    without weights; anything else is a constant.

    Raises:
        SettingError: Naming the setting, the offending value and what was expected.
    """
    check_name(name, "Space: the setting", Recipe.model_fields)
    if isinstance(entry, Mapping):
        return (_alternative(name, entry),)
    if isinstance(entry, list | tuple) and entry and all(isinstance(item, Mapping) for item in entry):
        return tuple(_alternative(name, item) for item in entry)
    if isinstance(entry, list | tuple):
        return (_alternative(name, {"values": entry}),)
    return (_alternative(name, {"value": entry}),)


def parse_forbidden(clauses: Any) -> tuple[dict[str, tuple[Any, ...]], ...]:
    """Forbidden combinations: a list of mappings from settings to a value or several."""
    if clauses is None:
        return ()
    if not isinstance(clauses, list | tuple):
        raise SettingError(f"Space: forbidden must be a list of combinations, not {clauses!r}.")
    for clause in clauses:
        if not isinstance(clause, Mapping) or not clause:
            raise SettingError(
                f"Space: a forbidden combination must map settings to values, not be {clause!r}."
            )
    what = "Space: the forbidden combination of"
    return tuple(
        {name: _values_of(what, name, wanted) for name, wanted in clause.items()} for clause in clauses
    )


def _plain_values(wanted: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    return {name: values[0] if len(values) == 1 else list(values) for name, values in wanted.items()}


def _plain(alternative: Alternative) -> dict[str, Any]:
    domain, entry = alternative.domain, dict[str, Any]()
    if isinstance(domain, Number):
        entry = {"low": domain.low, "high": domain.high}
        entry |= {"log": True} if domain.log else {}
        entry |= {key: getattr(domain, key) for key in ("prior", "steps") if getattr(domain, key) is not None}
    elif domain.varies:
        entry = {"values": list(domain.values)}
        if len(set(domain.weights)) > 1:
            entry["weights"] = list(domain.weights)
    else:
        entry = {"value": domain.values[0]}
    return entry | ({"when": _plain_values(alternative.when)} if alternative.when else {})


def plain_setting(alternatives: tuple[Alternative, ...]) -> Any:
    """The shortest plain form that `parse_setting` reads back."""
    entries = [_plain(alternative) for alternative in alternatives]
    if len(entries) > 1:
        return entries
    return entries[0]["value"] if set(entries[0]) == {"value"} else entries[0]


def plain_forbidden(clauses: tuple[dict[str, tuple[Any, ...]], ...]) -> list[dict[str, Any]]:
    """The plain form that `parse_forbidden` reads back."""
    return [_plain_values(clause) for clause in clauses]
