"""Whether a version may take the place of another, by what is on record of both. No model is loaded here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SHOWN = 8
"""Labels that a message names."""


@dataclass(frozen=True)
class Facts:
    """What is on record of a version.

    Attributes:
        task: Name of its task.
        labels: Of its outputs, in order.
        metric: The one that was optimised; empty where the version was never evaluated.
        maximize: Whether more of it is better.
        metrics: On the test rows, by name.
        intervals: 95% (low, high) of each, as far as there is one.
        n: Test rows.
        data_fingerprint: Of the data and its splits; empty where it is not known.
    """

    task: str
    labels: tuple[str, ...]
    metric: str = ""
    maximize: bool = True
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    n: int = 0
    data_fingerprint: str = ""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Facts:
        """The facts that `dataclasses.asdict` gave."""
        intervals = {name: (low, high) for name, (low, high) in values["intervals"].items()}
        return cls(**{**values, "labels": tuple(values["labels"]), "intervals": intervals})

    @property
    def value(self) -> float:
        """The optimised metric on the test rows; NaN where there is none."""
        return _number(self.metrics.get(self.metric))


@dataclass(frozen=True)
class Verdict:
    """What the gate says.

    Attributes:
        passed: Whether the candidate may take over.
        text: Why, in a sentence or two.
    """

    passed: bool
    text: str


def judge(candidate: Facts, current: Facts) -> Verdict:
    """Whether a candidate may answer in place of the version in charge.

    It may not where it does another task or has other labels, since clients would get other answers than they
    know how to read; nor where its test metric lies on the worse side of the whole 95% interval of that of
    the version in charge, on the same test rows. Where the two cannot be compared it may, and that is said.
    """
    if candidate.task != current.task:
        return Verdict(False, f"its task is {candidate.task}, that of the version in charge {current.task}")
    if candidate.labels != current.labels:
        return Verdict(
            False,
            f"its labels are {_shown(candidate.labels)}, those of the version in charge"
            f" {_shown(current.labels)}",
        )
    if unlike := _incomparable(candidate, current):
        return Verdict(True, f"the two cannot be compared: {unlike}")
    metric = current.metric
    low, high = (_number(end) for end in current.intervals[metric])
    value, before = _number(candidate.metrics.get(metric)), current.value
    worse = value < low if current.maximize else value > high
    text = (
        f"test {metric} {value:.4g}, that of the version in charge {before:.4g} (95% interval {low:.4g} to"
        f" {high:.4g}), on the same {current.n:,} rows"
    )
    return Verdict(not worse, f"{text}: worse beyond chance" if worse else text)


def _incomparable(candidate: Facts, current: Facts) -> str:
    """Why two test results say nothing of each other; empty where they do."""
    for facts, which in ((candidate, "this version"), (current, "the version in charge")):
        if not facts.metric:
            return f"{which} has no test result"
        if not facts.data_fingerprint:
            return f"it is not known on which data {which} was judged"
    if candidate.data_fingerprint != current.data_fingerprint:
        return "they were judged on different data"
    metric = current.metric
    if not math.isfinite(_number(candidate.metrics.get(metric))) or not math.isfinite(current.value):
        return f"there is no test {metric} of both"
    if not all(math.isfinite(_number(end)) for end in current.intervals.get(metric, (None, None))):
        return f"the test {metric} of the version in charge has no interval"
    return ""


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _shown(labels: tuple[str, ...]) -> str:
    more = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
    return (", ".join(labels[:SHOWN]) or "none") + more
