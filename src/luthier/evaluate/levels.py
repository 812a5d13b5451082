"""`Levels`: the places at which one setting is looked at, and its values as numbers for a tree. What is made
of them is `luthier.evaluate.anova`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from luthier.evaluate.tables import is_numeric

FEW = 8
"""Numbers with at most this many values are looked at one by one, not as a range."""
_UNSET = -1e9
_FEWEST_CELLS, _MOST_CELLS, _PER_CELL = 6, 24, 4


@dataclass(frozen=True)
class Levels:
    """One setting's levels, of equal weight.

    Attributes:
        at: Where they are: numbers, ascending, where the setting is a range (then without the level of what
            was not set, which comes last in ``points`` and ``counts``), otherwise values in words.
        counts: (levels,) trials near each.
        points: (levels, columns) their encoding.
        encoded: (n, columns) that of the trials.
        log: Whether a range is spaced by ratios.
    """

    at: list[float] | list[str]
    counts: np.ndarray
    points: np.ndarray
    encoded: np.ndarray
    log: bool = False


def levels_of(values: pd.Series) -> Levels:
    """The levels of one setting.

    Args:
        values: (n,) of the trials.
    """
    if not is_numeric(values):
        return _named(values)
    known = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    distinct = np.unique(known[np.isfinite(known)])
    return _few(known, distinct) if len(distinct) <= FEW else _range(known, distinct)


def _named(values: pd.Series) -> Levels:
    """One level a value, each with a 0/1 column of its own."""
    names = values.map(lambda value: "not set" if value is None or value != value else str(value))
    order = [str(name) for name in names.value_counts().index]
    encoded = np.column_stack([(names == name).to_numpy(dtype=np.float64) for name in order])
    return Levels(order, encoded.sum(axis=0).astype(int), np.eye(len(order)), encoded)


def _few(known: np.ndarray, distinct: np.ndarray) -> Levels:
    """One level a number, in one column, and one before them for what was not set."""
    filled = np.where(np.isnan(known), _UNSET, known)
    points = np.unique(filled)
    names = ["not set" if point == _UNSET else f"{point:g}" for point in points]
    counts = np.array([(filled == point).sum() for point in points])
    return Levels(names, counts, _single(points), filled[:, None])


def _range(known: np.ndarray, distinct: np.ndarray) -> Levels:
    """Cells of equal width over the range that was tried, the middle of each being its level; spaced by
    ratios where the trials lie more evenly so."""
    log = bool(distinct[0] > 0 and _unevenness(np.log(distinct)) < _unevenness(distinct))
    scaled = np.log(known) if log else known
    finite = scaled[np.isfinite(scaled)]
    cells = int(np.clip(len(finite) // _PER_CELL, _FEWEST_CELLS, _MOST_CELLS))
    edges = np.linspace(finite.min(), finite.max(), cells + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    at = np.exp(middles) if log else middles
    counts = np.histogram(finite, edges)[0]
    unset = int(np.isnan(known).sum())
    points = np.append(at, _UNSET) if unset else at
    counts = np.append(counts, unset) if unset else counts
    filled = np.where(np.isnan(known), _UNSET, known)
    return Levels([float(x) for x in at], counts, _single(points), filled[:, None], log)


def _unevenness(ascending: np.ndarray) -> float:
    """Largest distance of the points' distribution from a uniform one over their range."""
    shares = (ascending - ascending[0]) / (ascending[-1] - ascending[0])
    return float(np.abs(shares - np.linspace(0, 1, len(shares))).max())


def _single(points: np.ndarray) -> np.ndarray:
    """(levels, 1), rounded as a forest rounds what it is fitted to, so that each falls on the same side."""
    column: np.ndarray = points.astype(np.float32).astype(np.float64)[:, None]
    return column
