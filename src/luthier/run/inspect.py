"""Looks without tuning: the data check, the ranking of models, and labelled data for a finished model."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from luthier import data as reading
from luthier.data.check import Finding
from luthier.engine.checkpoint import Checkpoints
from luthier.engine.engine import Engine
from luthier.engine.inputs import Inputs
from luthier.errors import DataError
from luthier.run import prepare as preparing
from luthier.run.answers import any_known
from luthier.run.rank import rank as rank_models
from luthier.run.settings import Settings
from luthier.tasks.base import Task

# Values of a column that a message quotes.
NAMED = 5


@dataclass(frozen=True)
class Checked:
    """What a data check found.

    Attributes:
        task: Inferred or given.
        columns: Role to column name(s).
        rows: Rows by split, as read.
        findings: Gravest first.
        notes: What was inferred.
    """

    task: str
    columns: dict[str, str | list[str]]
    rows: dict[str, int]
    findings: list[Finding]
    notes: list[str] = field(default_factory=list)


def check(settings: Settings, data: Any = None) -> Checked:
    """Looks at a dataset as a run would, and stops there; errors are among the findings instead of raised."""
    dataset = preparing.read(settings, data)
    kind, columns = preparing.understand(dataset, settings)
    source = next(iter(preparing.find_models(settings, kind).values()))
    findings = preparing.check_data(dataset, kind(columns), settings, source)
    return Checked(
        kind.name,
        dict(columns.roles),
        {name: len(frame) for name, frame in dataset.splits.items()},
        findings,
        [*dataset.notes, columns.why],
    )


def rank(settings: Settings, data: Any = None) -> list[dict[str, Any]]:
    """Ranks the given models on a dataset, best first: rows of model, parameters, probe, logme, seconds."""
    set_threads(settings)
    prepared = preparing.prepare(settings, data)
    inputs = Inputs(prepared.task, search_splits(prepared.dataset), prepared.dataset.root)
    with tempfile.TemporaryDirectory() as scratch:
        engine = Engine(inputs, prepared.sources, Checkpoints(Path(scratch)), settings.device)
        return [candidate.row() for candidate in rank_models(engine, settings.seed)]


def search_splits(dataset: reading.Dataset) -> dict[str, pd.DataFrame]:
    """The splits a search may see: all but the test."""
    return {name: frame for name, frame in dataset.splits.items() if name != "test"}


def set_threads(settings: Settings) -> None:
    """Sets the CPU threads asked for."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)


def labelled(data: Any, task: Task) -> tuple[pd.DataFrame, Path]:
    """Rows to evaluate a finished model on, and the folder that their file names start at.

    Raises:
        DataError: A column is missing, or there are no labelled rows.
    """
    dataset = reading.read(data)
    split = "test" if "test" in dataset.splits else next(iter(dataset.splits))
    frame = dataset.splits[split]
    for role, names in task.columns.roles.items():
        for name in [names] if isinstance(names, str) else names:
            if name not in frame.columns:
                known = ", ".join(c for c in frame.columns if not c.startswith("__"))
                raise DataError(
                    f"{dataset.source!r} has no column {name!r}, the {role} this model was trained with.",
                    f"Its columns: {known}.",
                )
    target = task.columns.roles["target"]
    kept = frame[frame[target].notna().all(axis=1) if isinstance(target, list) else frame[target].notna()]
    if kept.empty:
        raise DataError(f"{dataset.source!r} has no labelled rows to evaluate on.")
    return kept.reset_index(drop=True), dataset.root


def known_answers(task: Task, frame: pd.DataFrame) -> list[np.ndarray]:
    """The true answers of rows, encoded.

    Raises:
        DataError: Training saw none of them, so that there is nothing to judge by.
    """
    if any_known(task, frame):
        return task.targets(frame)
    target = task.columns.roles["target"]
    column = target[0] if isinstance(target, list) else target
    met = [str(value) for value in frame[column].map(str).unique()[:NAMED]]
    raise DataError(
        f"None of the {len(frame):,} rows has an answer that this model knows: column {column!r} holds "
        f"{', '.join(map(repr, met))}{' and others' if frame[column].map(str).nunique() > NAMED else ''}.",
        f"It was trained to answer {', '.join(map(repr, task.label_names[:NAMED]))}"
        f"{' and others' if len(task.label_names) > NAMED else ''}.",
    )
