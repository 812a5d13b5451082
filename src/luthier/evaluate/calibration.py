"""Calibration: whether a model is as sure as it is right."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from luthier.evaluate.intervals import UNKNOWN, Interval, number, pair


@dataclass
class Bin:
    """Answers of similar confidence.

    Attributes:
        confidence: Their mean confidence.
        accuracy: The share that is right.
        low: Lower end of its 95% interval.
        high: Upper end.
        n: How many they are.
    """

    confidence: float
    accuracy: float
    low: float
    high: float
    n: int


@dataclass
class Calibration:
    """How sure a model is, and how right.

    Attributes:
        error: Expected calibration error as shipped, with the temperature.
        interval: 95% (low, high) of it.
        before: The error without the temperature.
        temperature: What logits are divided by, fitted on validation; 1 leaves them as they are.
        bins: Answers by confidence, lowest first.
    """

    error: float
    interval: Interval = UNKNOWN
    before: float = float("nan")
    temperature: float = 1.0
    bins: list[Bin] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Calibration:
        """What `to_json` wrote; None stands for NaN, as JSON has none."""
        return cls(
            error=number(values["error"]),
            interval=pair(values["interval"]),
            before=number(values["before"]),
            temperature=number(values["temperature"]),
            bins=[Bin(**row) for row in values["bins"]],
        )
