"""`Dataset`: frames by split, where their files lie, and what reading them said. No judging here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from luthier.errors import DataError

Modality = Literal["text", "image", "audio"]

ROW = "__row__"
"""Column with the row number in the source, from 1; it survives splitting and cleaning."""

SPLITS = ("train", "validation", "test")
_SPELLINGS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "development": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")


def split_name(name: object) -> str | None:
    """``train``, ``validation`` or ``test`` for a usual spelling (also ``train-00000-of-00002``), or None."""
    return _SPELLINGS.get(_SHARD.sub("", str(name).strip().lower()))


def number_rows(frame: pd.DataFrame, numbers: Iterable[int] | None = None) -> pd.DataFrame:
    """A copy with a RangeIndex and a `ROW` column: ``numbers``, or those it has if unique, or 1 to n."""
    frame = frame.reset_index(drop=True)
    if numbers is None:
        kept = frame[ROW] if ROW in frame.columns else None
        if kept is not None and kept.is_unique and pd.api.types.is_integer_dtype(kept.dtype):
            return frame
        numbers = range(1, len(frame) + 1)
    frame[ROW] = np.fromiter(numbers, dtype=np.int64, count=len(frame))
    return frame


@dataclass
class Dataset:
    """Labelled data, in one to three splits.

    Attributes:
        name: Short name, for reports.
        splits: Frames by ``train``, ``validation``, ``test``, in this order; data that nobody has split is
            ``train``. Each has a RangeIndex and an int column ``__row__``, unique in its split: the line or
            record in the source, from 1.
        modality: ``image`` and ``audio`` frames hold file names relative to ``root`` in a column of that
            name.
        root: Folder that relative file names in frames are resolved against.
        source: Where the data came from, as the user named it.
        notes: What was assumed or left out in reading, one sentence each, to be said to the user.
    """

    name: str
    splits: dict[str, pd.DataFrame]
    modality: Modality = "text"
    root: Path = field(default_factory=Path)
    source: str = ""
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        unknown = [name for name in self.splits if name not in SPLITS]
        if unknown:
            raise DataError(f"Unknown split {unknown[0]!r}.", f"Splits are named {', '.join(SPLITS)}.")
        self.splits = {name: number_rows(self.splits[name]) for name in SPLITS if name in self.splits}

    def with_splits(self, splits: dict[str, pd.DataFrame], notes: Iterable[str] = ()) -> Dataset:
        """The same dataset with other rows, and with more notes."""
        return Dataset(self.name, splits, self.modality, self.root, self.source, [*self.notes, *notes])


def by_split_names(frames: dict[str, pd.DataFrame], source: str) -> dict[str, pd.DataFrame]:
    """Frames under the standard names of their splits.

    Raises:
        DataError: A name is no split's, or two names mean the same split.
    """
    splits: dict[str, pd.DataFrame] = {}
    for given, frame in frames.items():
        name = split_name(given)
        if name is None:
            raise DataError(
                f"{source} has a split called {given!r}.",
                "Name the splits train, validation (or valid, val, dev) and test, and leave others out.",
            )
        if name in splits:
            raise DataError(f"{source} has two {name} splits.", f"Keep one of the names that mean {name}.")
        splits[name] = frame
    return splits


def by_split_column(frame: pd.DataFrame, column: str | None) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Cuts a frame by its column of split names, which is removed.

    Args:
        frame: All rows.
        column: The column the user named, or None to look for one called ``split`` that holds nothing but
            split names.

    Returns:
        Frames by split (``train`` alone where there is no such column) and notes.

    Raises:
        DataError: The named column is absent, or it holds a value that names no split.
    """
    named = column is not None
    if column is None:
        column = next((str(name) for name in frame.columns if str(name).strip().lower() == "split"), None)
        if column is None:
            return {"train": frame}, []
    elif column not in frame.columns:
        raise DataError(
            f"No column {column!r} to split by.", f"Columns: {', '.join(map(str, visible(frame)))}."
        )
    names = frame[column].map(split_name)
    bad = frame.index[names.isna()]
    if not named and (len(bad) or "train" not in set(names)):
        return {"train": frame}, []
    if len(bad):
        raise DataError(
            f"Column {column!r} holds {frame[column].iloc[bad[0]]!r} in row {frame[ROW].iloc[bad[0]]}, "
            f"which names no split ({len(bad)} such rows).",
            "Use train, validation (or valid, val, dev) and test.",
        )
    rest = frame.drop(columns=[column])
    splits = {name: rest[names == name] for name in SPLITS if (names == name).any()}
    return splits, [f"Column {column!r} gives the splits."]


def visible(frame: pd.DataFrame) -> list[str]:
    """Column names without our own row numbers."""
    return [str(name) for name in frame.columns if name != ROW]
