"""Finds tasks by name and by what a table looks like: built-in ones, and those other packages name."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pandas as pd

from luthier.errors import DataError, SettingError
from luthier.plugins import Plugins
from luthier.tasks.base import Columns, Modality, Task
from luthier.tasks.columns import Hints, usable

GROUP = "luthier.tasks"
"""The entry point group under which a package names its tasks: ``name = "module:Class"``."""

_BUILT_IN = {
    "text-classification": "luthier.tasks.text_classification:TextClassification",
    "multi-label-classification": "luthier.tasks.multi_label:MultiLabelClassification",
    "token-classification": "luthier.tasks.token_classification:TokenClassification",
    "text-regression": "luthier.tasks.text_regression:TextRegression",
    "image-classification": "luthier.tasks.image_classification:ImageClassification",
}


_PLUGINS = Plugins(GROUP, "task", "tasks", _BUILT_IN)


def names() -> list[str]:
    """Names of all tasks, built-in ones first."""
    return _PLUGINS.names()


def get(name: str) -> type[Task]:
    """The task of that name.

    Raises:
        SettingError: There is none, or another package's does not load, or it is not a task.
    """
    found: type[Task] = _PLUGINS.load(name, Task)
    return found


def infer(
    frame: pd.DataFrame, modality: Modality, hints: Hints, name: str | None = None
) -> tuple[type[Task], Columns]:
    """The task that a table is for, and its columns.

    Args:
        frame: The training rows.
        modality: ``image`` where the reader found image files.
        hints: Roles the user fixed, such as ``{"target": "label"}``.
        name: The task the user named, or None to take the surest claim (of equal ones the first by `names`).

    Raises:
        DataError: A hint names no column, or no task fits; says which columns there are.
        SettingError: ``name`` is not a task.
    """
    if name is not None:
        task = get(name)
        claimed = task.claim(frame, modality, hints)
        if claimed is None:
            raise DataError(
                f"The table does not fit {name}: {_describe(frame, hints)}.",
                "Name the columns, e.g. target=label (and input=text where the text is not found).",
            )
        return task, claimed
    claims = [(task, claimed) for task in _loadable() if (claimed := task.claim(frame, modality, hints))]
    if not claims:
        raise DataError(
            f"Cannot tell what is to be learnt: {_describe(frame, hints)}.",
            "Name the target column (and the task, where it is an unusual one).",
        )
    return max(claims, key=lambda claim: claim[1].confidence)


def _loadable() -> Iterator[type[Task]]:
    """All tasks, but for another package's that is broken: that must not keep the others from being found."""
    for name in names():
        try:
            yield get(name)
        except SettingError as error:
            warnings.warn(error.message, stacklevel=3)


def _describe(frame: pd.DataFrame, hints: Hints) -> str:
    columns = ", ".join(usable(frame)) or "none that can be used"
    fixed = "; fixed were " + ", ".join(f"{role}={value}" for role, value in hints.items()) if hints else ""
    return f"its columns are {columns}{fixed}"
