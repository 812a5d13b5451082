"""`Combined`: what is told of one ensemble beside the best single trial. How ensembles are made is
`luthier.ensemble`."""

from __future__ import annotations

from dataclasses import dataclass, field

from luthier.evaluate.intervals import UNKNOWN, Interval
from luthier.evaluate.plain import Plain


@dataclass
class Combined(Plain):
    """What is told of a candidate.

    Attributes:
        name: The way it was made.
        parts: Its networks, as (trial, weight).
        validation: The metric on validation.
        gain: How much better it is than the best single trial on validation rows that it was not chosen on;
            higher is better whatever the metric.
        interval: 95% (low, high) of that.
        test: The metric on test; NaN for what was not judged there.
        test_gain: Its paired difference to the best single trial on test; NaN likewise.
        test_interval: 95% (low, high) of that.
        cost: Inference time as a multiple of the single trial's.
        chosen: Whether it is what was shipped.
        seconds: What making it took.
        note: What a reader should know.
    """

    name: str
    parts: list[tuple[int, float]] = field(default_factory=list)
    validation: float = float("nan")
    gain: float = float("nan")
    interval: Interval = UNKNOWN
    test: float = float("nan")
    test_gain: float = float("nan")
    test_interval: Interval = UNKNOWN
    cost: float = 1.0
    chosen: bool = False
    seconds: float = 0.0
    note: str = ""
