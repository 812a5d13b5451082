"""How far the model and its data can be trusted: calibration, confusion, slices, data sizes and labels."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from luthier.evaluate.slices import Slice
from luthier.report import words
from luthier.report.story import Story
from luthier.report.view.results import line, mark
from luthier.report.view.trials import finite

MATRIX = 16
"""Classes in the confusion matrix; with more, those with the most errors are shown."""
SLICES = 12
"""Slices of a kind that are shown; with more, the clearly worse ones and the lowest."""
SUSPECTS = 20
_SHADES = 9


def calibration(story: Story) -> dict[str, Any] | None:
    """The reliability chart's numbers; None where answers carry no probability."""
    known = story.evaluation.calibration
    if known is None:
        return None
    return {
        "bins": [
            {"x": one.confidence, "y": one.accuracy, "interval": finite([one.low, one.high]), "n": one.n}
            for one in known.bins
        ]
    }


def sizes(story: Story) -> dict[str, Any] | None:
    """The curve over data sizes, with the point that twice the rows may reach; None where there is none."""
    known = story.evaluation.sizes
    if known is None or not known.rows:
        return None
    twice = None
    if math.isfinite(known.twice):
        twice = {"x": 2 * known.rows[-1], "y": known.twice, "interval": finite(known.interval)}
    values, lows, highs = (finite(column) for column in (known.values, known.lows, known.highs))
    return {"x": known.rows, "y": values, "low": lows, "high": highs, "twice": twice}


def slices(story: Story) -> list[dict[str, Any]]:
    """The slices by kind, the lowest first, each with its place on a line that all of a kind share."""
    found = []
    key = lambda one: one.kind  # noqa: E731
    for kind, members in itertools.groupby(sorted(story.evaluation.slices, key=key), key=key):
        every = list(members)
        # Recall of a class is a share of which more is better, whatever the metric is.
        sign = 1 if story.maximize or kind == "class" else -1
        order = sorted(every, key=lambda one: (not one.worse, _rank(sign, one)))
        shown = sorted(order[:SLICES], key=lambda one: _rank(sign, one))
        scale = line([end for one in shown for end in (one.value, *one.interval)])
        found.append(
            {
                "kind": kind,
                "rows": [{"one": one, "mark": mark(scale, one.value, one.interval)} for one in shown],
                "left_out": len(every) - len(shown),
                "measure": "recall" if kind == "class" else words.plain_name(story.metric),
                "worse": sum(one.worse for one in every),
            }
        )
    return sorted(found, key=lambda part: -part["worse"])


def _rank(sign: int, one: Slice) -> float:
    return sign * one.value if math.isfinite(one.value) else math.inf


def suspects(story: Story) -> dict[str, Any] | None:
    """Likely label mistakes, the likeliest first; None where they were not looked for."""
    known = story.evaluation.suspects
    if known is None:
        return None
    total = sum(known.found.values())
    shown = known.rows[:SUSPECTS]
    return {"rows": shown, "total": total, "left_out": total - len(shown), "share": known.share} | {
        "found": [(split, count) for split, count in known.found.items() if count]
    }


def confusion(story: Story) -> dict[str, Any] | None:
    """The confusion matrix as table rows with shades 0 to 9 (share of the true class), and the pairs confused
    most."""
    if story.evaluation.confusion is None:
        return None
    names, table = story.evaluation.confusion
    labels, counts = [words.cut(str(name)) for name in names], np.asarray(table)
    errors = counts - np.diag(np.diag(counts))
    chosen = np.arange(len(labels))
    if len(labels) > MATRIX:
        chosen = np.sort(np.argsort(-(errors.sum(0) + errors.sum(1)), kind="stable")[:MATRIX])
    totals = np.maximum(counts.sum(axis=1), 1)
    rows = [
        {
            "label": labels[i],
            "total": int(counts[i].sum()),
            "recall": words.number(counts[i, i] / counts[i].sum() if counts[i].sum() else math.nan, 2),
            "cells": [
                {
                    "count": int(counts[i, j]),
                    "shade": math.ceil(_SHADES * counts[i, j] / totals[i]),
                    "right": i == j,
                }
                for j in chosen
            ],
        }
        for i in chosen
    ]
    pairs = [divmod(int(flat), len(labels)) for flat in np.argsort(-errors, axis=None, kind="stable")[:8]]
    return {
        "labels": [labels[i] for i in chosen],
        "rows": rows,
        "left_out": len(labels) - len(chosen),
        "pairs": [(labels[i], labels[j], int(errors[i, j])) for i, j in pairs if errors[i, j]],
    }
