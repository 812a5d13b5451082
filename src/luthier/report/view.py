"""From a `Story` to what the report's page shows: text for its tables and plain numbers for its charts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from luthier.evaluate.tables import numbers, varied_settings
from luthier.report import words
from luthier.report.story import Story

TOP = 20
CURVES = 8
MATRIX = 16
"""Classes in the confusion matrix; with more, those with the most errors are shown."""
_SHADES = 9
_SEVERITY = {"fault": "error", "advice": "warning", "good": "info"}


def ranked(story: Story) -> pd.DataFrame:
    """Trials, best first; those without a score last."""
    trials = story.trials.copy()
    trials["score"] = numbers(trials, "score")
    return trials.sort_values("score", ascending=False, na_position="last", kind="stable").reset_index(
        drop=True
    )


def top_trials(story: Story) -> tuple[list[str], list[dict[str, Any]]]:
    """Header and rows of the best-trials table."""
    best = ranked(story)
    weight = {one.setting: one.share for one in story.importance.settings}
    varied = varied_settings(best)
    shown = sorted(varied, key=lambda column: -weight.get(varied[column], -math.inf))
    best = best[np.isfinite(numbers(best, "score"))].head(TOP)
    facts: dict[str, tuple[str, Callable[[float], str]]] = {
        "Seconds": ("seconds", lambda value: words.number(value, 1)),
        "Epochs": ("epochs", lambda value: words.number(value, 0)),
        "Peak memory": ("peak_memory", words.memory),
        "Trained": ("trainable_parameters", words.size),
    }
    facts |= {axis.name[:1].upper() + axis.name[1:]: (axis.column, words.setting) for axis in story.axes}
    columns = {title: [form(x) for x in numbers(best, name)] for title, (name, form) in facts.items()}
    columns = {title: cells for title, cells in columns.items() if set(cells) != {words.UNKNOWN}}
    for column in shown:
        columns[words.plain_name(column)] = [words.cut(words.setting(value)) for value in best[column]]
    scores = [words.number(words.shown_score(story, score), 4) for score in best["score"]]
    members = front_members(story)
    rows = [
        {"trial": str(number), "chosen": number == story.best.trial, "cells": [score, *cells]}
        | {"front": number in members}
        for number, score, *cells in zip(best["number"].tolist(), scores, *columns.values(), strict=True)
    ]
    return ["Trial", words.plain_name(story.metric), *columns], rows


def baselines(story: Story) -> list[dict[str, Any]]:
    """Rows of the comparison: the chosen model, then the baselines, best first."""
    evaluation = story.evaluation
    sign = 1 if story.maximize else -1
    trained = {"name": f"{story.model.name}, fine-tuned", "chosen": True, "note": "the chosen model"}
    rows = [
        {**trained, "value": evaluation.value, "interval": evaluation.interval, "seconds": story.best.seconds}
        | {"difference": None, "difference_interval": None}
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
        | {"difference_interval": one.difference_interval}
        | {"sense": words.sense(one), "sentence": words.gain(evaluation, one)}
        for one in order
    )
    return rows


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


def curves(story: Story) -> list[dict[str, Any]]:
    """Learning curves of the best trials, the chosen one first."""
    if not len(story.epochs):
        return []
    known = set(story.epochs["trial"])
    order = [story.best.trial, *(trial for trial in ranked(story)["number"] if trial != story.best.trial)]
    lines = []
    for trial in [trial for trial in order if trial in known][:CURVES]:
        epochs = story.epochs[story.epochs["trial"] == trial].sort_values("epoch")
        lines.append(
            {
                "trial": int(trial),
                "chosen": bool(trial == story.best.trial),
                "epoch": [int(epoch) for epoch in epochs["epoch"]],
                "score": finite(words.shown_score(story, 1.0) * numbers(epochs, "score")),
                "loss": finite(numbers(epochs, "loss")),
                "train_loss": finite(numbers(epochs, "train_loss")),
            }
        )
    return lines


def scatter(story: Story) -> list[dict[str, Any]]:
    """One point a trial: seconds, score, and the settings that varied, in words; empty where no time is
    known."""
    trials = ranked(story)
    trials = trials[np.isfinite(numbers(trials, "score")) & np.isfinite(numbers(trials, "seconds"))]
    varied = list(varied_settings(trials).items())[:8]
    sign = words.shown_score(story, 1.0)
    return [
        {
            "trial": str(number),
            "x": float(trial["seconds"]),
            "y": sign * float(trial["score"]),
            "kind": words.cut(words.setting(trial["adaptation"])) if "adaptation" in trial else "trial",
            "chosen": number == story.best.trial,
            "text": [
                f"{words.plain_name(name)}: {words.cut(words.setting(trial[key]))}" for key, name in varied
            ],
        }
        for number, (_, trial) in zip(trials["number"].tolist(), trials.iterrows(), strict=True)
    ]


def front_members(story: Story) -> set[int]:
    """Numbers of the trials on the Pareto front; none where only scores counted."""
    if not story.axes or "pareto" not in story.trials:
        return set()
    return {int(number) for number in story.trials.loc[story.trials["pareto"].astype(bool), "number"]}


def fronts(story: Story) -> list[dict[str, Any]]:
    """For each axis, a point a trial: its value there, its score, and whether it is on the front."""
    members, sign = front_members(story), words.shown_score(story, 1.0)
    found = []
    for axis in story.axes:
        trials = ranked(story)
        trials["x"] = numbers(trials, axis.column)
        trials = trials[np.isfinite(trials["score"]) & np.isfinite(trials["x"])]
        points = [
            {
                "trial": str(number),
                "x": float(x),
                "y": sign * float(score),
                "front": number in members,
                "chosen": number == story.best.trial,
                "model": words.cut(words.setting(model)),
            }
            for number, x, score, model in zip(
                trials["number"].tolist(), trials["x"], trials["score"],
                trials["model"] if "model" in trials else itertools.repeat(story.model.name), strict=False,
            )
        ]  # fmt: skip
        found.append({"name": axis.name, "limit": axis.limit, "points": points})
    return found


def statuses(story: Story) -> list[tuple[str, int]]:
    """How trials ended, as (status, count)."""
    if "status" not in story.trials:
        return []
    counts = story.trials["status"].astype(str).value_counts()
    return [(str(name), int(count)) for name, count in counts.items()]


def failures(story: Story) -> list[tuple[str, int]]:
    """Reasons of failed trials, the most frequent first."""
    if "status" not in story.trials or "reason" not in story.trials:
        return []
    failed = story.trials[story.trials["status"] == "failed"]
    return [
        (str(reason), int(count)) for reason, count in failed["reason"].fillna("").value_counts().items()
    ][:6]


def remarks(story: Story) -> list[tuple[str, str, str]]:
    """What wants something done, of the training first, then of the data: (what it is about, severity,
    sentence)."""
    findings = sorted(story.dataset.findings, key=lambda finding: finding[0] != "error")
    return [
        *(("", _SEVERITY[one.gravity], words.verdict(one)) for one in story.diagnosis),
        *(("Data", severity, message) for severity, message in findings if severity != "info"),
    ]


def data_notes(story: Story) -> list[str]:
    """What is good to know of the data and wants nothing done: what was assumed, and what the check noted."""
    return [*story.notes, *(message for severity, message in story.dataset.findings if severity == "info")]


def stages(story: Story) -> list[dict[str, Any]]:
    """Stages with their share of the time, and where each starts on a bar 100 wide."""
    total = sum(seconds for _, seconds in story.stages) or 1.0
    rows, start = [], 0.0
    for name, seconds in story.stages:
        share = 100 * seconds / total
        rows.append({"name": name, "seconds": seconds, "share": share, "start": start})
        start += share
    return rows


def charts(story: Story) -> dict[str, Any]:
    """Numbers for the page's charts, as JSON values."""
    rows = baselines(story)
    mattered = story.importance.settings[:12]
    return {
        "metric": words.plain_name(story.metric),
        "maximize": story.maximize,
        "baselines": [
            {"name": row["name"], "value": finite([row["value"]])[0], "interval": finite(row["interval"])}
            | {"chosen": row["chosen"]}
            for row in rows
        ],
        "scatter": scatter(story),
        "fronts": fronts(story),
        "curves": curves(story),
        "importance": [
            {"name": words.plain_name(one.setting), "share": one.share, "low": one.low, "high": one.high}
            for one in mattered
        ],
    }


def finite(values: Any) -> list[float | None]:
    """Floats, with None in place of what is not finite."""
    return [float(value) if math.isfinite(value) else None for value in values]
