"""Learning curves over data sizes: what fewer rows would have given, and what more of them may bring."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from luthier.evaluate.intervals import UNKNOWN, Interval, number, pair


@dataclass
class SizeCurve:
    """The metric by the number of training rows.

    Attributes:
        rows: Numbers of rows, ascending.
        values: The metric on validation for each, of a head on the model's frozen features.
        lows: Lower ends of its interval over repeats.
        highs: Upper ends.
        twice: What twice the rows may reach; NaN where that cannot be said.
        interval: 95% (low, high) of that.
    """

    rows: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    lows: list[float] = field(default_factory=list)
    highs: list[float] = field(default_factory=list)
    twice: float = float("nan")
    interval: Interval = UNKNOWN

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> SizeCurve:
        """What `to_json` wrote; None stands for NaN, as JSON has none."""
        known = {name: [number(x) for x in values[name]] for name in ("values", "lows", "highs")}
        twice = {"twice": number(values["twice"]), "interval": pair(values["interval"])}
        return cls(**values | known | twice)
