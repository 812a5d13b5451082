"""What a store gives back: runs and unfinished trials as plain records, trials and epochs as tables."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from luthier.recipe import Recipe
from luthier.study.tables import EpochRow, RunRow, TrialRow
from luthier.trial import Order


@dataclass(frozen=True)
class RunRecord:
    """A run as it is stored: see `Store.create_run` for what the fields mean."""

    id: str
    name: str
    created: dt.datetime
    updated: dt.datetime
    status: str
    settings: dict[str, Any]
    seed: int
    budget: float | None
    spent: float
    task: str
    data_fingerprint: str
    folder: str
    best_trial: int | None
    strategy_state: dict[str, Any] | None
    versions: dict[str, Any]


@dataclass(frozen=True)
class Unfinished:
    """A trial that was running when the process ended.

    Attributes:
        number: Its number.
        recipe: What it was trained with.
        seed: Its seed.
        until: The epoch its latest order goes to.
        resumed_from: Epochs finished when that order began; what was reported since is deleted when it is
            started again.
        attempts: How often that order was started.
        parent: The trial whose weights it started from, or None.
        repeats: The trial whose recipe it trains on another seed, or None.
    """

    number: int
    recipe: Recipe
    seed: int
    until: int
    resumed_from: int
    attempts: int
    parent: int | None
    repeats: int | None

    @property
    def order(self) -> Order:
        """The order to give again."""
        return Order(self.number, self.recipe, self.until, self.seed, self.parent, self.repeats)


def run_record(row: RunRow) -> RunRecord:
    """A row of the runs table."""
    return RunRecord(**{name: getattr(row, name) for name in RunRecord.__dataclass_fields__})


def unfinished(row: TrialRow) -> Unfinished:
    """A row of the trials table that is still running."""
    recipe = Recipe.parse(row.recipe)
    return Unfinished(
        row.number, recipe, row.seed, row.until, row.resumed_from, row.attempts, row.parent, row.repeats
    )


_TRIAL_COLUMNS = [
    "number", "status", "score", "loss", "best_epoch", "epochs", "seconds", "peak_memory",
    "trainable_parameters", "total_parameters", "reason", "seed", "attempts", "parent", "repeats", "started",
    "ended",
]  # fmt: skip


def _column(setting: str) -> str:
    return f"recipe_{setting}" if setting in _TRIAL_COLUMNS else setting


def trials_frame(rows: Sequence[TrialRow]) -> pd.DataFrame:
    """One row a trial.

    Columns: ``number``, ``status``, ``score``, ``loss`` (validation loss of the best epoch), ``best_epoch``,
    ``epochs`` (trained), ``seconds``, ``peak_memory`` (bytes), ``trainable_parameters``,
    ``total_parameters``, ``reason``, ``seed``, ``attempts``, ``parent`` (the trial whose weights it started
    from), ``repeats`` (the trial whose recipe it trains on another seed), ``started``, ``ended``, then each
    setting of the recipe by its name (its ``epochs``, the most that were allowed, as ``recipe_epochs``).
    """
    settings = {name: _column(name) for name in Recipe.model_fields}
    table = [
        {column: getattr(row, column) for column in _TRIAL_COLUMNS}
        | {column: row.recipe.get(name) for name, column in settings.items()}
        for row in rows
    ]
    frame = pd.DataFrame(table, columns=[*_TRIAL_COLUMNS, *settings.values()])
    whole = ("best_epoch", "trainable_parameters", "total_parameters", "parent", "repeats")
    counts = dict.fromkeys(whole, "Int64")
    return frame.astype(counts | dict.fromkeys(("score", "loss", "seconds"), "float64"))


def epochs_frame(rows: Sequence[tuple[int, EpochRow]]) -> pd.DataFrame:
    """One row an epoch: ``trial``, ``epoch``, ``score``, ``seconds``, ``peak_memory``, then each metric.

    Args:
        rows: Trial numbers with their epochs.
    """
    columns = ["epoch", "score", "seconds", "peak_memory"]
    metrics = list(dict.fromkeys(name for _, row in rows for name in row.metrics if name not in columns))
    table = [
        {"trial": number}
        | {column: getattr(row, column) for column in columns}
        | {name: row.metrics.get(name, math.nan) for name in metrics}
        for number, row in rows
    ]
    return pd.DataFrame(table, columns=["trial", *columns, *metrics])
