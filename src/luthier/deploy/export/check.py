"""The check that every export passes or is refused by: its logits against those of the evaluated model, and
what that does to the metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from luthier.deploy.export.sample import Sample
from luthier.ensemble.base import Combination
from luthier.errors import Refused
from luthier.evaluate.intervals import Interval, paired_difference
from luthier.tasks.base import Task

LIMITS = {"fp32": 1e-4, "fp16": 5e-3, "bf16": 5e-2, "int8": 0.5}
"""Largest difference of a logit, as a share of the largest logit of its batch (of 1, where that is less)."""
POINT = 0.01
"""How much the metric may fall beyond its noise in fewer bits: a point of a share, a hundredth of an
error."""


@dataclass(frozen=True)
class Change:
    """What an export does to the metric.

    Attributes:
        metric: Its name.
        before: Of the evaluated model on the rows checked.
        after: Of the export on the same rows.
        fall: How much worse it became, in the metric's own measure; below zero where it became better.
        interval: 95% interval of that: both were judged on the same resamples.
        allowed: The fall that is allowed beyond noise.
        flips: Share of rows whose first answer is another.
    """

    metric: str
    before: float
    after: float
    fall: float
    interval: Interval
    allowed: float
    flips: float

    @property
    def holds(self) -> bool:
        """Whether the fall is within what noise and `POINT` allow: the interval reaches down to it."""
        low = self.interval[0] if math.isfinite(self.interval[0]) else self.fall
        return low <= self.allowed


@dataclass(frozen=True)
class Check:
    """What was found.

    Attributes:
        precision: Of the export.
        difference: Largest difference of a logit.
        relative: Largest of these as a share of its batch's largest logit; see `LIMITS`.
        limit: What that may be.
        rows: Held-out rows that were compared.
        made: Batches of made inputs that were compared.
        source: Where the rows are from, in words; empty where there are none.
        change: In the metric; None where no true answers are known.
    """

    precision: str
    difference: float
    relative: float
    limit: float
    rows: int
    made: int
    source: str
    change: Change | None = None

    @property
    def passed(self) -> bool:
        """Whether the export repeats the model. A NaN does not."""
        return self.relative <= self.limit and (self.change is None or self.change.holds)

    def demand(self, what: str) -> None:
        """Raises Refused where it did not pass.

        Args:
            what: What is refused, to begin the message with.
        """
        if not self.relative <= self.limit:
            raise Refused(
                f"{what}: its logits differ from the evaluated model's by {self.relative:.2g} of their size"
                f" (at most {self.limit:.0e} is allowed in {self.precision}).",
                "Another precision or format may do." if self.precision != "fp32" else None,
            )
        if self.change is not None and not self.change.holds:
            change = self.change
            raise Refused(
                f"{what}: {change.metric} goes from {change.before:.4g} to {change.after:.4g} on"
                f" {self.rows} rows,"
                f" worse by {change.fall:.2g} (95% interval {change.interval[0]:.2g} to"
                f" {change.interval[1]:.2g});"
                f" {change.allowed:.2g} beyond noise is allowed.",
                "Export with more bits: --precision fp16, bf16 or fp32.",
            )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; what is not finite becomes None."""
        values = asdict(self)
        if self.change is not None:
            values["change"]["interval"] = [
                end if math.isfinite(end) else None for end in self.change.interval
            ]
        return values


def check(
    task: Task,
    combination: Combination,
    samples: Sequence[Sample],
    said: Sequence[Sequence[torch.Tensor]],
    *,
    precision: str,
    source: str,
) -> Check:
    """Compares what an export says with what the evaluated model said.

    Args:
        task: Fitted.
        combination: How the networks' outputs become one.
        samples: One a network, over the same rows, with what is expected.
        said: What the export says of each batch of each.
        precision: Of the export.
        source: Where the rows are from, in words.
    """
    pairs = [
        compare(expected, actual, inputs.get("attention_mask") if task.level == "token" else None)
        for sample, found in zip(samples, said, strict=True)
        for inputs, expected, actual in zip(sample.inputs, sample.logits, found, strict=True)
    ]
    first = samples[0]
    return Check(
        precision=precision,
        difference=_largest([difference for difference, _ in pairs]),
        relative=_largest([share for _, share in pairs]),
        limit=LIMITS[precision],
        rows=first.rows,
        made=sum(sample.made for sample in samples),
        source=source,
        change=_change(task, combination, samples, said) if first.truths else None,
    )


def compare(
    expected: torch.Tensor, actual: torch.Tensor, mask: torch.Tensor | None = None
) -> tuple[float, float]:
    """The largest difference of two batches of logits, and its share of the largest logit (of 1, if that is
    less).

    Args:
        expected: (batch, outputs) or (batch, length, outputs).
        actual: The same; of another shape, the difference is infinite.
        mask: (batch, length): only logits of tokens where it is 1 count.
    """
    if expected.shape != actual.shape:
        return math.inf, math.inf
    if mask is not None:
        expected, actual = expected[mask.bool()], actual[mask.bool()]
    difference = float((expected - actual).abs().max())
    return difference, difference / max(1.0, float(expected.abs().max()))


def _largest(values: list[float]) -> float:
    """The largest, or NaN if there is one: Python's own would lose it."""
    return float(np.max(values)) if values else math.nan


def _change(
    task: Task, combination: Combination, samples: Sequence[Sample], said: Sequence[Sequence[torch.Tensor]]
) -> Change | None:
    truths = samples[0].truths
    before = combination.outputs(task, [sample.outputs(task, sample.logits) for sample in samples])
    after = combination.outputs(
        task, [sample.outputs(task, found) for sample, found in zip(samples, said, strict=True)]
    )
    first, second = (task.statistics(outputs, truths) for outputs in (before, after))
    was, became = (task.summarise(table.sum(axis=0))[task.metric] for table in (first, second))
    if not math.isfinite(was):
        return None  # too few of the rows have an answer that training knew
    fall, interval = paired_difference(first, second, lambda totals: task.score(task.summarise(totals)))
    answers = [[next(iter(row.values())) for row in task.decode(outputs)] for outputs in (before, after)]
    flips = [_differ(one, other) for one, other in zip(*answers, strict=True)]
    allowed = POINT if task.maximize else POINT * abs(was)
    return Change(task.metric, was, became, fall, interval, allowed, float(np.mean(flips)))


def _differ(one: Any, other: Any) -> bool:
    """Whether an answer is another one; numbers that are near each other are not."""
    if isinstance(one, float) and isinstance(other, float):
        return not math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-6)
    return bool(_plain(one) != _plain(other))


def _plain(answer: Any) -> Any:
    """An answer without the confidences that it may carry inside."""
    if isinstance(answer, list):
        return [_plain(item) for item in answer]
    if isinstance(answer, dict):
        return {name: value for name, value in answer.items() if not isinstance(value, float)}
    return answer
