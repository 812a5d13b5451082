"""`Plain`: parts of an evaluation as plain JSON values and back, by the types of their fields. What these
mean is said by each part."""

from __future__ import annotations

import math
from dataclasses import asdict, is_dataclass
from types import NoneType, UnionType
from typing import Any, Self, Union, cast, get_args, get_origin, get_type_hints


class Plain:
    """A dataclass of numbers, texts, lists, dicts and other dataclasses."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, NaN among them."""
        values: dict[str, Any] = asdict(cast(Any, self))
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """What `to_json` wrote, also by way of JSON, which has no NaN (None stands for it), no tuples, and no
        numbers as keys; and what an older version wrote, that had fewer fields."""
        return cls(**fields_of(cls, values))


def fields_of(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass from plain values, by name."""
    kinds = get_type_hints(kind)
    return {name: _read(kinds.get(name, Any), value) for name, value in values.items()}


def _read(kind: Any, value: Any) -> Any:
    """A value of a type, from the plain form that JSON has of it."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        rest = [part for part in parts if part is not NoneType]
        # Of several types JSON keeps which it was; an optional one is read as what it is.
        return value if value is None or len(rest) > 1 else _read(rest[0], value)
    if kind is float:
        return math.nan if value is None else float(value)
    if kind is int:
        return int(value)
    if origin is list:
        return [_read(parts[0], each) for each in value]
    if origin is tuple:
        return tuple(_read(part, each) for part, each in zip(parts, value, strict=True))
    if origin is dict:
        return {_read(parts[0], key): _read(parts[1], each) for key, each in value.items()}
    if is_dataclass(kind) and isinstance(kind, type):
        return kind(**fields_of(kind, value))
    return value
