"""A network taken apart at a block: what enters the block, and the network without all that lies below it.

Where the lower blocks are frozen, what enters the lowest trained one is the same in every epoch; `capture`
finds it once, and a network cut by `at` goes on from there through transformers' own forward pass.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from luthier.models.network import Network


def capture(
    network: Network, depths: Collection[int], inputs: dict[str, torch.Tensor]
) -> dict[int, torch.Tensor]:
    """Hidden states at some depths, from one forward pass in the caller's gradient mode.

    The pass ends where the shallowest depth is reached.

    Args:
        network: Whole, or cut below the deepest of ``depths``; in the mode the states are wanted in.
        depths: As `Network.depth` counts.
        inputs: As for `Network.features`.

    Returns:
        Depth to the hidden states that enter the block there: (batch, length, width), or
        (batch, channels, height, width) of a convolutional body. Depth 0 has what `Network.features` returns.

    Raises:
        ValueError: The network has no block at one of the depths.
    """
    if not depths:
        return {}
    entries = _entries(network)
    if lacking := sorted(set(depths) - {0, *entries}):
        raise ValueError(f"The network has no block at depth {lacking[0]}.")
    states: dict[int, torch.Tensor] = {}
    last, below = min(depths), set(depths) - {0}
    hooks = [entries[d].register_forward_pre_hook(_Keep(states, d, last)) for d in below]
    try:
        features = network.features(**inputs)
    except _Reached:
        return states
    finally:
        for hook in hooks:
            hook.remove()
    return {**states, 0: features}


def at(network: Network, depth: int) -> None:
    """Takes away, in place, all that lies below a block: embeddings and lower blocks, with their weights.

    Afterwards the network reads ``states`` in place of tokens or pixels, together with the same
    ``attention_mask``: what `capture` gave at this depth, or the same in another floating type. Names, depths
    and the trained state of what is left are unchanged.

    Args:
        network: Changed in place.
        depth: Of the lowest block that stays; 0 leaves the head alone.

    Raises:
        ValueError: There is no such block, or something that is trained lies below it.
    """
    if depth != 0 and depth not in _entries(network):
        raise ValueError(f"The network has no block at depth {depth}.")
    if network.cut > depth:
        raise ValueError(f"The network cannot be cut at depth {depth}: it is trained down to {network.cut}.")
    body: Any = network.backbone
    if depth == 0:
        for name, _ in list(body.named_children()):
            delattr(body, name)
    else:
        for name, module in blocks(network):
            if network.depth(f"backbone.{name}.") > depth:
                _drop(body, name, module)
        like = next(network.parameters())
        for prefix in network.family.embeddings:
            if hasattr(body, name := prefix.rstrip(".")):
                setattr(body, name, _Given(like))
    network.start = depth


def blocks(network: Network) -> list[tuple[str, nn.Module]]:
    """The modules that make up the blocks, lowest first, with their names in the body.

    A block is one module, or two where a stage's downsampling belongs to it.
    """
    pattern = network.family.block_pattern
    return [
        (name, module)
        for name, module in network.backbone.named_modules()
        if (match := pattern.match(f"{name}.")) and match.end() == len(name) + 1
    ]


class _Reached(Exception):
    """All wanted states were seen; what is left of the forward pass has no reader."""


class _Keep:
    """A forward pre-hook that keeps a block's input, and ends the pass at the last one that is wanted."""

    def __init__(self, states: dict[int, torch.Tensor], depth: int, last: int) -> None:
        self.states = states
        self.depth = depth
        self.last = last

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.states[self.depth] = args[0]
        if self.depth == self.last:
            raise _Reached


class _Given(nn.Module):
    """Stands where a dropped layer stood, and returns the states it is given, in the network's own type."""

    weight: torch.Tensor

    def __init__(self, like: torch.Tensor) -> None:
        super().__init__()
        # Follows the network to another type or device, and holds nothing.
        self.register_buffer("weight", like.detach().new_empty(0), persistent=False)

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        states = next(value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor))
        return states.to(self.weight.dtype)

    # ViT and DeiT look up the floating type of ``embeddings.patch_embeddings.projection.weight``.
    @property
    def patch_embeddings(self) -> _Given:
        return self

    @property
    def projection(self) -> _Given:
        return self


def _entries(network: Network) -> dict[int, nn.Module]:
    """Depth to the module that is called first in the block there."""
    entries: dict[int, nn.Module] = {}
    for name, module in blocks(network):
        # A list of layers is never called itself, and is empty in a stage that does not downsample.
        called = next(iter(module), None) if isinstance(module, nn.ModuleList) else module
        if called is not None:
            entries.setdefault(network.depth(f"backbone.{name}."), called)
    return entries


def _drop(body: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, leaf = name.rpartition(".")
    if isinstance(module, nn.ModuleList):
        setattr(body.get_submodule(owner), leaf, nn.ModuleList())
    else:
        # Out of its list, but the others keep their places: their names in it are numbers, and stay.
        delattr(body.get_submodule(owner), leaf)
