"""A network made ready for trials that train together: leaves replaced by counterparts, and each trial's
part of it.

transformers' own forward pass runs on: to it the folded batch, (trials * batch, ...), is a batch like any
other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from peft.tuners import lora
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.models.convnext.modeling_convnext import ConvNextLayerNorm
from transformers.models.convnextv2.modeling_convnextv2 import ConvNextV2LayerNorm

from luthier.engine import attention
from luthier.engine.layers import (
    Folded,
    StackedBatchNorm2d,
    StackedConv2d,
    StackedEmbedding,
    StackedLayerNorm,
    StackedLinear,
    StackedLora,
    StackedLoraConv2d,
)
from luthier.engine.noise import Noise, TrialDropout
from luthier.errors import ModelError
from luthier.models.adapt import ADAPTER
from luthier.models.network import Network
from luthier.recipe import Recipe

PLAIN: dict[type[nn.Module], Any] = {
    nn.Linear: StackedLinear,
    nn.LayerNorm: StackedLayerNorm,
    ConvNextLayerNorm: StackedLayerNorm,
    ConvNextV2LayerNorm: StackedLayerNorm,
    nn.Conv2d: StackedConv2d,
    nn.BatchNorm2d: StackedBatchNorm2d,
}
"""Layers with a counterpart that needs nothing but the layer and the number of trials."""

UPDATES: dict[type[nn.Module], type[StackedLora]] = {
    lora.Linear: StackedLora,
    lora.Conv2d: StackedLoraConv2d,
}
"""PEFT's layers, whose updates are all that is trained of them."""


class Unstackable(Exception):
    """Something that is trained has no counterpart for several trials; the message names it."""


def prepare(network: Network, noise: Noise, recipes: Sequence[Recipe]) -> None:
    """Makes room for as many trials as there are recipes, in place.

    Every dropout draws from the trials' own generators afterwards, in a stack of one, too. With several
    trials every layer that is trained is replaced. Weights are those of the network, for every trial; see
    `load`.

    Args:
        network: Built from the recipe with the largest rank, and with a positive ``dropout`` if any of them
            has one.
        noise: The trials' random numbers.
        recipes: Of the trials. All of them give a ``dropout``, or none does.

    Raises:
        Unstackable: Nothing was changed.
    """
    size = len(recipes)
    if size > 1:
        check(network)
        _replace(network, noise, recipes)
    _drop_by_trial(network, noise, recipes)
    for module in network.backbone.modules():
        if getattr(module, "gradient_checkpointing", False):
            # What is computed again must draw the same again: torch sees to its own generator only.
            again = partial(checkpoint, use_reentrant=False, context_fn=noise.repeated)
            module.__dict__["_gradient_checkpointing_func"] = again
    network.__dict__["trials"] = size


def check(network: Network) -> None:
    """Raises Unstackable where several trials of a network cannot train together."""
    shared = tuple(f"backbone.{prefix}" for prefix in network.family.shared)
    for name, module in _leaves(network):
        known = type(module) in PLAIN or type(module) is nn.Embedding or _is_update(module)
        # What is looked up once for all rows of a batch is not part of the folded batch.
        apart = bool(shared) and f"{name}.".startswith(shared)
        odd = isinstance(module, nn.Conv2d) and module.padding_mode != "zeros"
        if not known or apart or odd:
            raise Unstackable(f"{type(module).__name__} ({name}) has no counterpart for several trials.")
    for name, module in network.named_modules():
        if type(module).__name__.endswith("DropPath") and getattr(module, "drop_prob", None):
            raise Unstackable(f"Stochastic depth ({name}) cannot be drawn for several trials.")


def rows(network: Network) -> list[dict[str, nn.Parameter]]:
    """Each trial's trained parameters under their plain names, sharing memory with the network's.

    Low-rank halves have the largest rank of the stack; what is beyond the trial's own is zero.
    """
    trained = network.trainable()
    if _size(network) == 1:
        return [trained]
    return [
        {name: nn.Parameter(parameter.detach()[index]) for name, parameter in trained.items()}
        for index in range(_size(network))
    ]


def gradients(network: Network) -> list[dict[str, torch.Tensor]]:
    """Each trial's gradients, sharing memory with the network's."""
    found = {name: p.grad for name, p in network.trainable().items() if p.grad is not None}
    if _size(network) == 1:
        return [found]
    return [{name: each[index] for name, each in found.items()} for index in range(_size(network))]


def state(network: Network, index: int, recipe: Recipe) -> dict[str, torch.Tensor]:
    """Copies of what training changes of a trial, as `Network.trained_state` of it alone."""
    if _size(network) == 1:
        return network.trained_state()
    found = {name: parameter.detach()[index] for name, parameter in network.trainable().items()}
    found |= {name: buffer[index] for name, buffer in _buffers(network).items()}
    return {name: _own_rank(name, value, recipe).clone() for name, value in found.items()}


def load(network: Network, index: int, state: dict[str, torch.Tensor]) -> None:
    """Puts in what `state` gave.

    Raises:
        ModelError: The state is of a network that trains something else.
    """
    if _size(network) == 1:
        network.load_trained_state(state)
        return
    own: dict[str, torch.Tensor] = {**network.trainable(), **_buffers(network)}
    if different := sorted(set(own) ^ set(state)):
        raise ModelError(f"The trained state is of another network: {different[0]!r} differs.")
    with torch.no_grad():
        for name, tensor in own.items():
            place, value = tensor[index], state[name]
            if place.shape != value.shape:
                place.zero_()
                place = place[tuple(slice(0, extent) for extent in value.shape)]
            place.copy_(value)


def _size(network: Network) -> int:
    return int(network.__dict__.get("trials", 1))


def _leaves(network: Network) -> list[tuple[str, nn.Module]]:
    """Modules with trained parameters of their own; PEFT's layers as wholes."""
    found: list[tuple[str, nn.Module]] = []
    inside: tuple[str, ...] = ()
    for name, module in network.named_modules():
        if inside and name.startswith(inside):
            continue
        if _is_update(module):
            inside = (f"{name}.",)
            found.append((name, module))
        elif any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
            found.append((name, module))
    return found


def _is_update(module: nn.Module) -> bool:
    """Whether it is PEFT's layer; what it wraps is frozen."""
    return type(module) in UPDATES


def _replace(network: Network, noise: Noise, recipes: Sequence[Recipe]) -> None:
    folded = Folded()
    network.backbone.register_forward_pre_hook(folded, with_kwargs=True)
    for name, module in _leaves(network):
        stacked: nn.Module
        if _is_update(module):
            scales = [recipe.lora_alpha / recipe.lora_rank for recipe in recipes]
            rates = [recipe.lora_dropout for recipe in recipes]
            stacked = UPDATES[type(module)](module, ADAPTER, scales, rates, noise)
        elif isinstance(module, nn.Embedding):
            stacked = StackedEmbedding(module, len(recipes), folded)
        else:
            stacked = PLAIN[type(module)](module, len(recipes))
        network.set_submodule(name, stacked.train(module.training))


def _drop_by_trial(network: Network, noise: Noise, recipes: Sequence[Recipe]) -> None:
    for name, module in list(network.named_modules()):
        if not isinstance(module, nn.Dropout):
            continue
        if name.startswith("head."):
            rates = [recipe.head_dropout for recipe in recipes]
        elif ".lora_dropout." in name:
            rates = [recipe.lora_dropout for recipe in recipes]
        else:
            rates = [module.p if recipe.dropout is None else recipe.dropout for recipe in recipes]
        network.set_submodule(name, TrialDropout(rates, noise).train(module.training))
    attention.attach(network.backbone, [recipe.dropout for recipe in recipes], noise)


def _buffers(network: Network) -> dict[str, torch.Tensor]:
    """Statistics that training changes, (trials, ...)."""
    return {
        f"{name}.{leaf}": buffer
        for name, module in network.named_modules()
        if isinstance(module, StackedBatchNorm2d) and module.learns
        for leaf, buffer in module.named_buffers(recurse=False)
    }


def _own_rank(name: str, value: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """A low-rank half without what fills it up."""
    if ".lora_A." in name:
        return value[: recipe.lora_rank]
    return value[:, : recipe.lora_rank] if ".lora_B." in name else value
