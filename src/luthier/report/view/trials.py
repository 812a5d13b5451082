"""The trials: the best of them, what they cost, how they ended, and all of them along the settings that
varied."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from luthier.evaluate.levels import FEW
from luthier.evaluate.tables import is_numeric, numbers, varied_settings
from luthier.report import words
from luthier.report.story import Story

TOP = 20
CURVES = 8
AXES = 11
"""Settings drawn in parallel, those that mattered most."""
_COSTS = {
    "seconds": ("training time, s", words.duration),
    "peak_memory": ("peak memory, MB", lambda value: words.memory(1e6 * value)),
    "trainable_parameters": ("trained parameters, M", lambda value: words.size(1e6 * value)),
}
_UNITS = {"peak_memory": 1e-6, "trainable_parameters": 1e-6}


def ranked(story: Story) -> pd.DataFrame:
    """Trials, best first; those without a score last."""
    trials = story.trials.copy()
    trials["score"] = numbers(trials, "score")
    return trials.sort_values("score", ascending=False, na_position="last", kind="stable").reset_index(
        drop=True
    )


def scored(story: Story) -> pd.DataFrame:
    """The trials that have a score, best first."""
    trials = ranked(story)
    known: pd.DataFrame = trials[np.isfinite(numbers(trials, "score"))].reset_index(drop=True)
    return known


def by_importance(story: Story, trials: pd.DataFrame) -> dict[str, str]:
    """Column to setting, of the settings that varied, the one that mattered most first."""
    weight = {one.setting: one.share for one in story.importance.settings}
    varied = varied_settings(trials)
    return dict(sorted(varied.items(), key=lambda pair: -weight.get(pair[1], -math.inf)))


def top_trials(story: Story) -> tuple[list[str], list[dict[str, Any]]]:
    """Header and rows of the best-trials table."""
    best = ranked(story)
    shown = list(by_importance(story, best))
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


def front_members(story: Story) -> set[int]:
    """Numbers of the trials on the Pareto front; none where only scores counted."""
    if not story.axes or "pareto" not in story.trials:
        return set()
    return {int(number) for number in story.trials.loc[story.trials["pareto"].astype(bool), "number"]}


def points(story: Story) -> dict[str, Any]:
    """All trials with a score, best first, as columns: what the charts of trials are drawn from."""
    trials = scored(story)
    sign = words.shown_score(story, 1.0)
    kind = "adaptation" if "adaptation" in trials and trials["adaptation"].map(str).nunique() > 1 else "model"
    kinds = trials[kind].map(words.setting) if kind in trials else pd.Series(["trial"] * len(trials))
    return {
        "number": [str(number) for number in trials["number"].tolist()],
        "score": [float(sign * score) for score in trials["score"]],
        "kind": [words.cut(text) for text in kinds],
        "chosen": [index for index, number in enumerate(trials["number"]) if number == story.best.trial],
        "costs": costs(story, trials),
        "axes": [_axis(trials[column], name) for column, name in by_importance(story, trials).items()][:AXES],
    }


def costs(story: Story, trials: pd.DataFrame) -> list[dict[str, Any]]:
    """What a score may be weighed against: each trial's value of it, and the places of those on the front.

    Of what was an objective or a limit, that is the run's own front, over all of these at once; of anything
    else, those that no other trial beats in score and in this.
    """
    found = []
    members = front_members(story)
    joint = [place for place, number in enumerate(trials["number"]) if number in members]
    limits = {axis.column: axis.limit for axis in story.axes}
    titles = {column: name for column, (name, _) in _COSTS.items()}
    titles |= {axis.column: axis.name for axis in story.axes}
    scores = numbers(trials, "score")
    for column in sorted(titles, key=lambda name: name not in limits):
        values = numbers(trials, column) * _UNITS.get(column, 1.0)
        known = values[np.isfinite(values)]
        # What was asked about is shown even where all trials take the same.
        if len(known) and (column in limits or np.ptp(known) > 0):
            front = joint if column in limits else pareto(values, scores)
            order = [int(place) for place in np.argsort(values, kind="stable") if np.isfinite(values[place])]
            found.append(
                {"name": titles[column], "values": finite(values), "limit": limits.get(column)}
                | {"front": [place for place in order if place in front], "joint": column in limits}
            )
    return found


def pareto(values: np.ndarray, scores: np.ndarray) -> list[int]:
    """Places of the trials that no other beats: none costs less and scores at least as high.

    Args:
        values: (n,) what each costs; NaN where that is not known.
        scores: (n,) higher is better.
    """
    order = np.lexsort((-scores, values))
    best, members = -math.inf, []
    for place in order[np.isfinite(values[order])]:
        if scores[place] > best:
            best = scores[place]
            members.append(int(place))
    return members


def front_tables(story: Story, data: dict[str, Any]) -> list[dict[str, Any]]:
    """The fronts in words: for each cost, rows of trial, what it costs, its score and what it is."""
    forms = dict(_COSTS.values())
    return [
        {
            "name": cost["name"],
            "rows": [
                {
                    "trial": data["number"][place],
                    "cost": forms.get(cost["name"], words.setting)(cost["values"][place]),
                    "score": words.number(data["score"][place], 4),
                    "kind": data["kind"][place],
                    "chosen": place in data["chosen"],
                }
                for place in cost["front"]
            ],
        }
        for cost in data["costs"]
    ]


def _axis(values: pd.Series, name: str) -> dict[str, Any]:
    """One setting as an axis: numbers as they are, everything else as places among its values."""
    title = words.plain_name(name)
    if is_numeric(values) and values.nunique() > FEW:
        known = numbers(values.to_frame("value"), "value")
        wide = bool(np.nanmin(known) > 0 and np.nanmax(known) > 30 * np.nanmin(known))
        return {"name": title, "names": None, "log": wide, "values": finite(known)}
    order = sorted(values.unique(), key=_place)
    names = [words.cut(words.setting(value)) for value in order]
    # Different values may look the same once cut: each keeps a place of its own.
    place = {words.setting(value): index for index, value in reversed(list(enumerate(order)))}
    return {"name": title, "names": names, "log": False} | {
        "values": [place[words.setting(value)] for value in values]
    }


def _place(value: Any) -> tuple[int, float, str]:
    """What is not set first, then numbers by size, then texts by letters."""
    if words.setting(value) == words.UNKNOWN:
        return (0, 0.0, "")
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        return (2, 0.0, str(value))
    return (1, float(value), "")


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


def finite(values: Any) -> list[float | None]:
    """Floats of six significant digits, with None in place of what is not finite."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]
