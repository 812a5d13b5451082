"""Slices: how well a model does on parts of the held-out rows, and which of them it does clearly worse on.

Parts are classes, lengths, and columns that the user names; what a class or a length is, tasks say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from luthier.data.dataset import visible
from luthier.errors import SettingError
from luthier.evaluate.intervals import (
    UNKNOWN,
    Interval,
    group_sums,
    resampled_totals,
    score_interval,
)
from luthier.evaluate.plain import Plain
from luthier.tasks.base import Task

FEW = 10
"""Slices of fewer rows are shown without interval and never called worse."""
MOST = 50
"""Values of a column at most: of more, the rarest are one slice together."""
DISTINCT = 8
"""Numbers of more distinct values than this are cut into quartiles."""
SIGNIFICANT = 0.05
"""Familywise error rate of calling slices worse."""
DRAWS = 4999
"""Permutations of a test, and resamples where rows cannot be permuted."""
OTHER, MISSING = "(other)", "(missing)"


class Tested(Protocol):
    """What is called worse, or not, by its p value."""

    p: float
    worse: bool


@dataclass
class Slice(Plain):
    """One part of the held-out rows.

    Attributes:
        kind: What the rows are parted by: ``class``, ``length``, or a column's name.
        name: Which part, in words: a class, "9 to 17 words", a value of the column.
        n: Rows in it.
        value: The optimised metric on them; for a class, the share of its rows that is answered right.
        interval: 95% (low, high) of it.
        worse: Whether it is clearly worse than the rest, corrected for the number of slices looked at.
        p: The p value of that, uncorrected; NaN where it was not tested.
    """

    kind: str
    name: str
    n: int
    value: float
    interval: Interval = UNKNOWN
    worse: bool = False
    p: float = float("nan")


def check_columns(columns: Sequence[str], frame: pd.DataFrame, where: str) -> None:
    """Makes sure that columns to slice by are there.

    Raises:
        SettingError: One is not; lists those that are.
    """
    for column in columns:
        if column not in visible(frame):
            raise SettingError(
                f"There is no column {column!r} to slice by in {where}.",
                f"Its columns: {', '.join(visible(frame))}.",
            )


def find_slices(
    task: Task,
    outputs: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    frame: pd.DataFrame,
    *,
    columns: Sequence[str] = (),
    groups: Any | None = None,
    root: str = ".",
    seed: int = 0,
) -> list[Slice]:
    """How well a model does on each part of the held-out rows.

    A slice is called worse by a one-sided test against all other rows of its kind, with Holm's correction
    (1979) over all slices of all kinds. The test permutes rows between a slice and the rest (Fisher's idea,
    exact whatever the metric), or, where rows are not independent or count for several classes, is a t test
    of the difference with the bootstrap's standard error.

    Args:
        task: The fitted task.
        outputs: n arrays.
        targets: n arrays.
        frame: The n rows.
        columns: Columns to slice by, beside classes and lengths.
        groups: (n,) keys where rows of a group are not independent.
        root: Folder that relative file names in the frame are resolved against.
        seed: Seed of resamples and permutations.

    Returns:
        Slices by kind, in the order of the values: classes, lengths, then the columns.
    """
    keys = None if groups is None else np.asarray(groups).astype(str)
    statistics = np.asarray(task.score_statistics(outputs, targets), dtype=np.float64)
    judged = np.asarray(task.statistics(outputs, targets).any(axis=1))
    found = _by_class(task, outputs, targets, keys, seed)
    measured = task.measure(frame, root)
    if measured is not None:
        unit, sizes = measured
        kind = "brightness" if unit == "brightness" else "length"
        found += _by_name(task, kind, quartiles(sizes, unit), statistics, judged, keys, seed)
    for column in columns:
        names = column_parts(frame[column])
        found += _by_name(task, column, names, statistics, judged, keys, seed)
    call_worse(found)
    return found


def quartiles(values: np.ndarray, unit: str = "") -> list[str]:
    """The quarter that each number lies in, in words such as ``9 to 17 words``; ``(missing)`` for NaN.

    Quarters that would hold the same numbers are one.
    """
    values = np.asarray(values, dtype=np.float64)
    known = values[np.isfinite(values)]
    if not len(known):
        return [MISSING] * len(values)
    edges = np.unique(np.quantile(known, [0.25, 0.5, 0.75]))
    place = np.searchsorted(edges, values, side="left")
    names = {}
    for one in np.unique(place[np.isfinite(values)]):
        inside = values[(place == one) & np.isfinite(values)]
        low, high = (f"{end:,.6g}" for end in (inside.min(), inside.max()))
        names[int(one)] = (f"{low} to {high}" if low != high else low) + (f" {unit}" if unit else "")
    return [
        names[int(one)] if math.isfinite(value) else MISSING for one, value in zip(place, values, strict=True)
    ]


def column_parts(column: pd.Series[Any]) -> list[str]:
    """The slice that each cell of a column lies in: its value, its quarter among numbers, or ``(other)``."""
    missing = column.isna().to_numpy()
    if (
        pd.api.types.is_numeric_dtype(column)
        and not pd.api.types.is_bool_dtype(column)
        and column.nunique() > DISTINCT
    ):
        return quartiles(column.to_numpy(dtype=np.float64, na_value=np.nan))
    names = [MISSING if gone else str(value) for value, gone in zip(column, missing, strict=True)]
    counts = pd.Series(names, dtype=object).value_counts(sort=True)
    if len(counts) <= MOST:
        return names
    kept = set(counts.index[: MOST - 1])
    return [name if name in kept else OTHER for name in names]


def _by_name(
    task: Task,
    kind: str,
    names: Sequence[str],
    statistics: np.ndarray,
    judged: np.ndarray,
    groups: np.ndarray | None,
    seed: int,
) -> list[Slice]:
    """Slices whose rows are apart; those of one value alone say nothing, and are left out."""
    labels = np.asarray(names, dtype=object)
    order = _order(list(dict.fromkeys(labels[judged])))
    if len(order) < 2:
        return []
    found = []
    for name in order:
        inside = (labels == name) & judged
        rest = ~inside & judged
        part = Slice(kind, str(name), int(inside.sum()), _value(task, statistics[inside].sum(axis=0)))
        if part.n >= FEW:
            part.interval = _interval(
                task, statistics[inside], None if groups is None else groups[inside], seed
            )
        if part.n >= FEW and rest.sum() >= FEW:
            if groups is None:
                part.p = permuted(statistics[judged], inside[judged], task.scores, seed=seed)
            else:
                own, others = statistics * inside[:, None], statistics * rest[:, None]
                part.p = resampled(own, others, task.scores, groups, seed=seed)
        found.append(part)
    return found


def _by_class(
    task: Task,
    outputs: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    groups: np.ndarray | None,
    seed: int,
) -> list[Slice]:
    """The recall of each class that is there; its rest are all other classes together."""
    counted = task.hits(outputs, targets)
    if counted is None:
        return []
    names, hits, truths = counted
    alone = groups is None and bool((truths.sum(axis=1) <= 1).all())
    together = np.stack([hits.sum(axis=1), truths.sum(axis=1)], axis=1).astype(np.float64)
    found = []
    for place, name in enumerate(names):
        own = np.stack([hits[:, place], truths[:, place]], axis=1).astype(np.float64)
        inside = own[:, 1] > 0
        if not inside.any():
            continue
        part = Slice("class", str(name), int(inside.sum()), float(recall(own.sum(axis=0))))
        if part.n >= FEW:
            keys = None if groups is None else groups[inside]
            part.interval = score_interval(own[inside], recall, groups=keys, seed=seed)
            rest = together - own
            if (rest[:, 1] > 0).sum() >= FEW:
                known = together[:, 1] > 0
                part.p = (
                    permuted(together[known], inside[known], recall, seed=seed)
                    if alone
                    else resampled(own, rest, recall, groups, seed=seed)
                )
        found.append(part)
    return found


def permuted(
    statistics: np.ndarray,
    inside: np.ndarray,
    scores: Callable[[np.ndarray], np.ndarray],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> float:
    """The p value of a slice scoring as much less than the rest as it does, by a permutation test.

    Args:
        statistics: (n, j) of independent rows.
        inside: (n,) bool, whether a row is in the slice.
        scores: Scores, higher is better, from summed statistics: (..., j) to (...).
        draws: Permutations.
        seed: Their seed.

    Returns:
        In (0, 1]; NaN where the slice or the rest has no score.
    """
    total = statistics.sum(axis=0)
    own = statistics[inside].sum(axis=0)
    seen = scores(own[None])[0] - scores((total - own)[None])[0]
    if not math.isfinite(seen):
        return math.nan
    size = int(inside.sum())
    # Rows with equal statistics are drawn as so many of one kind: the same test, whatever their number.
    kinds, counts = np.unique(statistics, axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    if len(kinds) * 4 <= len(statistics):
        drawn = generator.multivariate_hypergeometric(counts, size, size=draws, method="marginals") @ kinds
    else:
        drawn = np.stack(
            [
                statistics[generator.choice(len(statistics), size, replace=False)].sum(axis=0)
                for _ in range(draws)
            ]
        )
    differences = scores(drawn) - scores(total - drawn)
    # What differs by rounding alone is as extreme.
    return float((1 + np.sum(differences <= seen + 1e-12)) / (1 + draws))


def resampled(
    own: np.ndarray,
    rest: np.ndarray,
    scores: Callable[[np.ndarray], np.ndarray],
    groups: np.ndarray | None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> float:
    """The p value of a slice scoring less than the rest, by a t test with the bootstrap's standard error.

    Args:
        own: (n, j) what each row adds to the slice.
        rest: (n, j) what it adds to the rest.
        scores: As in `permuted`.
        groups: (n,) keys; whole groups are drawn. None: rows.
        draws: Resamples.
        seed: Their seed.

    Returns:
        In (0, 1); its degrees of freedom are one less than the rows or groups of the smaller side. NaN where
        either side has fewer than two.
    """
    from scipy.stats import t

    width = own.shape[1]
    units = group_sums(np.hstack([own, rest]), groups)
    several = min(int(side.any(axis=1).sum()) for side in (units[:, :width], units[:, width:]))
    totals = units.sum(axis=0)[None]
    seen = float((scores(totals[:, :width]) - scores(totals[:, width:]))[0])
    if several < 2 or not math.isfinite(seen):
        return math.nan
    drawn = resampled_totals(units, resamples=min(draws, 2000), seed=seed)
    differences = scores(drawn[:, :width]) - scores(drawn[:, width:])
    error = float(np.nanstd(differences))
    if error == 0:  # All alike on either side.
        return 1 / (1 + draws) if seen < 0 else 1.0
    return float(max(t.cdf(seen / error, several - 1), 1 / (1 + draws)))


def call_worse(slices: Sequence[Tested]) -> None:
    """Holm's step-down procedure over all slices that were tested."""
    tested = sorted((part for part in slices if math.isfinite(part.p)), key=lambda part: part.p)
    for place, part in enumerate(tested):
        if part.p * (len(tested) - place) > SIGNIFICANT:
            return
        part.worse = True


def _value(task: Task, totals: np.ndarray) -> float:
    score = float(task.scores(totals[None])[0])
    return score if task.maximize else -score


def _interval(task: Task, statistics: np.ndarray, groups: np.ndarray | None, seed: int) -> Interval:
    low, high = score_interval(statistics, task.scores, groups=groups, seed=seed)
    return (low, high) if task.maximize else (-high, -low)


def recall(totals: np.ndarray) -> np.ndarray:
    """Hits over truths, (..., 2) to (...)."""
    hits, truths = totals[..., 0], totals[..., 1]
    return np.asarray(np.where(truths > 0, hits / np.maximum(truths, 1), np.nan))


def _order(found: list[str]) -> list[str]:
    """Values in the order in which people expect them: quarters by size, others by name, the rest last."""
    last = {OTHER: 1, MISSING: 2}

    def key(name: str) -> tuple[int, float, str]:
        head = name.split(" to ")[0].split(" ")[0].replace(",", "")
        try:
            return last.get(name, 0), float(head), name
        except ValueError:
            return last.get(name, 0), math.inf, name

    return sorted(found, key=key)
