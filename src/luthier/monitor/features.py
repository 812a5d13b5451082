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


class Tap:
    """What a layer was given in the last pass, kept until it is taken.

    Args:
        layer: Of a network for one thread at a time; None where there is nothing to be told.
    """

    def __init__(self, layer: nn.Module | None) -> None:
        self._given: torch.Tensor | None = None
        if layer is not None:
            layer.register_forward_pre_hook(self._keep)

    def take(self, mask: torch.Tensor | None) -> torch.Tensor:
        """The features of the pass just made, as `pooled` gives them.

        Raises:
            RuntimeError: The layer was given nothing since the last time.
        """
        found, self._given = self._given, None
        if found is None:
            raise RuntimeError("the layer that is listened to was not run")
        return pooled(found, mask)

    def _keep(self, module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        self._given = arguments[0]


def pooled(features: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """One vector an input, in float32 on the CPU.

    Args:
        features: (batch, width), or (batch, length, width) of tokens, of which the mean is taken.
        mask: (batch, length), 1 for tokens that are no padding; None where all are.

    Returns:
        (batch, width).
    """
    values = features.detach().float().cpu()
    if values.ndim != 3:
        return values.flatten(1)
    if mask is None:
        return values.mean(dim=1)
    weights = mask.detach().cpu().unsqueeze(-1).float()
    return (values * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


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
    mask: torch.Tensor | None = None

    def see(module: nn.Module, arguments: Any, inputs: dict[str, Any]) -> None:
        nonlocal mask
        mask = inputs.get("attention_mask")

    def take(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        nonlocal done
        # Rows beyond those that were told of are none of the sample.
        wanted = np.flatnonzero(chosen[done : done + len(arguments[0])])
        found.extend(pooled(arguments[0], mask)[wanted].numpy())
        done += len(arguments[0])

    network = saved.parts[0] if hasattr(saved, "parts") else saved
    handles = [
        network.register_forward_pre_hook(see, with_kwargs=True), layer.register_forward_pre_hook(take),
    ]  # fmt: skip
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
