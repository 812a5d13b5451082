"""Resamplings of rows for honest choosing where data are few: folds, and repeated hold-outs; and what is told
of one. Who is trained on them, and when, lives in `luthier.run.folds`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
)

from luthier.evaluate.intervals import UNKNOWN, Interval
from luthier.evaluate.plain import Plain

HELD_OUT = 0.2
"""Share of the rows that a hold-out leaves out."""

Way = Literal["folds", "holdouts"]


@dataclass
class CrossValidation(Plain):
    """What recipes scored on rows that they were not trained on, over training and validation rows together.

    Attributes:
        way: ``folds``: each row is left out once; ``holdouts``: a fifth of the rows, drawn anew each time.
        count: How many folds or hold-outs.
        value: The metric of the chosen recipe on the rows left out, all together.
        interval: 95% (low, high) of it, by resampling rows, or groups; it does not know that other training
            rows would have given another model (Bengio & Grandvalet 2004).
        each: The metric on each fold or hold-out.
        finalists: Value by trial, of all that were compared.
        rows: Rows that were left out at least once.
        seconds: What it took.
    """

    way: Way
    count: int
    value: float
    interval: Interval = UNKNOWN
    each: list[float] = field(default_factory=list)
    finalists: dict[int, float] = field(default_factory=dict)
    rows: int = 0
    seconds: float = 0.0


def resamplings(
    way: Way, count: int, rows: int, *, strata: np.ndarray | None = None, groups: np.ndarray | None = None,
    seed: int = 0,
) -> list[tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """Rows to train on and rows left out, for each fold or hold-out.

    Args:
        way: See `CrossValidation`.
        count: How many; folds become fewer where there are fewer groups.
        rows: n.
        strata: (n,) keys that each part should hold in the same shares, or None.
        groups: (n,) keys of rows that stay together, or None. Hold-outs of groups disregard strata.
        seed: Equal seeds give equal parts.

    Returns:
        Pairs of ascending row numbers.

    Raises:
        ValueError: There are fewer than two rows or groups.
    """
    units = rows if groups is None else len(np.unique(groups))
    if units < 2 or count < 1:
        raise ValueError(f"{units} rows or groups cannot be parted in {count} {way}.")
    keys = None if strata is None else np.unique(np.asarray(strata), return_inverse=True)[1]
    # A class of one row cannot be in both parts.
    if keys is not None and np.bincount(keys).min() < 2:
        keys = None if way == "holdouts" else keys
    splitter = _splitter(way, min(count, units), keys is not None, groups is not None, seed)
    with warnings.catch_warnings():
        # Of classes with fewer rows than folds: they are missing in some, as they must be.
        warnings.simplefilter("ignore", UserWarning)
        parts = splitter.split(np.zeros((rows, 1)), keys, groups)
        return [(np.sort(train), np.sort(held)) for train, held in parts]


def _splitter(way: Way, count: int, stratified: bool, grouped: bool, seed: int) -> Any:
    if way == "holdouts":
        kind: Any = GroupShuffleSplit if grouped else StratifiedShuffleSplit if stratified else ShuffleSplit
        return kind(n_splits=count, test_size=HELD_OUT, random_state=seed)
    count = max(2, count)
    if grouped:
        kind = StratifiedGroupKFold if stratified else GroupKFold
    else:
        kind = StratifiedKFold if stratified else KFold
    return kind(n_splits=count, shuffle=True, random_state=seed)


def pooled(tables: list[np.ndarray], parts: list[tuple[np.ndarray, np.ndarray]], rows: int) -> np.ndarray:
    """(n, j) statistics of all rows, each divided by how often it was left out; zero for those that never
    were.

    Args:
        tables: For each part the (m, j) statistics of the rows that it left out.
        parts: As `resamplings` gives them.
        rows: n.
    """
    summed, times = np.zeros((rows, tables[0].shape[1])), np.zeros(rows)
    for table, (_, held) in zip(tables, parts, strict=True):
        summed[held] += table
        times[held] += 1
    return summed / np.maximum(times, 1)[:, None]
