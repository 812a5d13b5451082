"""Attention for trials that train together: dropout on its probabilities at each trial's own rate."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

from luthier.engine.noise import Noise, drop

NAME = "luthier"
# Tokens up to which plain products are faster than torch's fused attention: in training in half precision on
# a CPU.
SHORT = 128
# Where a module keeps what `attach` gave it. No submodule: nothing of it is saved or trained.
_KEY = "_trial_dropout"


def attach(body: nn.Module, rates: Sequence[float | None], noise: Noise) -> None:
    """Has a body's attention drop probabilities by trial, in place.

    Args:
        body: A transformers body. Kinds that do not look up their attention function are left as they are:
            they drop probabilities by modules, and their scores want another kind of mask.
        rates: Of the trials; None for the body's own rate.
        noise: Their random numbers.
    """
    if not getattr(body, "_supports_attention_backend", False):
        return
    config: Any = body.config
    config._attn_implementation = NAME
    for module in body.modules():
        module.__dict__[_KEY] = (rates, noise)


def quickest(
    device: torch.device, dtype: torch.dtype | None, inputs: dict[str, torch.Tensor]
) -> contextlib.AbstractContextManager[object]:
    """The way to attend that takes least of a training step; the same but for rounding.

    On a CPU the backward pass of torch's fused attention in bfloat16 takes ten times what the forward pass
    does: with 16 tokens a third of a whole step of a small encoder, where plain products take a ninth of it.

    Args:
        device: Where the network is.
        dtype: For autocast, or None.
        inputs: Of the step; those of texts have a mask, (batch, tokens).
    """
    mask = inputs.get("attention_mask")
    plain = device.type == "cpu" and dtype is not None and mask is not None and mask.shape[-1] <= SHORT
    return sdpa_kernel(SDPBackend.MATH) if plain else contextlib.nullcontext()


def attention(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    attention_mask: torch.Tensor | None, dropout: float = 0.0, scaling: float | None = None, **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:  # fmt: skip
    """Scaled dot-product attention, as transformers' attention functions do it.

    Where no probability is dropped, this is torch's own.

    Args:
        module: Asks; its mode, and what `attach` left on it, decide.
        query: (batch, heads, queries, size).
        key: (batch, heads, keys, size).
        value: As ``key``.
        attention_mask: (batch, 1, queries, keys), true where keys count, or added to the scores; or None.
        dropout: The module's own rate.
        scaling: Factor on the scores; by default one over the root of ``size``.
        kwargs: Passed on.

    Returns:
        (batch, queries, heads, size), and nothing.
    """
    given, noise = module.__dict__.get(_KEY, ((), None))
    rates = [dropout if rate is None else rate for rate in given] if module.training else []
    if noise is None or not any(rates):
        own = dropout if noise is None else 0.0
        context, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=own, scaling=scaling, **kwargs
        )
        return context, None
    scores = torch.matmul(query, key.transpose(2, 3)) * (
        query.shape[-1] ** -0.5 if scaling is None else scaling
    )
    if attention_mask is not None:
        if attention_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
        else:
            scores = scores + attention_mask
    probabilities = drop(torch.softmax(scores, dim=-1), rates, noise)
    return torch.matmul(probabilities, value).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
