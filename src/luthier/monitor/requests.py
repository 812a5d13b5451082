"""Records as `luthier.monitor.judge` takes them: observations of one version with what labels say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from luthier.errors import DataError
from luthier.monitor.judgement import Reference, Requests
from luthier.monitor.records import Recorded
from luthier.monitor.reference import errors_of
from luthier.tasks.base import Task
from luthier.tasks.labels import MISSING


def requests_of(task: Task, reference: Reference, recorded: Recorded) -> Requests:
    """What was recorded, ready to be judged.

    Observations whose output is not of the reference's shape, such as of a version with other classes, are
    left out.

    Args:
        task: Of the model.
        reference: Whose statistics and features are wanted.
        recorded: Of one version, oldest first.
    """
    width = len(reference.classes)
    kept = [at for at, output in enumerate(recorded.outputs) if output.ndim and output.shape[-1] == width]
    outputs: list[np.ndarray] = [recorded.outputs[at] for at in kept]
    ids = [recorded.ids[at] for at in kept]
    outcomes, truths = outcomes_of(task, outputs, [recorded.labels.get(one) for one in ids])
    return Requests(
        np.array(ids, dtype=object),
        recorded.times[kept],
        np.stack(outputs) if task.level == "example" and outputs else outputs,
        _features(reference, [recorded.features[at] for at in kept]),
        {
            name: np.array([recorded.statistics[at].get(name, np.nan) for at in kept], dtype=np.float64)
            for name in reference.statistics
        },
        outcomes,
        truths,
    )


def outcomes_of(
    task: Task, outputs: Sequence[np.ndarray], labels: Sequence[Any]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """How right answers were by labels, and the true classes; see `Requests`.

    Args:
        task: Fitted.
        outputs: n of them.
        labels: JSON values as `luthier labels` keeps them; None where there is none.
    """
    told = [at for at, label in enumerate(labels) if label is not None]
    if not told:
        return None, None
    targets = encoded(task, [labels[at] for at in told])
    said = [outputs[at] for at in told]
    outcomes = np.full(len(outputs), np.nan)
    truths = None
    if task.target_kind == "number":
        outcomes[told] = errors_of(task, said, targets)
    elif (found := task.decisions(said, targets)) is not None:
        counts = np.bincount(found.example, minlength=len(told))
        right = np.bincount(found.example, weights=found.right, minlength=len(told))
        outcomes[told] = np.divide(right, counts, out=np.full(len(told), np.nan), where=counts > 0)
    if task.target_kind == "class":
        truths = np.full(len(outputs), -1, dtype=np.int64)
        classes = np.array([int(target) for target in targets])
        truths[told] = np.where(classes >= 0, classes, -1)
    return outcomes, truths


def encoded(task: Task, labels: Sequence[Any]) -> list[np.ndarray]:
    """True answers as the task encodes them, from JSON values: a label, a number, a list of labels or tags; a
    mapping where the target has several columns.

    Raises:
        DataError: A value is none that the task can read.
    """
    target = task.columns.roles["target"]
    if isinstance(target, list):
        rows = [label if isinstance(label, Mapping) else {} for label in labels]
        frame = pd.DataFrame({name: [row.get(name) for row in rows] for name in target}, dtype=object)
    else:
        frame = pd.DataFrame({target: pd.Series(list(labels), dtype=object)})
    if task.input_kind == "tokens":
        # Tags are held against words, which need not have been kept: as many as there are tags.
        words = [[""] * len(label) if isinstance(label, list) else [] for label in labels]
        frame[task.input] = pd.Series(words, dtype=object)
    return task.targets(frame)


def strange(task: Task, labels: Sequence[Any]) -> np.ndarray:
    """(n,) whether a label is none that the model can give: an answer that training never saw.

    Raises:
        DataError: As `encoded`.
    """
    if task.target_kind == "number":
        missing = [not np.isfinite(target).all() for target in encoded(task, labels)]
        if any(missing):
            raise DataError(f"A label is no number: {labels[missing.index(True)]!r}.", "Mend or remove it.")
        return np.zeros(len(labels), dtype=bool)
    targets = encoded(task, labels)
    return np.array([bool(np.any((target < 0) & (target != MISSING))) for target in targets], dtype=bool)


def _features(reference: Reference, rows: Sequence[np.ndarray | None]) -> np.ndarray | None:
    if reference.features is None:
        return None
    width = reference.features.shape[1]
    fits = [row is not None and row.shape == (width,) for row in rows]
    if not any(fits):
        return None
    blank = np.full(width, np.nan, dtype=np.float32)
    return np.stack([row if fit and row is not None else blank for row, fit in zip(rows, fits, strict=True)])
