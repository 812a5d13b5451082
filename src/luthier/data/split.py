"""Making the splits that are missing: stratified, grouped, seeded. Given splits are never touched."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from luthier.data.dataset import SPLITS, Dataset, visible
from luthier.data.duplicates import input_texts, normalise
from luthier.errors import DataError

AUTO_SHARE, AUTO_ROWS = 0.15, 2000
"""Automatic validation size: this share of the rows, but no more rows than tell two recipes a point apart."""

_SWEEPS = 5


def split(
    dataset: Dataset,
    *,
    strata: np.ndarray | None = None,
    groups: str | None = None,
    inputs: str | list[str] | None = None,
    validation: float | None = 0.15,
    test: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """Gives a dataset the splits it lacks, taken out of its training rows.

    Args:
        dataset: With at least ``train``; other splits it has are kept as they are.
        strata: (n,) keys of the training rows; each key is represented in the new splits as in the whole, and
            a key never leaves training altogether. None: rows are drawn without regard.
        groups: Column whose equal values stay together (a patient, a speaker); rows without a value are
            groups of one.
        inputs: Column(s) with the input: rows whose texts count as equal stay together, so that no leak is
            made. Not for images, whose file names say nothing.
        validation: Share of the training rows, in (0, 1); None: 15%, at most 2,000 rows.
        test: Share of the training rows, in (0, 1).
        seed: Equal seeds give equal splits.

    Returns:
        A dataset with all three splits, rows in their old order, and notes on what was made.

    Raises:
        DataError: No training rows, no such group column, shares out of range, or too few rows or groups.
    """
    if "train" not in dataset.splits:
        raise DataError(
            "There is no train split to learn from.", f"Found: {', '.join(dataset.splits) or 'nothing'}."
        )
    train = dataset.splits["train"]
    count = len(train)
    shares = {"validation": AUTO_SHARE if validation is None else validation, "test": test}
    for name, share in shares.items():
        if not 0 < share < 1:
            raise DataError(
                f"The {name} share cannot be {share}.", "Give a number between 0 and 1, such as 0.15."
            )
    together = _together(train, inputs)
    members = None if groups is None else _merged(_members(train, groups), together)
    wanted = {
        name: max(1, round(shares[name] * count))
        for name in ("test", "validation")
        if name not in dataset.splits
    }
    if validation is None and "validation" in wanted:
        wanted["validation"] = min(wanted["validation"], AUTO_ROWS)
    notes = _crossing_groups(dataset, groups) if groups else []
    if not wanted:
        return dataset.with_splits(dataset.splits, notes)
    if sum(wanted.values()) >= count:
        raise DataError(
            f"{count} training rows are too few to take {' and '.join(wanted)} from (shares {shares}).",
            "Add rows, take smaller shares, or give the splits yourself.",
        )
    keys = _codes(strata, count)
    generator = np.random.default_rng(seed)
    rest = np.arange(count)
    made: dict[str, np.ndarray] = {}
    for name, size in wanted.items():
        if members is None:
            # Of equal rows the first is drawn, and the others go with it.
            _, first, place = np.unique(together[rest], return_index=True, return_inverse=True)
            drawn, said = _take_rows(
                keys[rest][first], max(1, round(size * len(first) / len(rest))), generator
            )
            taken = np.flatnonzero(np.isin(place, drawn))
        else:
            taken, said = _take_groups(keys[rest], members[rest], size, generator)
        made[name] = rest[taken]
        rest = np.delete(rest, taken)
        notes.append(_describe(name, len(taken), count, strata, groups, seed))
        notes.extend(f"{name}: {note}" for note in said)
    made["train"] = rest
    splits = {
        name: train.iloc[made[name]].reset_index(drop=True) if name in made else dataset.splits[name]
        for name in SPLITS
    }
    return dataset.with_splits(splits, notes)


def _members(train: pd.DataFrame, groups: str) -> np.ndarray:
    """(n,) group number of each training row; a missing value is a group of its own."""
    if groups not in visible(train):
        raise DataError(f"No column {groups!r} to group by.", f"Columns: {', '.join(visible(train))}.")
    codes = pd.factorize(train[groups].map(_hashable))[0].astype(np.int64)
    missing = np.flatnonzero(codes < 0)
    codes[missing] = codes.max(initial=-1) + 1 + np.arange(len(missing))
    return codes


def _together(train: pd.DataFrame, inputs: str | list[str] | None) -> np.ndarray:
    """(n,) number of each row's input: equal inputs have equal numbers, in order of appearance."""
    if inputs is None:
        return np.arange(len(train))
    keys = np.array([normalise(text) for text in input_texts(train, inputs)], dtype=object)
    return np.asarray(pd.factorize(keys)[0], dtype=np.int64)


def _merged(members: np.ndarray, together: np.ndarray) -> np.ndarray:
    """(n,) number of the smallest set of rows that is closed under both: same group, equal input."""
    size = int(members.max()) + 1
    shape = (size + int(together.max()) + 1,) * 2
    links = coo_matrix((np.ones(len(members)), (members, together + size)), shape=shape)
    return np.asarray(connected_components(links, directed=False)[1][members], dtype=np.int64)


def _hashable(value: object) -> object:
    return repr(value) if isinstance(value, (list, dict, set)) else value


def _crossing_groups(dataset: Dataset, groups: str) -> list[str]:
    """Notes on groups that given splits share."""
    notes = []
    names = [name for name in dataset.splits if groups in dataset.splits[name].columns]
    values = {name: set(dataset.splits[name][groups].dropna().map(_hashable)) for name in names}
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            shared = len(values[first] & values[second])
            if shared:
                notes.append(f"The given {first} and {second} splits share {shared} values of {groups!r}.")
    return notes


def _codes(strata: np.ndarray | None, count: int) -> np.ndarray:
    """(n,) integer stratum of each row, from 0."""
    if strata is None:
        return np.zeros(count, dtype=np.int64)
    if len(strata) != count:
        raise ValueError(f"{len(strata)} strata for {count} training rows")
    codes = pd.factorize(np.asarray(strata), use_na_sentinel=False)[0]
    return np.asarray(codes, dtype=np.int64)


def _take_rows(keys: np.ndarray, size: int, generator: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """Sorted positions of ``size`` rows, each key by its share and never all of its rows; notes."""
    counts = np.bincount(keys)
    exact = counts * (size / len(keys))
    room = np.maximum(counts - 1, 0)
    quota = np.minimum(np.floor(exact).astype(np.int64), room)
    # The rows still missing go to the keys with the largest remainders; ties are broken by the seed.
    order = np.lexsort((generator.random(len(counts)), -(exact - quota)))
    while quota.sum() < size and (quota < room).any():
        for key in order:
            if quota.sum() < size and quota[key] < room[key]:
                quota[key] += 1
    notes = []
    single = int((counts == 1).sum())
    if quota.sum() == 0:
        notes.append("every class has one row only, so rows were drawn without regard to classes.")
        return np.sort(generator.permutation(len(keys))[:size]), notes
    if single:
        notes.append(f"{single} classes have one row only; it stays in training.")
    shuffled = generator.permutation(len(keys))
    by_key = shuffled[np.argsort(keys[shuffled], kind="stable")]
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    within = np.arange(len(keys)) - np.repeat(starts, counts)
    return np.sort(by_key[within < np.repeat(quota, counts)]), notes


def _take_groups(
    keys: np.ndarray, members: np.ndarray, size: int, generator: np.random.Generator
) -> tuple[np.ndarray, list[str]]:
    """Sorted positions of whole groups, near ``size`` rows together, each key by its share; notes.

    Local search from no group, in a shuffled order: a group is taken, or put back, if that brings the counts
    nearer to the goal (squared distances, each divided by the goal, so that rare keys count) and leaves every
    key a row in training.
    """
    present, members = np.unique(members, return_inverse=True)
    if len(present) < 2:
        raise DataError(
            "One group is left to split.", "Grouped splits need a group each for train, validation and test."
        )
    table = np.zeros((len(present), int(keys.max()) + 1))
    np.add.at(table, (members, keys), 1)
    table = table[:, table.any(axis=0)]
    totals = table.sum(axis=0)
    goal = totals * (size / len(keys))
    order = generator.permutation(len(present))
    taken, counts = np.zeros(len(present), dtype=bool), np.zeros_like(goal)
    for _ in range(_SWEEPS):
        changed = False
        for group in order:
            after = counts - table[group] if taken[group] else counts + table[group]
            nearer = ((after - goal) ** 2 / goal).sum() < ((counts - goal) ** 2 / goal).sum()
            if nearer and (after < totals).all():
                taken[group], counts, changed = not taken[group], after, True
        if not changed:
            break
    notes = []
    if not taken.any():
        keeps = [group for group in order if (table[group] < totals).all()]
        smallest = min(keeps or order, key=lambda group: table[group].sum())
        taken[smallest] = True
        if not keeps:
            notes.append("every group holds a class that no other group has, so training lacks a class.")
    positions = np.flatnonzero(taken[members])
    if abs(len(positions) - size) > max(1.0, 0.25 * size):
        notes.append(f"{len(positions)} rows rather than {size}, since groups stay whole.")
    return positions, notes


def _describe(
    name: str, rows: int, count: int, strata: np.ndarray | None, groups: str | None, seed: int
) -> str:
    how = ", ".join(
        part
        for part in ("stratified" if strata is not None else "", f"grouped by {groups!r}" if groups else "")
        if part
    )
    return f"{name}: {rows:,} of {count:,} training rows set aside{f', {how}' if how else ''} (seed {seed})."
