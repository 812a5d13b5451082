"""Where the probabilities come from that labels are doubted by: the model's own on test and validation, and
on training rows those of heads that did not see them. What is made of them lives in `evaluate.suspects`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from luthier.engine.engine import Engine
from luthier.evaluate.suspects import Looked, Suspects, find_suspects, out_of_fold, shares
from luthier.recipe import Recipe
from luthier.run.baselines import frozen
from luthier.run.prepare import Prepared
from luthier.run.settings import Settings

SHOWN = 100
"""Suspects kept in the evaluation; the file beside it has all."""
SHARE = 0.02
"""Of the budget, what looking at training rows may take."""
MOST_SECONDS = 10.0


def allowed(settings: Settings) -> float:
    """Seconds that looking at training rows may take."""
    return min(MOST_SECONDS, SHARE * settings.budget_seconds)


def suspects(
    prepared: Prepared,
    engine: Engine,
    outputs: Mapping[str, Sequence[np.ndarray]],
    test_targets: Sequence[np.ndarray],
    probe: Recipe | None,
) -> Suspects | None:
    """Labels of all splits that are likely wrong.

    Args:
        prepared: The data.
        engine: Has the frozen features of training rows.
        outputs: The chosen model's outputs on ``test`` and ``validation``.
        test_targets: The true answers on test.
        probe: The recipe of a head on frozen features that are kept; None: training rows are not looked at.

    Returns:
        None for tasks whose answer is not one class.
    """
    task, settings = engine.task, prepared.settings
    if task.target_kind != "class":
        return None
    frames = prepared.dataset.splits
    targets = {"test": test_targets} | {name: engine.inputs.targets(name) for name in ("validation", "train")}
    parts = [
        Looked(name, frames[name], targets[name], shares(said))
        for name, said in outputs.items()
        if len(said) == len(targets[name])
    ]
    note = "The training labels were not looked at: no frozen features of them are kept."
    features = None if probe is None else frozen(engine.features(probe, "train"))
    if features is not None:
        found, note = out_of_fold(
            features, targets["train"], task.num_outputs, groups=prepared.groups("train"),
            seconds=allowed(settings), seed=settings.seed,
        )  # fmt: skip
        parts.append(Looked("train", frames["train"], targets["train"], found))
    return find_suspects(task, parts, note)
