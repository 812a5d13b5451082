"""What sits on a backbone: pooling of token or patch features into one vector, and the heads on top of it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN

from luthier.errors import ModelError
from luthier.models.families import Family


def pool(kind: str, output: Any, mask: torch.Tensor | None, special_tokens: int) -> torch.Tensor:
    """One vector an example.

    Args:
        kind: ``cls``, ``mean``, ``max``, ``cls_mean`` or ``pooler``.
        output: A transformers body's output: ``last_hidden_state`` (batch, length, width), or (batch, width,
            height, width) of a convolutional body, and ``pooler_output`` for ``pooler``.
        mask: (batch, length), 1 for tokens that count; None where all do.
        special_tokens: Leading tokens left out of an image's ``mean`` and ``max``.

    Returns:
        (batch, width), or (batch, 2 * width) for ``cls_mean``.
    """
    if kind == "pooler":
        return torch.flatten(output.pooler_output, 1)
    states: torch.Tensor = output.last_hidden_state
    if kind == "cls":
        return states[:, 0]
    if kind == "cls_mean":
        return torch.cat([states[:, 0], states[:, 1:].mean(dim=1)], dim=1)
    if states.ndim == 4:
        states = states.flatten(2).transpose(1, 2)
    elif special_tokens:
        states = states[:, special_tokens:]
    if mask is None:
        return states.mean(dim=1) if kind == "mean" else states.amax(dim=1)
    weights = mask.unsqueeze(-1).to(states.dtype)
    if kind == "mean":
        return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
    return states.masked_fill(weights == 0, torch.finfo(states.dtype).min).amax(dim=1)


def resolve_pooling(requested: str, family: Family, config: Any) -> str:
    """The pooling a recipe means for a family.

    Raises:
        ModelError: The architecture has no such token.
    """
    native = family.native_pooling(config)
    if requested == "native":
        return native
    if requested == "cls" and family.attention is None:
        raise ModelError(
            f"Pooling 'cls' does not fit a {family.model_type} model: it has no class token.",
            "Use pooling native, mean or max.",
        )
    return requested


def resolve_head(requested: str, native: str) -> str:
    """The form of head a recipe means: one of the native forms, ``linear`` or ``mlp``."""
    return native if requested == "native" else requested


def layers(form: str, width: int, outputs: int, dropout: float, config: Any) -> OrderedDict[str, nn.Module]:
    """The layers of a head, by name, not yet initialised.

    Args:
        form: ``linear``, ``mlp``, or a native form: ``dense_tanh`` (BERT), ``dropout_dense_tanh`` (RoBERTa,
            MPNet), ``dropout_dense_gelu`` (ELECTRA), ``dense_relu`` (DistilBERT), ``prediction``
            (ModernBERT).
        width: Size of the features.
        outputs: Size of the logits.
        dropout: Rate of every dropout in the head.
        config: The body's config.
    """
    classifier = ("classifier", nn.Linear(width, outputs))
    last = ("dropout", nn.Dropout(dropout))
    if form == "linear":
        return OrderedDict([last, classifier])
    if form == "prediction":
        dense = nn.Linear(width, width, bias=config.classifier_bias)
        activation: nn.Module = ACT2FN[config.classifier_activation]
        norm = nn.LayerNorm(width, eps=config.norm_eps, bias=config.norm_bias)
        return OrderedDict([("dense", dense), ("activation", activation), ("norm", norm), last, classifier])
    activation = {"tanh": nn.Tanh, "gelu": nn.GELU, "relu": nn.ReLU, "mlp": nn.GELU}[
        form.rpartition("_")[2]
    ]()
    body = [("dense", nn.Linear(width, width)), ("activation", activation), last, classifier]
    if form == "mlp" or form.startswith("dropout_"):
        body.insert(0, ("dropout_in", nn.Dropout(dropout)))
    return OrderedDict(body)


def last_linear(head: nn.Module) -> nn.Linear | None:
    """The layer that a head's logits come from; None where they come from no linear layer."""
    layers = [module for module in head.modules() if not list(module.children())]
    layers = [module for module in layers if not isinstance(module, (nn.Dropout, nn.Identity))]
    last = layers[-1] if layers else None
    return last if isinstance(last, nn.Linear) else None


def divide(head: nn.Module, temperature: float) -> None:
    """Divides what a head gives, by its last layer's weights and biases.

    Raises:
        ModelError: The temperature is not 1, and the head ends in no linear layer.
    """
    if temperature == 1.0:
        return
    layer = last_linear(head)
    if layer is None:
        raise ModelError("The head ends in no linear layer that a temperature could be part of.")
    with torch.no_grad():
        layer.weight.div_(temperature)
        if layer.bias is not None:
            layer.bias.div_(temperature)


def build(form: str, width: int, outputs: int, *, dropout: float, config: Any, seed: int) -> nn.Sequential:
    """A head with fresh weights: normal with the body's own standard deviation, zero biases.

    Args:
        form: See `layers`.
        width: Size of the features.
        outputs: Size of the logits.
        dropout: Rate of every dropout in the head.
        config: The body's config.
        seed: All that the weights depend on.
    """
    head = nn.Sequential(layers(form, width, outputs, dropout, config))
    generator = torch.Generator().manual_seed(seed)
    deviation = float(getattr(config, "initializer_range", 0.02))
    with torch.no_grad():
        for module in head.modules():
            if isinstance(module, nn.Linear):
                module.weight.normal_(0.0, deviation, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
    return head
