"""Baselines from a network: the frozen features with a new head or none, and the same architecture from
random weights.

The ones that need no engine (most frequent answer, classical learner) are in `evaluate.baselines`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from luthier.engine import prefix, warm
from luthier.engine.engine import Engine
from luthier.engine.inputs import Split
from luthier.engine.train import never
from luthier.evaluate.neighbours import LARGEST, neighbours
from luthier.recipe import Recipe
from luthier.trial import Order, Report

# Numbers below zero: fine-tunings outside of the study.
PROBE, SCRATCH = -1, -2


@dataclass(frozen=True)
class Trained:
    """A trained baseline.

    Attributes:
        recipe: Its settings.
        trial: Names its checkpoint.
        score: On validation, higher is better.
        loss: On validation, at the same epoch.
        epoch: The epoch whose weights were kept.
        seconds: It took.
        note: What a reader should know.
    """

    recipe: Recipe
    trial: int
    score: float
    loss: float
    epoch: int
    seconds: float
    note: str = ""

    def outputs(self, engine: Engine, split: Split) -> list[np.ndarray]:
        """Outputs on a split."""
        return engine.outputs(engine.network(self.recipe, 0, trial=self.trial), self.recipe, split)


def probe_recipe(
    engine: Engine, model: str, like: Recipe | None = None, rate: float = warm.RATES[1]
) -> Recipe:
    """A linear head on frozen features.

    These are the mean over tokens for texts, and what the model's own head reads for the rest.
    """
    pooled_text = engine.task.modality == "text" and engine.task.level == "example"
    features = Recipe(
        model=model,
        head="linear",
        pooling="mean" if pooled_text else "native",
        max_length=like.max_length if like else None,
        image_size=like.image_size if like else None,
    )
    return warm.probe_recipe(features, rate)


def probe(
    engine: Engine,
    model: str,
    seed: int,
    *,
    like: Recipe | None = None,
    halt: Callable[[], str | None] = never,
    trial: int = PROBE,
) -> Trained | None:
    """The best of a few linear heads on a model's frozen features.

    Args:
        engine: Trains.
        model: Its name.
        seed: Of heads and batches.
        like: A recipe whose preprocessing is used; None: the model's own.
        halt: Asked before each step.
        trial: Names the checkpoint.

    Returns:
        The best by validation, or None if it was halted before any was trained.
    """
    started = time.perf_counter()
    best: Trained | None = None
    for rate in warm.RATES:
        recipe = probe_recipe(engine, model, like, rate)
        # Each rate overwrites the last one's checkpoint, so a better earlier one is trained again at the end.
        closing = _train(engine, Order(trial, recipe, recipe.epochs, seed), halt)
        if math.isfinite(closing.score) and (best is None or closing.score > best.score):
            best = Trained(recipe, trial, closing.score, closing.metrics["loss"], closing.best_epoch, 0.0)
    if best is None:
        return None
    if best.recipe.learning_rate != warm.RATES[-1]:
        _train(engine, Order(trial, best.recipe, best.recipe.epochs, seed), never)
    return replace(best, seconds=time.perf_counter() - started)


def frozen(features: prefix.Features) -> np.ndarray | None:
    """(n, width) what the head reads of each example; None where it reads words."""
    if features.ragged or features.depth or features.views:
        return None
    return np.asarray(features.values.flatten(1).float().numpy())


def nearest(engine: Engine, recipe: Recipe, split: Split, seed: int) -> tuple[list[np.ndarray], str] | None:
    """Outputs of the nearest neighbours on frozen features, and a note on how many there were.

    Args:
        engine: Has the model, and what was computed of it.
        recipe: A probe; its model, pooling and preprocessing count.
        split: Encoded rows to answer for.
        seed: Of random choices of rows.

    Returns:
        None where an example has no one answer.
    """
    if engine.task.level != "example":
        return None
    inputs, network = engine.inputs, engine.network(recipe, seed=0)
    train, validation = (frozen(engine.features(recipe, name, network)) for name in ("train", "validation"))
    if train is None or validation is None:
        return None
    autocast = engine.sharing.autocast(recipe)
    asked = frozen(
        prefix.compute(
            network, split.examples, [0], engine.device, dtype=engine.sharing.dtype, autocast=autocast
        )[0]
    )
    if asked is None:
        return None
    targets = (inputs.targets("train"), inputs.targets("validation"))
    found = neighbours(engine.task, train, validation, asked, *targets, seed=seed)
    if found is None:
        return None
    count, outputs = found
    among = f", among {LARGEST:,} of the {len(train):,} training rows" if len(train) > LARGEST else ""
    return outputs, f"k = {count}{among}"


def scratch_recipe(chosen: Recipe, usual: Recipe) -> Recipe:
    """The chosen recipe from random weights.

    All of them train: frozen random layers would be no fair comparison. Where only a head was chosen it is
    the usual recipe: a head's rate and length suit no whole network.
    """
    recipe = usual if chosen.adaptation == "probe" else chosen
    return recipe.model_copy(update={"model": chosen.model, "init": "scratch", "adaptation": "full"})


def scratch(
    engine: Engine,
    recipe: Recipe,
    seed: int,
    *,
    seconds: float,
    halt: Callable[[], str | None] = never,
    on_step: Callable[[float], None] | None = None,
) -> Trained | None:
    """Trains from random weights in the time given; None if nothing came of it.

    Args:
        engine: Trains.
        recipe: From `scratch_recipe`.
        seed: Of weights and batches.
        seconds: Time it may take; it gets as many epochs as fit.
        halt: Asked before each step.
        on_step: Told the share that is done.
    """
    started = time.perf_counter()
    cost, wanted = engine.predict_cost(recipe), recipe.epochs
    epochs = wanted if cost is None else max(1, cost.epochs_within(seconds, wanted))
    note = "" if epochs == wanted else f"{epochs} of {wanted} epochs, all that the budget left time for"
    fitting = recipe.model_copy(update={"epochs": epochs})

    def stop() -> str | None:
        return halt() or ("its time ended" if time.perf_counter() - started > seconds else None)

    closing = _train(engine, Order(SCRATCH, fitting, epochs, seed), stop, on_step)
    if not math.isfinite(closing.score):
        return None
    if closing.status == "stopped":
        note = f"stopped in epoch {closing.epoch + 1} of {wanted}, when its time ended"
    took = time.perf_counter() - started
    return Trained(fitting, SCRATCH, closing.score, closing.metrics["loss"], closing.best_epoch, took, note)


def _train(
    engine: Engine,
    order: Order,
    halt: Callable[[], str | None],
    on_step: Callable[[float], None] | None = None,
) -> Report:
    """Trains one recipe to its closing report."""
    return list(engine.run([order], halt=halt, on_step=on_step))[-1]
