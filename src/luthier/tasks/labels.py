"""How cells become labels, numbers, texts and words: the place that knows what a missing cell looks like."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from luthier.errors import DataError

UNSEEN = -1
"""The index of a label that training never saw: no loss is counted, every answer is wrong."""
MISSING = -100
"""The index where there is no answer to compare with: neither loss nor error is counted."""


def is_list(value: Any) -> bool:
    """Whether a cell holds several values."""
    return isinstance(value, (list, tuple, np.ndarray, set, frozenset))


def is_missing(value: Any) -> bool:
    """Whether a cell says nothing: None, NaN, NA or blank text. An empty list says "none of them"."""
    if value is None or isinstance(value, str):
        return not (value and value.strip())
    return (
        not is_list(value)
        and not isinstance(value, dict)
        and pd.api.types.is_scalar(value)
        and bool(pd.isna(value))
    )


def label_text(value: Any) -> str | None:
    """A cell as a label's name, or None where it is missing. ``1``, ``1.0`` and ``"1"`` are one label."""
    if is_missing(value):
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def sort_labels(names: Iterable[str]) -> list[str]:
    """Distinct names in order; by value where all are whole numbers, so that 10 follows 9."""
    distinct = set(names)
    if all(re.fullmatch(r"-?\d{1,18}", name) for name in distinct):
        return sorted(distinct, key=lambda name: (int(name), name))
    return sorted(distinct)


def row_numbers(frame: pd.DataFrame) -> list[int]:
    """Rows as the user counts them: as in the source file where the reader kept that, else from 1."""
    if "__row__" in frame.columns:
        return [int(value) for value in frame["__row__"]]
    return list(range(1, len(frame) + 1))


def numbers(frame: pd.DataFrame, name: str) -> np.ndarray:
    """(n,) float64 values of a column, NaN where missing.

    Raises:
        DataError: A value is not a finite number; names it and its row.
    """
    series = frame[name]
    values = pd.to_numeric(series, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    for position in np.flatnonzero(~np.isfinite(values)):
        cell = series.iloc[position]
        if not is_missing(cell):
            raise DataError(
                f"Column {name!r} should hold numbers, but row {row_numbers(frame)[position]} holds "
                f"{str(cell)[:60]!r}.",
                "Mend or remove that row, or name another target column.",
            )
    return values


def texts(series: pd.Series[Any]) -> list[str]:
    """A column as texts; a missing cell is the empty text."""
    return ["" if is_missing(value) else str(value) for value in series]


def text_sizes(rows: Sequence[str]) -> tuple[str, np.ndarray]:
    """The unit and (n,) sizes of texts: ``words``, or ``characters`` where a text is one word (molecules,
    unspaced scripts).
    """
    words = np.array([len(text.split()) for text in rows], dtype=np.float64)
    if len(words) and np.median(words) < 2:
        return "characters", np.array([len(text) for text in rows], dtype=np.float64)
    return "words", words


def word_lists(frame: pd.DataFrame, name: str) -> list[list[str]]:
    """A column of lists as words; a missing cell is the empty list.

    Raises:
        DataError: A cell is not a list; names it and its row.
    """
    found = []
    for row, value in zip(row_numbers(frame), frame[name], strict=True):
        if is_list(value):
            found.append(["" if is_missing(word) else str(word) for word in value])
        elif is_missing(value):
            found.append([])
        else:
            raise DataError(
                f"Column {name!r} should hold lists of words, but row {row} holds {str(value)[:60]!r}.",
                "Give one list a row (JSON lines, Parquet) or a CoNLL file.",
            )
    return found


def one_line(text: str) -> str:
    """Text with its white space collapsed, for tables."""
    return " ".join(text.split())
