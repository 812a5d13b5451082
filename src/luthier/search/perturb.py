"""What may change in the middle of a training, and by how much population-based training changes it.

Which trial copies which lives in `population`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from luthier.recipe import Recipe
from luthier.space import Choice, Number, Space

CHANGEABLE = (
    "learning_rate",
    "head_lr_ratio",
    "layer_decay",
    "momentum",
    "clip_norm",
    "weight_decay",
    "l1",
    "l2_start",
    "label_smoothing",
    "dropout",
    "head_dropout",
    "lora_dropout",
)
"""Settings that act on each step alone. All others decide what is trained, on what, or how the score comes
about."""
FACTOR = 2.0
"""Values of a logarithmic range are multiplied or divided by this at most, and by its root at least.
Jaderberg et al. (2017, section 4.1.1) use 1.2 over hundreds of steps; in the few that a fine-tuning has, that
would not get far."""
SHIFT = 0.1
"""Values of a plain range move by this share of it at most, and by half of that at least: a factor would
never leave zero."""
REDRAWN = 0.25
"""Probability that a categorical setting is drawn anew."""


def changeable(space: Space) -> list[str]:
    """The settings of a space that vary and may change while training."""
    return [name for name in space.dimensions if name in CHANGEABLE]


def carried_rate(recipe: Recipe, epochs: int) -> float:
    """The learning rate that a recipe's schedule has come to after some of its epochs.

    As the engine computes it, but that warmup counts as over: a copy starts with a warmup of its own, which
    its optimizer, being new, is in need of.
    """
    done = epochs / recipe.epochs
    progress = min(max((done - recipe.warmup) / (1.0 - recipe.warmup), 0.0), 1.0)
    factors = {
        "constant": 1.0,
        "linear": 1.0 - progress,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
    }
    return recipe.learning_rate * factors[recipe.schedule]


def continued(space: Space, recipe: Recipe, epochs: int, left: int, rng: np.random.Generator) -> Recipe:
    """The recipe of a trial that starts from the weights of another one, perturbed.

    Args:
        space: Whose ranges are kept to; settings that it does not vary stay.
        recipe: Of the other trial.
        epochs: How many of its epochs that one has trained.
        left: Epochs that the new trial has.
        rng: Where the draws come from.
    """
    changed: dict[str, Any] = {}
    domains = space.active(recipe)
    for name in changeable(space):
        domain = domains.get(name)
        if domain is None or not domain.varies:
            continue
        value = getattr(recipe, name)
        if isinstance(domain, Choice):
            redrawn = rng.random() < REDRAWN
            changed[name] = domain.quantile(float(rng.random())) if redrawn else value
        else:
            at = carried_rate(recipe, epochs) if name == "learning_rate" else value
            size = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.0))
            changed[name] = _moved(domain, at, size)
    return Recipe.parse(recipe.model_dump() | changed | {"epochs": left})


def _moved(domain: Number, value: float, size: float) -> float:
    """A value moved by a share of the largest step, up or down, and kept in its range."""
    if domain.log:
        moved = value * FACTOR**size
    else:
        moved = value + size * SHIFT * (domain.high - domain.low)
    return min(max(float(f"{moved:.6g}"), domain.low), domain.high)
