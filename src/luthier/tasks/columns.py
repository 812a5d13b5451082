"""Guesses which columns of a table are input and target. Tasks call it from `claim`; it knows no task."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from luthier.errors import DataError
from luthier.tasks.labels import is_list, is_missing

Kind = Literal["text", "integer", "float", "list", "image", "other", "empty"]
Hints = dict[str, str | list[str]]

TARGET_NAMES = (
    "label", "labels", "target", "category", "class", "intent", "sentiment", "y", "score", "rating", "tag",
    "tags", "ner_tags", "topic", "coarse_label",
)  # fmt: skip
FEW = 20
"""A whole-number column with at most this many distinct values is read as classes, not as a quantity."""

_SAMPLE = 2000  # Cells looked at to tell a column's kind; the rest of a long table says the same.
_IMAGE_FILE = re.compile(r"\.(jpe?g|png|bmp|gif|webp|tiff?|ppm|pgm)$", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """A column taken for the target, and in words how it was found."""

    name: str
    why: str
    given: bool


def check_hints(frame: pd.DataFrame, hints: Hints, roles: tuple[str, ...] = ("input", "target")) -> bool:
    """Holds what the user fixed against the table.

    Returns:
        Whether all roles are ones that the task knows; a hint of another role means another task.

    Raises:
        DataError: A named column is not in the table; lists what there is.
    """
    for role, named in hints.items():
        for name in [named] if isinstance(named, str) else named:
            if name not in frame.columns:
                have = ", ".join(str(c) for c in frame.columns if not str(c).startswith("__"))
                raise DataError(f"No column {name!r} for the {role}.", f"The columns are: {have}.")
    return set(hints) <= set(roles)


def kind(series: pd.Series[Any]) -> Kind:
    """What a column holds, judged by its first non-missing cells; text that reads as numbers is numbers."""
    cells = [value for value in series.head(_SAMPLE) if not is_missing(value)]
    if not cells:
        cells = [value for value in series if not is_missing(value)][:_SAMPLE]
    if not cells:
        return "empty"
    if all(is_list(value) for value in cells):
        return "list"
    if not all(pd.api.types.is_scalar(value) for value in cells):
        return "image" if all(hasattr(v, "getbands") or isinstance(v, dict) for v in cells) else "other"
    values = pd.to_numeric(pd.Series(cells), errors="coerce")
    if values.notna().all():
        return "integer" if bool((values % 1 == 0).all()) else "float"
    if all(isinstance(value, str) for value in cells):
        return "image" if all(_IMAGE_FILE.search(value) for value in cells) else "text"
    return "other"


def is_ignored(frame: pd.DataFrame, name: str) -> bool:
    """Whether a column is bookkeeping: ours (``__``), a split, an identifier by name, or a running number."""
    if name.startswith("__") or name.lower() in {"split", "unnamed: 0"}:
        return True
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]*|[a-z]+", name)
    if any(word.lower() in {"id", "idx", "index", "uuid", "guid"} for word in (words[:1] + words[-1:])):
        return True
    column = frame[name]
    return (
        name.lower() not in TARGET_NAMES
        and len(column) > FEW
        and pd.api.types.is_integer_dtype(column)
        and bool(column.is_unique)
    )


def usable(frame: pd.DataFrame) -> list[str]:
    """Columns that may be input or target."""
    return [str(name) for name in frame.columns if not is_ignored(frame, str(name))]


def one(hints: Hints, role: str) -> str | None:
    """The single column a hint names for a role, or None.

    Raises:
        DataError: The hint names several.
    """
    named = hints.get(role)
    if isinstance(named, list):
        if len(named) > 1:
            raise DataError(f"This task takes one {role} column, not {len(named)} ({', '.join(named)}).")
        return named[0] if named else None
    return named


def by_name(names: list[str]) -> str | None:
    """The column with the most usual name for a target."""
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[common] for common in TARGET_NAMES if common in lower), None)


def text_input(frame: pd.DataFrame, hints: Hints, exclude: set[str]) -> str | None:
    """The string column with the longest average text, unless the user named one."""
    if named := one(hints, "input"):
        return named
    found = [name for name in usable(frame) if name not in exclude and kind(frame[name]) == "text"]
    return max(found, key=lambda name: frame[name].head(_SAMPLE).astype(str).str.len().mean(), default=None)


def image_input(frame: pd.DataFrame, hints: Hints) -> str | None:
    """The column of image files or images, unless the user named one."""
    if named := one(hints, "input"):
        return named
    return next((name for name in usable(frame) if kind(frame[name]) == "image"), None)


def find_target(
    frame: pd.DataFrame, hints: Hints, inputs: set[str], kinds: tuple[Kind, ...]
) -> Target | None:
    """The target: the one the user named, else one with a usual name, else the only column left, if it fits.

    Args:
        frame: The table.
        hints: What the user fixed.
        inputs: Columns that are spoken for.
        kinds: What the target may hold, where nobody named it.
    """
    if named := one(hints, "target"):
        return Target(named, f"{named!r} was named as the target", True)
    names = [name for name in usable(frame) if name not in inputs]
    if (name := by_name(names)) is not None:
        return Target(name, f"{name!r} is a usual name for a target", False)
    fitting = [name for name in names if kind(frame[name]) in kinds]
    if len(names) == 1 and fitting:
        return Target(fitting[0], f"{fitting[0]!r} is the only other column", False)
    return None


def text_and_target(frame: pd.DataFrame, hints: Hints, kinds: tuple[Kind, ...]) -> tuple[str, Target] | None:
    """Input and target of a task over texts, or None where one of them cannot be told."""
    named = one(hints, "target") or by_name([name for name in usable(frame) if name != one(hints, "input")])
    text = text_input(frame, hints, {named} if named else set())
    if text is None:
        return None
    target = find_target(frame, hints, {text}, kinds)
    return None if target is None else (text, target)


def count_distinct(series: pd.Series[Any]) -> tuple[int, int]:
    """Distinct and all non-missing values of a column without lists."""
    present = [str(value).strip() for value in series if not is_missing(value)]
    return len(set(present)), len(present)
