"""How cells and columns become sets of labels: lists, joined names, columns of 0 and 1. One label is read in
`labels`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from luthier.errors import DataError
from luthier.tasks.columns import Hints, by_name, kind, usable
from luthier.tasks.labels import MISSING, is_list, is_missing, label_text, numbers, row_numbers

_DELIMITERS = (";", "|", ",")


def find_delimiter(series: pd.Series[Any]) -> str | None:
    """The sign that joins label names in a column such as ``"sports;politics"``, or None.

    It must occur in one row of twenty or more, the names between must be short, and half of them or more must
    come in two different cells: free text with commas fails that, so do class names such as ``"No, never"``.
    """
    cells = [str(value) for value in series if not is_missing(value)]
    for delimiter in _DELIMITERS:
        if sum(delimiter in cell for cell in cells) < max(1, 0.05 * len(cells)):
            continue
        splits = [{part.strip() for part in cell.split(delimiter)} - {""} for cell in set(cells)]
        counts = Counter(part for parts in splits for part in parts)
        shared = sum(count > 1 for count in counts.values())
        if counts and 2 * shared >= len(counts) and max(len(part.split()) for part in counts) <= 4:
            return delimiter
    return None


def zero_one_columns(frame: pd.DataFrame) -> list[str]:
    """Columns that hold 0, 1 and gaps only, with both values."""
    found = []
    for name in usable(frame):
        if kind(frame[name]) == "integer":
            values = pd.to_numeric(frame[name], errors="coerce").dropna().unique()
            if set(values.tolist()) == {0, 1}:
                found.append(name)
    return found


def flag_columns(frame: pd.DataFrame, hints: Hints) -> list[str]:
    """The columns of 0 and 1 that the user named, or those there are where no column has a usual target's
    name."""
    target = hints.get("target")
    if target is not None:
        return list(target) if isinstance(target, list) and len(target) > 1 else []
    if by_name(usable(frame)) is not None:
        return []
    found = zero_one_columns(frame)
    return found if len(found) > 1 else []


def read_as_labels(column: pd.Series[Any]) -> tuple[float | None, str]:
    """How surely a column holds sets of labels, None where it cannot; and why."""
    what = kind(column)
    if what == "list":
        return 0.9, "it holds lists of labels"
    if what == "text" and (delimiter := find_delimiter(column)):
        return 0.85, f"it holds labels joined by {delimiter!r}"
    return (0.05 if what in ("text", "empty") else None), "it holds one label a row"


def flags(frame: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """(n, labels) of 1, 0 and -100 from columns of 0 and 1.

    Raises:
        DataError: A cell holds something else; names it and its row.
    """
    table = np.stack([numbers(frame, name) for name in columns], axis=1)
    wrong = np.argwhere(~np.isnan(table) & (table != 0) & (table != 1))
    if len(wrong):
        row, column = wrong[0]
        raise DataError(
            f"Column {columns[column]!r} should hold 0 and 1, but row "
            f"{row_numbers(frame)[row]} holds {table[row, column]:g}.",
            "Name only columns of 0 and 1 as targets.",
        )
    return np.where(np.isnan(table), MISSING, table)


def named(column: pd.Series[Any], delimiter: str | None) -> list[list[str] | None]:
    """The distinct labels of each cell, None where it is missing.

    Args:
        column: Lists, joined names, or single ones.
        delimiter: What joins names, or None.
    """
    rows: list[list[str] | None] = []
    for cell in column:
        if is_missing(cell):
            rows.append(None)
            continue
        parts = list(cell) if is_list(cell) else str(cell).split(delimiter) if delimiter else [cell]
        rows.append(list(dict.fromkeys(name for part in parts if (name := label_text(part)) is not None)))
    return rows
