"""What a continued run forgot and gained: the earlier model and this one on old and on added test rows. How
two models are compared lives in `luthier.evaluate.continued`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from luthier.deploy.export.export import same_answer
from luthier.deploy.predictor import Predictor
from luthier.errors import LuthierError
from luthier.evaluate.continued import Continued, compare, compare_classes
from luthier.run.folder import RunFolder
from luthier.run.prepare import Prepared

# Column of predictions.csv with the model's first answer, after row, input and truth.
ANSWER = 3
# Answers that may differ from the record: another processor's rounding tips what stands at a tie.
TIES = 0.01


def forgetting(
    prepared: Prepared, about: dict[str, Any], outputs: Sequence[np.ndarray], device: str
) -> Continued:
    """Holds a judged model against the one that it was continued from.

    Args:
        prepared: The task and the test rows; the first of them are those of the earlier run.
        about: What the manifest says of that run.
        outputs: What the model says of the test rows.
        device: Where the earlier model predicts.

    Returns:
        A comparison, or why there is none: the earlier model does not open, or does not say what it said when
        it was judged.
    """
    task, frame = prepared.task, prepared.dataset.splits["test"]
    folder, count = RunFolder(about["folder"]), int(about["rows"].get("test", 0))
    found = Continued(str(about["name"]), labels=list(about["labels"]))
    try:
        predictor = Predictor.load(folder.model, device)
        said = predictor.outputs(frame, prepared.dataset.root)
        found.refused = _unlike(predictor, said[:count], frame.head(count), folder.predictions)
    except LuthierError as error:
        found.refused = error.message
    if found.refused:
        return found
    before = task.carried(predictor.task).apply(said)
    targets, groups, seed = task.targets(frame), prepared.groups("test"), prepared.settings.seed
    if count:
        old = slice(0, count)
        about_old = (task, outputs[old], before[old], targets[old])
        keys = None if groups is None else groups[old]
        found.old = compare(*about_old, groups=keys, seed=seed)
        found.classes = compare_classes(*about_old, groups=keys, seed=seed)
    if count < len(frame):
        new = slice(count, None)
        keys = None if groups is None else groups[new]
        found.new = compare(task, outputs[new], before[new], targets[new], groups=keys, seed=seed)
    return found


def _unlike(predictor: Predictor, said: Sequence[np.ndarray], frame: pd.DataFrame, record: Path) -> str:
    """Why a model is not the one whose answers are on record; empty where it is."""
    try:
        table = pd.read_csv(record, dtype=str, keep_default_na=False)
    except (OSError, ValueError):
        return f"'{record}', which has what it said, cannot be read."
    if len(table) != len(frame):
        return f"'{record}' has {len(table):,} rows; the run had {len(frame):,} test rows."
    decoded = predictor.task.decode(said, frame)
    recorded = table.iloc[:, ANSWER]
    differ = [
        not same_answer(next(iter(row.values())), known) for row, known in zip(decoded, recorded, strict=True)
    ]
    if sum(differ) <= TIES * len(differ):
        return ""
    return f"it answers {sum(differ):,} of {len(differ):,} old test rows otherwise than '{record}' has it."
