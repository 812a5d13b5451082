"""A recipe as numbers on a scale that all studies share: what `prior` learns from and `curve_model` predicts
from. Neither scores nor models' worth: those are learnt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from luthier.recipe import Recipe
from luthier.space import Listed, Space

MISSING = -9.0
"""Stands for a number that is not known; outside the range of all of them, so that a tree can tell."""

_DEPTH = 12.0
"""Blocks of a model whose depth is not known."""
_ADAPTATIONS = ("probe", "last_k", "bias", "lora", "full")
_OPTIMIZERS = ("adamw", "adam", "sgd", "rmsprop", "lion", "adafactor")
_SCHEDULES = ("constant", "linear", "cosine")
# Where Adam's best rate lies when that of another optimizer is known: factors of ten.
_LIKE_ADAM = {"sgd": -1.5, "lion": 0.5}

NAMES = (
    "rate", "rate_for_batch", "rate_like_adam", "rate_trained", "batch", "epochs", "warmup", "weight_decay",
    "l2_start", "dropout", "head_dropout", "label_smoothing", "layer_decay", "momentum", "clip", "nesterov",
    "head_ratio", "augmented", "balanced", "mean_pooled", "image_size", "lora_rank", "frozen",
    *(f"adaptation:{name}" for name in _ADAPTATIONS),
    *(f"optimizer:{name}" for name in _OPTIMIZERS),
    *(f"schedule:{name}" for name in _SCHEDULES),
)  # fmt: skip
"""Names of the features, in their order. Rates, decays and sizes are logarithms."""


def model_of(recipe: Recipe) -> str:
    """The model's identity: its name up to a ``#``, which tells apart recipes of a list that are equal."""
    return recipe.model.partition("#")[0]


def matrix(recipes: Sequence[Recipe], depth: float = _DEPTH) -> np.ndarray:
    """(recipes, len(NAMES)) float64, `MISSING` where a recipe leaves something to its model.

    Args:
        recipes: Any.
        depth: Blocks of the models, for the share of them that ``last_k`` leaves frozen.
    """
    return np.array([_row(recipe, depth) for recipe in recipes]).reshape(len(recipes), len(NAMES))


def of_space(space: Space, recipes: Sequence[Recipe]) -> tuple[np.ndarray, list[str]]:
    """Features of recipes of a space: (recipes, features), and their names.

    A list's own features come after those of its recipes, or in place of those of the same name.
    """
    rows, names = matrix(recipes, _depth(space)), list(NAMES)
    if isinstance(space, Listed) and space.feature_names:
        own = space.features[[space.index(recipe) for recipe in recipes]]
        return combine(rows, own, space.feature_names)
    return rows, names


def combine(rows: np.ndarray, own: np.ndarray, own_names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Rows of `matrix` with further features, which replace those of their names."""
    table = dict(zip(NAMES, rows.T, strict=True)) | dict(
        zip(own_names, np.nan_to_num(own, nan=MISSING).T, strict=True)
    )
    return np.stack(list(table.values()), axis=1), list(table)


def align(rows: np.ndarray, names: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """The columns ``wanted`` of a table whose columns are ``names``; `MISSING` where it has none."""
    place = {name: at for at, name in enumerate(names)}
    found = np.full((len(rows), len(wanted)), MISSING)
    for at, name in enumerate(wanted):
        if name in place:
            found[:, at] = rows[:, place[name]]
    return found


def _depth(space: Space) -> float:
    """Blocks of the space's models: a default space lets ``last_k`` go to all but one of them."""
    ends = [
        float(alternative.domain.high) + 1.0
        for alternative in space.settings.get("last_k", ())
        if hasattr(alternative.domain, "high")
    ]
    return max(ends, default=_DEPTH)


def _row(recipe: Recipe, depth: float) -> list[float]:
    rate = math.log10(recipe.learning_rate)
    batch = math.log2(recipe.batch_size)
    frozen = _frozen(recipe, depth)
    return [
        rate,
        # Noise of a step grows with rate over the root of its examples.
        rate - 0.5 * math.log10(recipe.batch_size),
        rate + _LIKE_ADAM.get(recipe.optimizer, 0.0) - 0.5 * math.log10(recipe.batch_size),
        rate * (1.0 - frozen),
        batch,
        math.log2(recipe.epochs),
        recipe.warmup,
        _log(recipe.weight_decay),
        _log(recipe.l2_start),
        MISSING if recipe.dropout is None else recipe.dropout,
        recipe.head_dropout,
        recipe.label_smoothing,
        recipe.layer_decay,
        recipe.momentum,
        -1.0 if recipe.clip_norm is None else recipe.clip_norm,
        float(recipe.nesterov and recipe.optimizer == "sgd"),
        math.log10(recipe.head_lr_ratio),
        float(recipe.augmentation != "none"),
        float(recipe.class_weights == "balanced"),
        float(recipe.pooling == "mean"),
        MISSING if recipe.image_size is None else math.log2(recipe.image_size),
        math.log2(recipe.lora_rank) if recipe.adaptation == "lora" else MISSING,
        frozen,
        *(float(recipe.adaptation == name) for name in _ADAPTATIONS),
        *(float(recipe.optimizer == name) for name in _OPTIMIZERS),
        *(float(recipe.schedule == name) for name in _SCHEDULES),
    ]


def _frozen(recipe: Recipe, depth: float) -> float:
    """Share of a model's layers that do not change; adapters and biases change little of every layer."""
    if recipe.adaptation == "last_k":
        return max(0.0, 1.0 - recipe.last_k / depth)
    return {"probe": 1.0, "bias": 0.0, "lora": 0.0, "full": 0.0}[recipe.adaptation]


def _log(value: float) -> float:
    return math.log10(max(value, 1e-7))
