"""`Constraint`: a limit such as ``latency < 20 ms``, read from text and held against what was measured.

How things are measured lives in `luthier.engine.footprint`; what a study does about a limit, in `objectives`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from luthier.errors import SettingError


@dataclass(frozen=True)
class Measure:
    """What depends on the structure of a recipe alone, and can be measured before it is trained.

    Attributes:
        name: As people write it.
        column: Of the trials table, and of a report's metrics; its unit is in the name.
        unit: That unit.
        units: Units that people may write, and how many of the column's each is.
    """

    name: str
    column: str
    unit: str
    units: dict[str, float]

    def say(self, value: float) -> str:
        """A value of the column with its unit."""
        return f"{value:.4g} {self.unit}"


_BYTES = {
    "B": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3, "TB": 1e6,
    "KiB": 1024 / 1e6, "MiB": 1024**2 / 1e6, "GiB": 1024**3 / 1e6, "TiB": 1024**4 / 1e6,
}  # fmt: skip
MEASURES = {
    measure.name: measure
    for measure in (
        Measure("latency", "latency_ms", "ms", {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}),
        Measure("memory", "memory_mb", "MB", _BYTES),
        Measure("size", "size_mb", "MB", _BYTES),
    )
}
"""By name. Less is better of each of them."""
SCORE = "score"
"""Stands for the task's metric, whatever that is called."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
FORM = rf"\s*([A-Za-z]\w*)\s*(<=|>=|<|>)\s*({_NUMBER})\s*([A-Za-zµ]*)\s*"
_FORM = re.compile(FORM)
_EXAMPLES = 'For example "latency < 20 ms", "size <= 100 MB" or "accuracy >= 0.9".'


@dataclass(frozen=True)
class Constraint:
    """A limit on one value.

    Attributes:
        name: What is limited: one of `MEASURES`, or a metric.
        relation: ``<``, ``<=``, ``>`` or ``>=``.
        limit: In ``unit``.
        unit: Of a measure; empty for a metric.
    """

    name: str
    relation: str
    limit: float
    unit: str = ""

    @property
    def bound(self) -> float:
        """The limit in the unit of the measure's column; of a metric, as it is."""
        return self.limit * self._factor

    @property
    def _factor(self) -> float:
        return MEASURES[self.name].units[self.unit] if self.name in MEASURES else 1.0

    def holds(self, value: float) -> bool:
        """Whether a value of the measure's column, or of the metric, keeps to it; NaN never does."""
        if self.relation.startswith("<"):
            return value < self.bound or (self.relation == "<=" and value == self.bound)
        return value > self.bound or (self.relation == ">=" and value == self.bound)

    def broken(self, value: float) -> str:
        """Why a value does not keep to it: ``latency 31 ms, more than the 20 ms allowed``."""
        limit = f"{self.limit:.4g} {self.unit}".rstrip()
        found = f"{self.name} {value / self._factor:.4g} {self.unit}".rstrip()
        if math.isnan(value):
            return f"{self.name} unknown, where {self} is asked for"
        if self.relation.startswith("<"):
            return f"{found}, {'more than' if value > self.bound else 'not below'} the {limit} allowed"
        return f"{found}, {'less than' if value < self.bound else 'not above'} the {limit} asked for"

    def __str__(self) -> str:
        return f"{self.name} {self.relation} {self.limit:.12g} {self.unit}".rstrip()


def parse_constraint(text: str) -> Constraint:
    """Reads a constraint as people write it.

    Args:
        text: ``NAME RELATION NUMBER UNIT``: the name one of `MEASURES` or a metric's, the relation ``<``,
            ``<=``, ``>`` or ``>=``; ``us``, ``ms`` or ``s`` for a latency, ``B``, ``kB``, ``MB``, ``GB``,
            ``TB``, ``KiB``, ``MiB``, ``GiB`` or ``TiB`` for memory and size, in any case, no unit for a
            metric.

    Raises:
        SettingError: It is not of this form; the number is not finite, or a measure's not above zero; the
            unit is missing, unknown or too many; or a measure is limited from below.
    """
    match = _FORM.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise SettingError(
            f"The constraint {text!r} is not of the form NAME < NUMBER UNIT, with <, <=, > or >=.", _EXAMPLES
        )
    name, relation, number, unit = match.groups()
    limit = float(number)
    measure = MEASURES.get(name.lower())
    if not math.isfinite(limit):
        raise SettingError(f"The constraint {text!r} has no finite limit.", _EXAMPLES)
    if measure is None:
        if unit:
            raise SettingError(
                f"The constraint {text!r} gives the unit {unit!r} to {name!r}.",
                f"Units belong to {', '.join(MEASURES)}; a metric has none.",
            )
        return Constraint(name, relation, limit)
    if relation.startswith(">"):
        raise SettingError(
            f"The constraint {text!r} asks for more {measure.name}, of which less is better.",
            f"Write {measure.name} < {number} {unit}".rstrip() + ".",
        )
    if limit <= 0:
        raise SettingError(f"The constraint {text!r} can never hold: no {measure.name} is below zero.")
    known = {one.lower(): one for one in measure.units}
    if unit.lower() not in known:
        given = f"has the unit {unit!r}" if unit else "has no unit"
        raise SettingError(
            f"The constraint {text!r} {given}.",
            f"Give {measure.name} in one of {', '.join(measure.units)}.",
        )
    return Constraint(measure.name, relation, limit, known[unit.lower()])
