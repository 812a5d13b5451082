"""`join`: labelled rows added to a data set that is split already. Old rows stay where they are, and as they
are; new ones are split like them. What a column means is no matter here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from luthier.data.dataset import ROW, SPLITS, Dataset, visible
from luthier.data.duplicates import input_texts, normalise
from luthier.data.findings import counted, some
from luthier.data.leaks import file_keys
from luthier.data.split import split
from luthier.errors import DataError

FEWEST = 10
"""New rows, or groups of them, that are parted: of fewer, all are trained on."""


@dataclass(frozen=True)
class Parts:
    """Which columns play which part in joining.

    Attributes:
        inputs: Column(s) with the input.
        answers: Columns with the true answer.
        kind: ``image`` where the input is a file name, whose bytes are compared; otherwise texts are.
        groups: Column whose equal values stay in one split, or None.
        others: Further columns that must be there, such as those to slice by.
    """

    inputs: str | list[str]
    answers: Sequence[str]
    kind: str = "text"
    groups: str | None = None
    others: Sequence[str] = field(default_factory=tuple)

    @property
    def needed(self) -> list[str]:
        """All of them, each once."""
        inputs = [self.inputs] if isinstance(self.inputs, str) else self.inputs
        group = [] if self.groups is None else [self.groups]
        return list(dict.fromkeys([*inputs, *self.answers, *group, *self.others]))


def join(
    old: Dataset, new: Dataset, parts: Parts, *, strata: Callable[[pd.DataFrame], np.ndarray | None],
    validation: float | None = None, test: float | None = None, seed: int = 0,
) -> Dataset:  # fmt: skip
    """Adds rows to each split of a data set, below those that it has.

    An added row whose input is there already goes into the split of that input, or is dropped if its answer
    is the same; one whose group is there goes to its group. The rest keeps the splits that it came with, and
    is otherwise split by `split`, in the proportions of the old rows. Row numbers of added rows begin
    where the old ones end.

    Args:
        old: With all three splits; its rows and their order do not change.
        new: As it was read. Columns that ``old`` lacks are left out.
        parts: Of the columns.
        strata: Gives (n,) keys of rows to stratify by, as `split` wants them.
        validation: Share of the new rows to choose by; None: as many of them as of the old ones.
        test: Share of the new rows to test on; None likewise.
        seed: Of the drawing.

    Returns:
        The dataset, with notes on what became of the added rows.

    Raises:
        DataError: A column is missing, or the inputs are of another kind.
    """
    _check(old, new, parts)
    root = _common(old, new)
    offset = max(int(frame[ROW].max()) for frame in old.splits.values())
    frames = {name: _placed(frame, old, root) for name, frame in old.splits.items()}
    added = _numbered(new, offset, root)
    notes = [*new.notes, f"Rows of {new.source or new.name} are numbered from {offset + 1:,}."]
    bound, notes_ = _bound(frames, added, parts, root)
    notes += notes_
    free = {name: frame[~frame[ROW].isin(bound)] for name, frame in added.items()}
    everything = pd.concat(added.values(), ignore_index=True)
    made, said = _split(free, frames, parts, strata, (validation, test), seed)
    notes += said
    splits = {}
    for name in SPLITS:
        where = {row for row, place in bound.items() if place == name}
        mine = everything[everything[ROW].isin(where | set(made[name]))]
        splits[name] = _stacked(frames[name], mine.sort_values(ROW, kind="stable"))
    if dropped := sum(place == "" for place in bound.values()):
        notes.append(f"{counted(dropped, 'added row')} with input and answer of another row: left out.")
    notes.append(
        "Added rows: "
        + ", ".join(f"{len(splits[name]) - len(frames[name]):,} {name}" for name in SPLITS)
        + "."
    )
    return Dataset(old.name, splits, old.modality, root, old.source, notes)


def _check(old: Dataset, new: Dataset, parts: Parts) -> None:
    named = new.source or new.name
    if new.modality != old.modality:
        raise DataError(
            f"{named} holds inputs of kind {new.modality}; the model was trained on {old.modality} inputs.",
            "Add rows like those that it was trained on.",
        )
    for name, frame in new.splits.items():
        for column in parts.needed:
            if column not in frame.columns:
                place = f"the {name} rows of {named}" if len(new.splits) > 1 else named
                raise DataError(
                    f"There is no column {column!r} in {place}, which the rows so far have.",
                    f"Its columns: {', '.join(visible(frame))}. Expected: {', '.join(parts.needed)}.",
                )


def _common(old: Dataset, new: Dataset) -> Path:
    """A folder from which the files of both can be named."""
    if old.modality == "text":
        return old.root
    return Path(os.path.commonpath([old.root.resolve(), new.root.resolve()]))


def _placed(frame: pd.DataFrame, dataset: Dataset, root: Path) -> pd.DataFrame:
    """Rows whose file names start at another folder."""
    if dataset.modality == "text":
        return frame
    inside = dataset.root.resolve().relative_to(root)
    return frame.assign(**{dataset.modality: [str(inside / str(name)) for name in frame[dataset.modality]]})


def _numbered(new: Dataset, offset: int, root: Path) -> dict[str, pd.DataFrame]:
    """The added rows, with numbers of their own over all splits."""
    frames = {}
    for name, frame in new.splits.items():
        placed = _placed(frame, new, root).copy()
        placed[ROW] = placed[ROW].to_numpy() + offset
        offset = int(placed[ROW].max())
        frames[name] = placed
    return frames


def _bound(
    old: dict[str, pd.DataFrame], added: dict[str, pd.DataFrame], parts: Parts, root: Path
) -> tuple[dict[int, str], list[str]]:
    """Row numbers of added rows that are not free to go anywhere: to their split, or "" to be left out."""
    names = [*old, *(f"+{name}" for name in added)]
    frames = [*old.values(), *added.values()]
    keys = _keys(frames, parts, root)
    answers = [_answers(frame, parts.answers) for frame in frames]
    split_of: dict[str, str] = {}
    known: set[tuple[str, str]] = set()
    groups: dict[str, str] = {}
    # Where inputs or groups of old rows are in several splits, the split that is trained on comes first.
    for name, frame, key, answer in list(zip(names, frames, keys, answers, strict=True))[: len(old)]:
        for one, said in zip(key, answer, strict=True):
            if one:
                split_of.setdefault(one, name)
                known.add((one, said))
        for value in [] if parts.groups is None else frame[parts.groups].dropna():
            groups.setdefault(_plain(value), name)
    bound: dict[int, str] = {}
    other: list[int] = []
    for frame, key, answer in list(zip(frames, keys, answers, strict=True))[len(old) :]:
        for row, one, said in zip(frame[ROW].tolist(), key, answer, strict=True):
            if one in split_of:
                same = (one, said) in known
                bound[row] = "" if same else split_of[one]
                other += [] if same else [row]
    if parts.groups is not None:
        # What its input binds takes its group along.
        rows = pd.concat([frame[[ROW, parts.groups]] for frame in added.values()]).dropna()
        pairs = [(int(row), _plain(value)) for row, value in zip(rows[ROW], rows[parts.groups], strict=True)]
        for row, value in pairs:
            if bound.get(row):
                groups.setdefault(value, bound[row])
        bound |= {row: groups[value] for row, value in pairs if row not in bound and value in groups}
    notes = []
    if other:
        notes.append(
            f"{counted(len(other), 'added row')} with the input of an old row and another answer: "
            f"kept, in the split of that row: rows {some(other)}."
        )
    return bound, notes


def _keys(frames: Sequence[pd.DataFrame], parts: Parts, root: Path) -> list[list[str | None]]:
    """For each frame (n,) keys that are equal for equal inputs; None where there is none."""
    if parts.kind == "image":
        (name,) = [parts.inputs] if isinstance(parts.inputs, str) else parts.inputs
        return file_keys([[root / str(cell) for cell in frame[name]] for frame in frames])
    return [[normalise(text) or None for text in input_texts(frame, parts.inputs)] for frame in frames]


def _answers(frame: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """(n,) answers as texts that are equal for equal ones; ``1``, ``1.0`` and ``"1"`` are."""
    cells = [frame[name].map(_plain) for name in columns]
    return ["\x1f".join(row) for row in zip(*cells, strict=True)]


def _split(
    free: dict[str, pd.DataFrame], old: dict[str, pd.DataFrame], parts: Parts,
    strata: Callable[[pd.DataFrame], np.ndarray | None], shares: tuple[float | None, float | None], seed: int,
) -> tuple[dict[str, list[int]], list[str]]:  # fmt: skip
    """Row numbers by split of added rows that nothing binds; splits that they came with stay."""
    rows = {name: free[name][ROW].tolist() if name in free else [] for name in SPLITS}
    train = free.get("train")
    if train is None or train.empty or set(free) == set(SPLITS):
        return rows, []
    units = len(train) if parts.groups is None else train[parts.groups].nunique(dropna=False)
    if units < FEWEST:
        what = "rows" if parts.groups is None else "groups of rows"
        return rows, [f"So few added {what} are not parted: all {len(train)} rows are trained on."]
    total = sum(len(frame) for frame in old.values())
    wanted = {
        name: len(old[name]) / total if share is None else share
        for name, share in zip(("validation", "test"), shares, strict=True)
    }
    made = split(
        Dataset("added", free), strata=strata(train.reset_index(drop=True)), groups=parts.groups,
        inputs=None if parts.kind == "image" else parts.inputs, seed=seed, **wanted,
    )  # fmt: skip
    return {name: made.splits[name][ROW].tolist() for name in SPLITS}, [f"Added: {n}" for n in made.notes]


def _stacked(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """New rows below old ones, in the columns of the old."""
    new = new.reindex(columns=old.columns)
    columns = {}
    for name in old.columns:
        top, below = old[name], new[name]
        numeric = [pd.api.types.is_numeric_dtype(part) for part in (top, below)]
        if len(below) and numeric[0] != numeric[1]:
            # One table cannot hold both; a label means the same as a number and as its text.
            top, below = (part.map(_text, na_action="ignore").astype(object) for part in (top, below))
        elif isinstance(top.dtype, pd.StringDtype) and pd.api.types.infer_dtype(below) == "string":
            below = below.astype(top.dtype)  # texts that came as objects change no type of the old rows
        columns[name] = pd.concat([top, below], ignore_index=True) if len(below) else top
    return pd.DataFrame(columns)


def _text(value: Any) -> Any:
    """A number as text, a whole one without its point; anything else as it is."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str | list | tuple | np.ndarray) else str(value)


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple | np.ndarray):
        return " ".join(map(str, value))
    return str(_text(value)).strip()
