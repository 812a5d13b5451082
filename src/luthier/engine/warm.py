"""Heads that start as probes: trained on the frozen features first, once for all trials that begin with one.

What a probe is worth by itself is the affair of `luthier.run.baselines`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from luthier.engine.setting import Setting
from luthier.engine.state import Diverged
from luthier.recipe import Recipe
from luthier.trial import Order

# One of these suits nearly every frozen encoder; the best on validation is taken.
RATES = (3e-3, 1e-2, 3e-2)
EPOCHS = 20
# The same for all trials: whoever starts from a probe starts from the same one.
SEED = 0
# Not a trial of any study.
_NONE = -(2**32)


def probe_recipe(recipe: Recipe, rate: float) -> Recipe:
    """What trains a recipe's head on the frozen features of its model."""
    return Recipe(
        model=recipe.model,
        adaptation="probe",
        head=recipe.head,
        pooling=recipe.pooling,
        head_dropout=0.0,
        learning_rate=rate,
        weight_decay=0.01,
        schedule="cosine",
        batch_size=64,
        epochs=EPOCHS,
        max_length=recipe.max_length,
        image_size=recipe.image_size,
    )


def wanted(recipes: Sequence[Recipe]) -> bool:
    """Whether any of these recipes starts from a probe; one that trains nothing else is one."""
    return any(
        recipe.head_init == "probe" and recipe.adaptation != "probe" and recipe.init == "pretrained"
        for recipe in recipes
    )


def trained(setting: Setting, halt: Callable[[], str | None]) -> dict[str, torch.Tensor]:
    """The weights of the best of several probes, by validation, as `Network.trained_state` names them.

    Linear probing first, then fine-tuning from there (LP-FT, Kumar et al. 2022, section 3.4): a head that
    fits the features leaves them alone, where a random one sends its first, large gradients into them.

    Args:
        setting: Of the recipes that `probe_recipe` gives, one for each rate.
        halt: A reason ends the training.

    Returns:
        Empty where all of them diverged.

    Raises:
        Halted: ``halt`` gave a reason.
    """
    orders = [Order(_NONE - at, each, each.epochs, SEED) for at, each in enumerate(setting.recipes)]
    stack = setting.stack([setting.live(order) for order in orders])
    best: dict[str, torch.Tensor] = {}
    highest = (-float("inf"), 0.0)
    for _ in range(EPOCHS):
        for index, result in enumerate(stack.run_epoch(halt)):
            if isinstance(result, Diverged):
                continue
            reached = (setting.task.score(result.metrics), -result.metrics["loss"])
            if reached > highest:
                best, highest = stack.weights(index), reached
    return best
