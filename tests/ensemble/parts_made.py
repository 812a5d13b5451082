"""A study's leftovers to make ensembles of: engines on made data, and trials trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import made as sets
from luthier.data import read
from luthier.engine.cache import FeatureCache
from luthier.engine.checkpoint import Checkpoints
from luthier.engine.engine import Engine
from luthier.engine.inputs import Inputs
from luthier.engine.kept import KeptOutputs
from luthier.ensemble.base import Average, Candidate
from luthier.ensemble.ways import Context
from luthier.models import source
from luthier.recipe import Recipe
from luthier.study.study import Finished
from luthier.tasks import registry
from luthier.trial import Order

RECIPE = Recipe(model="tiny", learning_rate=3e-3, batch_size=8, epochs=2, head_dropout=0.1)
MEAN = Average((1.0,))
PROBE = RECIPE.model_copy(
    update={
        "adaptation": "probe",
        "head": "linear",
        "pooling": "mean",
        "learning_rate": 0.03,
        "epochs": 8,
        "head_dropout": 0.0,
    }
)


def animals(rows: int, seed: int = 0) -> pd.DataFrame:
    """Texts whose label is the animal in them, or what one word says where there is none.

    A linear head on the mean over words is seldom right about both.
    """
    frame = sets.sentences(rows, seed)
    texts = frame["text"]
    other = np.where(texts.str.contains("dog"), "dog", frame["label"])
    frame["label"] = np.where(texts.str.contains("cat"), "cat", other)
    return frame


def engine(
    folder: Path, model: Path, train: pd.DataFrame, validation: pd.DataFrame,
    task: str = "text-classification", **options: Any,
) -> Engine:  # fmt: skip
    kind = registry.get(task)
    columns = kind.claim(train, kind.modality, {})
    assert columns is not None
    fitted = kind(columns)
    fitted.fit(train)
    inputs = Inputs(fitted, {"train": train, "validation": validation}, folder)
    return Engine(
        inputs, {"tiny": source.find(str(model), kind.modality)}, Checkpoints(folder / "checkpoints"), "cpu",
        store=FeatureCache(None), auto="fp32", kept=KeptOutputs(folder / "outputs"), **options,
    )  # fmt: skip


def finished(made: Engine, recipes: Sequence[Recipe]) -> list[Finished]:
    """Trials of these recipes, trained and ranked as a study leaves them."""
    orders = [Order(trial, recipe, recipe.epochs, 40 + trial) for trial, recipe in enumerate(recipes)]
    found = []
    for report in made.run(orders):
        if report.status == "completed":
            order = orders[report.trial]
            loss = report.metrics["loss"]
            found.append(
                Finished(order.trial, order.recipe, order.seed, report.score, loss, report.best_epoch, 1.0)
            )
    assert len(found) == len(recipes)
    return sorted(found, key=lambda each: (-each.score, each.loss))


def context(made: Engine, ranked: Sequence[Finished], **options: Any) -> tuple[Context, list[str]]:
    said: list[str] = []
    return Context(made, ranked, say=said.append, **options), said


def numbers(made: Engine) -> set[str]:
    """Names of the checkpoints that no trial of the study has."""
    return {path.name for path in made.checkpoints.folder.glob("baseline-*")}


def check(made: Engine, candidate: Candidate | None) -> Candidate:
    """What holds of any: its parts load, and say together what it says they say; nothing else is left."""
    assert candidate is not None
    assert candidate.parts and candidate.seconds > 0 and candidate.note
    own = {made.checkpoints.path(part.trial).name for part in candidate.parts if part.trial < 0}
    assert numbers(made) == own
    assert all(part.trial >= 0 or part.trial < -10 for part in candidate.parts)
    again = []
    for part in candidate.parts:
        network = made.network(part.recipe, part.seed, trial=part.trial)
        split = made.inputs.split("validation", made.sources["tiny"], part.recipe)
        again.append(made.outputs(network, part.recipe, split))
    together = candidate.combination.outputs(made.task, again)
    for ours, theirs in zip(candidate.validation, together, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-4)
    return candidate


def weights(made: Engine, candidate: Candidate) -> dict[str, torch.Tensor]:
    """Those of its first part."""
    return made.checkpoints.load(candidate.parts[0].trial)


def score(made: Engine, outputs: Sequence[np.ndarray]) -> float:
    return made.task.score(made.task.metrics(outputs, made.inputs.targets("validation")))


def loss(made: Engine, outputs: Sequence[np.ndarray]) -> float:
    return made.task.metrics(outputs, made.inputs.targets("validation"))["loss"]


def pictures(folder: Path, rows: int) -> pd.DataFrame:
    """Made images as a frame of paths and labels."""
    sets.pictures(folder, rows)
    return read(folder).splits["train"]
