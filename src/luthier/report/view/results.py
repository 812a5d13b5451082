"""The result and what it is held against: verdicts, the headline's range, baselines and ensembles."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from luthier.evaluate.verdict import Verdict
from luthier.report import words
from luthier.report.story import Story

GRAVITIES = {"fault": "Fault", "advice": "Advice", "good": "Good"}
"""Gravities, the gravest first, as the page names them."""
SHOWN = 5
"""Verdicts that stand open on the page where more than these are no faults; others are folded away."""


def verdicts(story: Story) -> tuple[list[Verdict], list[Verdict]]:
    """What is made of the run, the gravest first: those that stand open, and those folded away."""
    order = list(GRAVITIES)
    ranked = sorted(story.diagnosis, key=lambda one: order.index(one.gravity))
    open_ones = max(SHOWN, sum(one.gravity == "fault" for one in ranked))
    # One that is folded away alone takes as much room as it saves.
    return (ranked, []) if len(ranked) <= open_ones + 1 else (ranked[:open_ones], ranked[open_ones:])


def strip(story: Story) -> dict[str, Any] | None:
    """The metric and its interval on a line from 0 to 1, with marks at the baselines; None if it is no
    share."""
    low, high = story.evaluation.interval
    values = [one.metrics.get(story.metric, math.nan) for one in story.evaluation.baselines]
    if not story.maximize or not all(
        0 <= value <= 1 for value in (low, high, story.evaluation.value, *values)
    ):
        return None
    return {
        "low": f"{100 * low:.2f}",
        "width": f"{100 * (high - low):.2f}",
        "at": f"{100 * story.evaluation.value - 0.4:.2f}",
        "marks": [f"{100 * value - 0.25:.2f}" for value in values],
    }


def baselines(story: Story) -> list[dict[str, Any]]:
    """Rows of the comparison: the chosen model, then the baselines, best first."""
    evaluation = story.evaluation
    sign = 1 if story.maximize else -1
    trained = {"name": f"{story.model.name}, fine-tuned", "chosen": True, "note": "the chosen model"}
    rows = [
        {**trained, "value": evaluation.value, "interval": evaluation.interval, "seconds": story.best.seconds}
        | {"difference": None, "difference_interval": None, "p": None}
    ]
    order = sorted(evaluation.baselines, key=lambda one: -sign * one.metrics.get(story.metric, math.nan))
    rows.extend(
        {
            "name": one.name,
            "chosen": False,
            "value": one.metrics.get(story.metric, math.nan),
            "note": one.note,
        }
        | {"interval": one.interval, "seconds": one.seconds, "difference": one.difference}
        | {"difference_interval": one.difference_interval, "p": one.p}
        | {"sense": words.sense(one), "sentence": words.gain(evaluation, one)}
        for one in order
    )
    return rows


def ensembles(story: Story) -> list[dict[str, Any]]:
    """Rows of the ensembles that were tried, the best on validation first, with each gain's place among all
    of them."""
    tried = story.evaluation.combined
    scale = line([end for one in tried for end in (*one.test_interval, *one.interval, 0.0)])
    return [
        {"one": one, "parts": _parts(one.parts)}
        | {"gain": mark(scale, one.gain, one.interval), "test": mark(scale, one.test_gain, one.test_interval)}
        | {"zero": scale(0.0)}
        for one in tried
    ]


def _parts(parts: list[tuple[int, float]]) -> str:
    """The networks in words; below zero are those that no single trial has."""
    named = [f"trial {trial} ({weight:.2f})" for trial, weight in parts[:8] if trial >= 0]
    if not named:
        return words.count(len(parts), "network")
    more = len(parts) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


Scale = Any
"""From a value to its place on a line 0 to 100 wide."""


def line(ends: Iterable[float]) -> Scale:
    """A scale that holds all the finite ones of ``ends``."""
    known = [end for end in ends if math.isfinite(end)] or [0.0]
    low, high = min(known), max(known)
    room = 0.04 * (high - low) or 1.0
    return lambda value: 100 * (value - low + room) / (high - low + 2 * room)


def mark(scale: Scale, value: float, interval: tuple[float, float]) -> dict[str, str] | None:
    """A value and its interval on a line; None where there is no value."""
    if not math.isfinite(value):
        return None
    low, high = (scale(end) if math.isfinite(end) else scale(value) for end in interval)
    return {"low": f"{low:.2f}", "width": f"{high - low:.2f}", "at": f"{scale(value):.2f}"}
