"""Writes the reference of a proven model beside it. What is in it lives in `luthier.monitor.reference`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from luthier.deploy.predictor import Predictor
from luthier.ensemble.saved import SavedEnsemble
from luthier.evaluate.evaluation import Evaluation
from luthier.monitor import reference


def keep(
    folder: Path,
    predictor: Predictor,
    frame: pd.DataFrame,
    root: str | Path,
    outputs: Sequence[np.ndarray],
    evaluation: Evaluation,
    targets: Sequence[np.ndarray],
    features: Sequence[np.ndarray],
) -> None:
    """Writes what monitoring will compare requests with.

    Args:
        folder: Where to.
        predictor: The model as it was saved.
        frame: The test rows.
        root: Folder that relative file names in them start at.
        outputs: What the model said of them.
        evaluation: Of these.
        targets: The true answers.
        features: Of some of these rows; see `luthier.monitor.features.sampled`.

    Raises:
        RunError: It cannot be written.
    """
    saved = predictor.saved
    first = saved.parts[0] if isinstance(saved, SavedEnsemble) else saved
    found = reference.gather(
        predictor.task, outputs, targets, frame, processor=first.processor,
        max_length=first.recipe.max_length, root=root, features=features,
    )  # fmt: skip
    about = {
        "made": time.time(),
        "n": evaluation.n,
        "metric": evaluation.metric,
        "metrics": evaluation.metrics,
        "interval": evaluation.interval,
    }
    reference.write(folder, found, predictor.task, about)
