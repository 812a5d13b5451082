"""Which trials train together: those whose networks have the same shape, as many at a time as is wise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from luthier.recipe import Recipe
from luthier.trial import Order

# What must be equal for trials to be one network with a trial dimension, and to take their steps together.
# All other settings are numbers that each trial has for itself.
STRUCTURE = (
    "model", "init", "adaptation", "last_k", "lora_targets", "head", "pooling", "batch_size", "accumulate",
    "precision", "gradient_checkpointing", "max_length", "image_size", "augmentation",
)  # fmt: skip


def structure(recipe: Recipe) -> tuple[Any, ...]:
    """Recipes with equal structures can share a stack."""
    found = recipe.model_dump(include=set(STRUCTURE))
    if recipe.adaptation != "last_k":
        del found["last_k"]
    # A layer that drops nothing may be missing from a model as it is, so those who give rates keep apart.
    found["dropout"] = recipe.dropout is None
    if recipe.adaptation == "probe":
        # Those that `luthier.engine.heads` can train keep to themselves.
        found["elementwise"] = recipe.optimizer != "adafactor"
    if recipe.adaptation != "lora":
        del found["lora_targets"]
    elif recipe.optimizer == "adafactor":
        # Its statistics are means over rows and columns, which padding to a larger rank would change.
        found["lora_rank"] = recipe.lora_rank
    if recipe.gradient_checkpointing or recipe.precision == "fp16":
        # Recomputing draws its random numbers twice, and the scale of half precision is found by trial and
        # error: neither can be told apart by trial.
        found["alone"] = object()
    return tuple(found.items())


def plan(orders: Sequence[Order], epoch: Callable[[int], int]) -> list[list[Order]]:
    """Groups of orders of one structure, in the order in which they should run: that of their first orders.

    Inside a group, trials that stand at the same epoch come together, since their batches are of like
    length at the same step.

    Args:
        orders: What is to be done.
        epoch: Trial number to the epochs it has behind it.
    """
    kinds: dict[tuple[Any, ...], list[Order]] = {}
    for order in orders:
        kinds.setdefault(structure(order.recipe), []).append(order)
    return [sorted(members, key=lambda order: epoch(order.trial)) for members in kinds.values()]


def even(orders: Sequence[Order], size: int) -> list[list[Order]]:
    """Orders in parts of at most ``size``, all of about one size: seven by four are four and three."""
    count = -(-len(orders) // size)
    share, more = divmod(len(orders), count)
    ends = np.cumsum([share + (index < more) for index in range(count)])
    return [list(part) for part in np.split(np.array(orders, dtype=object), ends[:-1])]
