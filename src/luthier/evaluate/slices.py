"""Slices: how well a model does on parts of the held-out rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from luthier.evaluate.intervals import UNKNOWN, Interval, number, pair


@dataclass
class Slice:
    """One part of the held-out rows.

    Attributes:
        kind: What the rows are parted by: ``class``, ``length``, or a column's name.
        name: Which part, in words: a class, "9 to 17 words", a value of the column.
        n: Rows in it.
        value: The optimised metric on them; for a class, the share of its rows that is answered right.
        interval: 95% (low, high) of it.
        worse: Whether it is clearly worse than the rest, corrected for the number of slices looked at.
    """

    kind: str
    name: str
    n: int
    value: float
    interval: Interval = UNKNOWN
    worse: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Slice:
        """What `to_json` wrote; None stands for NaN, as JSON has none."""
        return cls(**values | {"value": number(values["value"]), "interval": pair(values["interval"])})
