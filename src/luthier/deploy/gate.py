"""Whether a version may take the place of another, by what is on record of both. No model is loaded here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SHOWN = 8
"""Labels that a message names."""


@dataclass(frozen=True)
class Beside:
    """A version beside the one that it was continued from, on the test rows of that one.

    Attributes:
        run: Id of the run that was continued.
        n: Test rows.
        gain: How much better the later one is in its metric; below 0 where it is worse.
        interval: 95% (low, high) of that, paired.
    """

    run: str
    n: int
    gain: float
    interval: tuple[float | None, float | None]


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
        run: Id of its run; empty where it is not known.
        beside: What it was held against, where its run continued another one.
    """

    task: str
    labels: tuple[str, ...]
    metric: str = ""
    maximize: bool = True
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    n: int = 0
    data_fingerprint: str = ""
    run: str = ""
    beside: Beside | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Facts:
        """The facts that `dataclasses.asdict` gave."""
        found = {**values, "labels": tuple(values["labels"])}
        found["intervals"] = {name: (low, high) for name, (low, high) in values["intervals"].items()}
        if told := values.get("beside"):
            found["beside"] = Beside(**{**told, "interval": tuple(told["interval"])})
        return cls(**found)

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
    the version in charge, on the same test rows. One that was continued from the version in charge with
    further data was held against it on the test rows of that one, and may not take its place where the whole
    95% interval of that difference lies below 0. Where two cannot be compared it may, and that is said.
    """
    if candidate.task != current.task:
        return Verdict(False, f"its task is {candidate.task}, that of the version in charge {current.task}")
    if candidate.labels != current.labels:
        return Verdict(
            False,
            f"its labels are {_shown(candidate.labels)}, those of the version in charge"
            f" {_shown(current.labels)}",
        )
    beside = candidate.beside
    if beside is not None and beside.run == current.run and all(map(_finite, beside.interval)):
        return _continued(candidate, beside)
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


def _continued(candidate: Facts, beside: Beside) -> Verdict:
    low, high = map(_number, beside.interval)
    text = (
        f"continued from the version in charge; on the {beside.n:,} test rows of that one its"
        f" {candidate.metric} is {'better' if beside.gain >= 0 else 'worse'} by {abs(beside.gain):.4g} (95%"
        f" interval of the gain {low:.4g} to {high:.4g})"
    )
    return Verdict(high >= 0, text if high >= 0 else f"{text}: worse beyond chance")


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
    if not (_finite(candidate.metrics.get(metric)) and _finite(current.value)):
        return f"there is no test {metric} of both"
    if not all(map(_finite, current.intervals.get(metric, (None, None)))):
        return f"the test {metric} of the version in charge has no interval"
    return ""


def _finite(value: float | None) -> bool:
    return math.isfinite(_number(value))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _shown(labels: tuple[str, ...]) -> str:
    more = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
    return (", ".join(labels[:SHOWN]) or "none") + more
