"""What the head of a network read of an input, taken while it computes: for the reference of a model and for
what is served alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from luthier.models.heads import last_linear

SEED = 0


def reader(saved: Any) -> nn.Linear | None:
    """The layer that the logits come from, whose input the features are; of an ensemble that of its first
    network.

    Args:
        saved: A `luthier.models.saved.SavedModel` or `luthier.ensemble.saved.SavedEnsemble`.

    Returns:
        None where the logits come from no linear layer.
    """
    network = saved.parts[0] if hasattr(saved, "parts") else saved
    return last_linear(network.model if network.head is None else network.head)


def flat(features: torch.Tensor) -> torch.Tensor:
    """(batch, width) features in float32 on the CPU: of tokens, (batch, length, width), those of the first.

    A mean over tokens would depend on how much padding a batch happens to have.
    """
    first = features[:, 0] if features.ndim == 3 else features
    return first.detach().float().cpu()


@contextmanager
def sampled(saved: Any, rows: int, most: int) -> Iterator[list[np.ndarray]]:
    """Takes a sample of the features while the block runs a network once over some rows.

    Args:
        saved: As for `reader`.
        rows: How many rows will be run, in whatever order.
        most: How many are taken at most, at random.

    Yields:
        A list, which in the end has (width,) float32 arrays of the rows taken; empty where there is no such
        layer.
    """
    found: list[np.ndarray] = []
    layer = reader(saved)
    if layer is None:
        yield found
        return
    chosen = np.zeros(rows, dtype=bool)
    chosen[np.random.default_rng(SEED).permutation(rows)[:most]] = True
    done = 0

    def take(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal done
        features = flat(inputs[0])
        # Rows beyond those that were told of are none of the sample.
        wanted = np.flatnonzero(chosen[done : done + len(features)])
        found.extend(features[wanted].numpy())
        done += len(features)

    handle = layer.register_forward_pre_hook(take)
    try:
        yield found
    finally:
        handle.remove()
