"""Whether the answers of rows can be judged by: those that training never saw give no loss."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from luthier import data as reading
from luthier.data.check import Finding
from luthier.data.check_targets import check_targets
from luthier.errors import DataError
from luthier.tasks.base import Task


def any_known(task: Task, frame: pd.DataFrame) -> bool:
    """Whether a loss can be formed on any of the rows."""
    targets = task.targets(frame)
    # With any outputs at all: whether an answer has a loss is up to the answer.
    losses = task.example_losses(task.majority(targets, targets), targets)
    return bool(np.isfinite(losses).any())


def fit(task: Task, dataset: reading.Dataset, group: str | None) -> None:
    """Fits a task to the training split, and to no other: a regression's scale must not know the test.

    Raises:
        DataError: There is nothing to tell apart in it, perhaps because groups stay whole.
    """
    try:
        task.fit(dataset.splits["train"])
    except DataError as error:
        if group is None:
            raise
        raise DataError(
            f"{error.message} That is what is left to train on where values of {group!r} stay whole.",
            _advice(group),
        ) from None


def unseen(task: Task, dataset: reading.Dataset, given: Collection[str], group: str | None) -> list[Finding]:
    """Findings about answers of validation and test rows that training never shows, once splits are made.

    A split of which nothing else is left cannot be judged by: every loss on it is NaN, whatever the model.
    That is an error.

    Args:
        task: Fitted to the training split.
        dataset: With all its splits.
        given: Those that were not made here.
        group: The column whose values stay whole, or None.
    """
    target = task.columns.roles.get("target")
    if target is None:
        return []
    words = task.input if task.target_kind == "tags" else None
    said, _ = check_targets(dataset.splits, target, task.target_kind, words)
    findings = []
    for finding in said:
        if finding.code != "class-unseen" or finding.split is None:
            continue
        if any_known(task, dataset.splits[finding.split]):
            findings.append(finding)
            continue
        message = f"{finding.message} That leaves no {finding.split} row to judge a model by."
        hint = "Leave that split out, and it is made from the training rows."
        if finding.split not in given and group is not None:
            hint = _advice(group)
        findings.append(Finding("error", finding.code, f"{message} {hint}", finding.rows, finding.split))
    return findings


def _advice(group: str) -> str:
    return (
        f"Values of {group!r} that have a class of their own take it with them into their split: name no "
        "group, or one whose values share classes."
    )
