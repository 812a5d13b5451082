"""Findings about inputs that occur more than once: in two splits, twice in one, with different answers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from luthier.data.duplicates import input_texts, near_duplicates, normalise
from luthier.data.findings import Finding, counted, some

_ORDER = ("train", "validation", "test")


def find_leaks(
    keys: Mapping[str, Sequence[str | None]],
    rows: Mapping[str, np.ndarray],
    texts: Mapping[str, Sequence[str]] | None,
    what: str,
) -> list[Finding]:
    """Inputs of a later split that also stand in an earlier one.

    A row is reported once, with the first split it is found in: train, then validation.

    Args:
        keys: For each split (n,) keys that are equal for equal inputs; None for an input that has none.
        rows: For each split (n,) row numbers.
        texts: For each split (n,) texts to look for near-duplicates in, or None.
        what: ``text`` or ``image``, for messages.
    """
    findings = []
    names = [name for name in _ORDER if name in keys]
    for place, later in enumerate(names):
        open_ = np.array([key is not None and key != "" for key in keys[later]], dtype=bool)
        for earlier in names[:place]:
            known: dict[str, int] = {}
            for key, row in zip(keys[earlier], rows[earlier], strict=True):
                if key is not None:
                    known.setdefault(key, int(row))
            equal = np.array([key in known for key in keys[later]], dtype=bool) & open_
            if equal.any():
                pairs = [
                    (int(rows[later][i]), known[keys[later][i] or ""]) for i in np.flatnonzero(equal).tolist()
                ]
                findings.append(_leak("leak", pairs, later, earlier, what))
            open_ &= ~equal
            if texts is None:
                continue
            asked: list[int] = np.flatnonzero(open_).tolist()
            near = near_duplicates(texts[earlier], [texts[later][i] for i in asked])
            hits = [place for place, match in zip(asked, near, strict=True) if match >= 0]
            if hits:
                matches = rows[earlier][near[near >= 0]]
                pairs = [(int(rows[later][i]), int(match)) for i, match in zip(hits, matches, strict=True)]
                findings.append(_leak("near-leak", pairs, later, earlier, what))
            open_[hits] = False
    return findings


def seen_before(
    earlier: pd.DataFrame, later: pd.DataFrame, columns: str | list[str], kind: str, root: Path
) -> np.ndarray:
    """Which rows of a split stand, or nearly stand, in another.

    Args:
        earlier: The rows to look in, such as those of training.
        later: (n) rows to look for.
        columns: Input column(s).
        kind: ``image``: files of the same bytes, since decoding all of them again would take as long as the
            check did, which compares pixels; otherwise equal and nearly equal texts.
        root: Folder that relative file names in the frames are resolved against.

    Returns:
        (n,) bool.
    """
    if kind == "image":
        (name,) = [columns] if isinstance(columns, str) else columns
        return _same_files([root / cell for cell in earlier[name]], [root / cell for cell in later[name]])
    known, asked = input_texts(earlier, columns), input_texts(later, columns)
    keys = {normalise(text) for text in known} - {""}
    equal = np.array([normalise(text) in keys for text in asked], dtype=bool)
    return equal | (near_duplicates(known, asked) >= 0)


def file_keys(sides: Sequence[Sequence[Path]]) -> list[list[str | None]]:
    """For each list of files (n,) keys that are equal for files of the same bytes.

    Only files whose size occurs more than once are read; the others have no equal, and no key, nor has one
    that is not there.
    """
    sizes = {path: path.stat().st_size for side in sides for path in side if path.is_file()}
    counts = Counter(sizes[path] for side in sides for path in side if path in sizes)
    known: dict[Path, str] = {}
    for path, size in sizes.items():
        if counts[size] > 1:
            known[path] = _digest(path)
    return [[known.get(path) for path in side] for side in sides]


def _same_files(earlier: list[Path], later: list[Path]) -> np.ndarray:
    """(n,) bool: only files whose size occurs on both sides are read."""
    sizes = {path: path.stat().st_size for path in {*earlier, *later}}
    common = {sizes[path] for path in earlier} & {sizes[path] for path in later}
    known = {_digest(path) for path in set(earlier) if sizes[path] in common}
    return np.array([sizes[path] in common and _digest(path) in known for path in later], dtype=bool)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _leak(code: str, pairs: list[tuple[int, int]], later: str, earlier: str, what: str) -> Finding:
    shown = some([f"{row} (as {earlier} row {other})" for row, other in pairs], 3)
    how = "stands" if code == "leak" else "nearly stands"
    if len(pairs) > 1:
        how = how.replace("stands", "stand")
    message = f"{counted(len(pairs), f'{later} {what}')} {how} in {earlier} too: rows {shown}."
    return Finding("warning", code, message, [row for row, _ in pairs], later)


def find_repeats(
    keys: Mapping[str, Sequence[str | None]],
    answers: Mapping[str, Sequence[str | None]],
    rows: Mapping[str, np.ndarray],
    what: str,
) -> list[Finding]:
    """Inputs that stand more than once in a split, and equal inputs with different answers.

    Args:
        keys: As in `find_leaks`.
        answers: For each split (n,) texts that are equal for equal answers; None for a missing one.
        rows: For each split (n,) row numbers.
        what: ``text`` or ``image``, for messages.
    """
    findings = []
    for name in keys:
        places: dict[str, list[int]] = {}
        for place, key in enumerate(keys[name]):
            if key:
                places.setdefault(key, []).append(place)
        several = [group for group in places.values() if len(group) > 1]
        conflicts = [
            group
            for group in several
            if len({answers[name][i] for i in group if answers[name][i] is not None}) > 1
        ]
        if several:
            again = sorted(int(rows[name][i]) for group in several for i in group[1:])
            message = f"{counted(len(again), f'{name} {what}')} repeated: rows {some(again)}."
            findings.append(Finding("info", "duplicate", message, again, name))
        if conflicts:
            bad = sorted(int(rows[name][i]) for group in conflicts for i in group)
            said = f"{counted(len(conflicts), f'{name} {what}')} with conflicting labels, in {len(bad)} rows"
            message = f"{said}: {_example(conflicts[0], answers[name], rows[name])}; rows {some(bad)}."
            findings.append(Finding("warning", "conflicting-labels", message, bad, name))
    return findings


def _example(group: list[int], answers: Sequence[str | None], rows: np.ndarray) -> str:
    """Two rows of a group whose answers differ."""
    first = next(place for place in group if answers[place] is not None)
    other = next(place for place in group if answers[place] not in (None, answers[first]))
    shown = [f"row {rows[place]} is {str(answers[place])[:60]!r}" for place in (first, other)]
    return " and ".join(shown)
