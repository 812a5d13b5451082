"""`luthier labels` in Python: answers known later, from a table to the records, all or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from luthier import data as reading
from luthier.errors import DataError
from luthier.monitor.requests import strange
from luthier.run.watched import Watched, locate, opened
from luthier.tasks.base import Task
from luthier.tasks.labels import is_missing, label_text, row_numbers

ID = "id"
NAMED = 5
"""Values that a message quotes."""


@dataclass(frozen=True)
class Labelled:
    """What came of a table of labels.

    Attributes:
        new: Observations that have a label now and had none.
        replaced: That had another one.
        same: That had this one already.
        unknown: Ids that the records do not have: never recorded, or too old to be kept.
        empty: Rows without a label.
        unseen: Labels that training never saw: answers to these are wrong.
        labels: Values of these, some.
    """

    new: int
    replaced: int
    same: int
    unknown: int
    empty: int
    unseen: int
    labels: tuple[str, ...] = ()


def label(
    named: str | Path,
    data: Any,
    *,
    url: str | None = None,
    registry: str | None = None,
    model: str | None = None,
) -> Labelled:
    """Keeps the true answers of recorded requests.

    Args:
        named: A run folder, an export, or the name of a deployment.
        data: A table with the column ``id`` and the target column that the model was trained on: a file (CSV,
            TSV, JSON lines, Parquet) or a frame.
        url: Where the records are; None: ``records.sqlite`` in that folder.
        registry: The folder of deployments.
        model: Name in the records, where they are of several models.

    Raises:
        DataError: A column is missing, an id has two labels, a label is of the wrong form, or the records
            have none of the ids, or the model none of the labels.
        LuthierError: There is no such model, no reference, or no records.
    """
    frame = pd.concat(list(reading.read(data).splits.values()), ignore_index=True)
    with opened(locate(named, url=url, registry=registry), model=model) as watched:
        return _label(watched, frame, str(data) if isinstance(data, str | Path) else "the table")


def _label(watched: Watched, frame: pd.DataFrame, source: str) -> Labelled:
    task = watched.kept.task
    given = _by_id(task, frame, source)
    told = {one: value for one, value in given.items() if value is not None}
    known = watched.records.known(watched.model, list(told))
    kept = {one: value for one, value in told.items() if one in known}
    if told and not kept:
        raise DataError(
            f"None of the {len(told):,} ids in {source!r} was recorded: {_some(list(told))}.",
            "The column id holds what the server answered as the id of each answer.",
        )
    unseen = strange(task, list(kept.values()))
    values = sorted({str(value) for value, new in zip(kept.values(), unseen, strict=True) if new})
    if kept and unseen.all():
        raise DataError(
            f"None of the labels in {source!r} is one that the model knows: {_some(values)}.",
            f"It was trained to answer {_some(task.label_names)}.",
        )
    new, replaced = watched.records.label(watched.model, kept)
    return Labelled(
        new, replaced, len(kept) - new - replaced, len(told) - len(kept), len(given) - len(told),
        int(unseen.sum()), tuple(values[:NAMED]),
    )  # fmt: skip


def _by_id(task: Task, frame: pd.DataFrame, source: str) -> dict[str, Any]:
    """JSON values by id; None for rows without a label."""
    target = task.columns.roles["target"]
    columns = target if isinstance(target, list) else [target]
    for column in (ID, *columns):
        if column not in frame.columns:
            shown = ", ".join(str(one) for one in frame.columns if not str(one).startswith("__"))
            raise DataError(
                f"{source!r} has no column {column!r}.",
                f"It needs {ID} and {', '.join(columns)}; its columns are: {shown}.",
            )
    found: dict[str, Any] = {}
    rows: dict[str, int] = {}
    for at, row in enumerate(row_numbers(frame)):
        given = label_text(frame[ID].iloc[at])
        if given is None:
            raise DataError(f"Row {row} of {source!r} has no id.", "Give each row one, or remove it.")
        cells = {name: _plain(frame[name].iloc[at]) for name in columns}
        missing = all(cell is None for cell in cells.values())
        value = None if missing else cells if isinstance(target, list) else cells[columns[0]]
        if given in found and found[given] != value:
            raise DataError(
                f"The id {given!r} has two labels in {source!r}, in rows {rows[given]} and {row}.",
                "Keep one of them. Nothing was written.",
            )
        found[given], rows[given] = value, row
    return found


def _plain(cell: Any) -> Any:
    """A cell as a JSON value; None where it is missing."""
    if isinstance(cell, np.ndarray | list | tuple | set):
        return [_plain(item) for item in cell]
    if is_missing(cell):
        return None
    if isinstance(cell, np.generic):
        cell = cell.item()
    return cell if isinstance(cell, bool | int | float | str) else str(cell)


def _some(values: list[str]) -> str:
    named = ", ".join(map(repr, values[:NAMED]))
    return named + (" and others" if len(values) > NAMED else "")
