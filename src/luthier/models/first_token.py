"""The last block narrowed to the first token, where the head reads that one alone.

The rows of the other tokens then have no reader: only their keys and values are computed. Each forward pass
below is that of the block's transformers class, on the same submodules in the same order, with one query.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb

from luthier.models.cut import blocks
from luthier.models.network import Network

Forward = Callable[..., Any]


def narrow(network: Network) -> bool:
    """Has the last block compute the first token's row only, in place; outputs and gradients stay the same.

    Parameter names stay the same, too, and submodules replaced later are the ones that are called. The body's
    last hidden state is then (batch, 1, width).

    Args:
        network: Changed in place, if it answers once an example, from the first token.

    Returns:
        Whether it was narrowed.
    """
    forward = FORWARDS.get(network.family.model_type)
    causal = getattr(network.config, "is_decoder", False) or getattr(network.config, "is_causal", False)
    if forward is None or causal or network.start == 0:
        return False
    if network.level != "example" or network.pooling != "cls":
        return False
    block = blocks(network)[-1][1]
    if not hasattr(block, "first_token_only"):
        kind = type(block)
        # A subclass, so that transformers' recomputing of activations wraps this forward as it wraps its own.
        changes = {"forward": forward, "first_token_only": True, "__module__": __name__}
        block.__class__ = type(f"FirstToken{kind.__name__}", (kind,), changes)
    return True


def _attend(
    attention: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: float,
    scaling: float,
    **kwargs: Any,
) -> torch.Tensor:
    """The first token's context, (batch, 1, width), by the attention function that the config names.

    Args:
        attention: The module that asks; the function may look things up on it.
        query: (batch, heads, 1, size).
        key: (batch, heads, length, size).
        value: As ``key``.
        mask: (batch, 1, length, length) for all queries, or None.
        dropout: Rate on the attention probabilities in training mode.
        scaling: Factor on the scores.
        kwargs: Passed on.
    """
    eager = sys.modules[type(attention).__module__].eager_attention_forward
    function: Forward = ALL_ATTENTION_FUNCTIONS.get_interface(attention.config._attn_implementation, eager)
    first = None if mask is None else mask[:, :, :1]
    rate = dropout if attention.training else 0.0
    context: torch.Tensor = function(
        attention, query, key, value, first, dropout=rate, scaling=scaling, **kwargs
    )[0]
    return context.reshape(len(query), 1, -1)


def _heads(projected: torch.Tensor, size: int) -> torch.Tensor:
    """(batch, length, heads * size) as (batch, heads, length, size)."""
    return projected.reshape(*projected.shape[:-1], -1, size).transpose(1, 2)


def _bert(
    self: Any,
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    encoder_hidden_states: None = None,
    encoder_attention_mask: None = None,
    past_key_values: None = None,
    **kwargs: Any,
) -> torch.Tensor:
    attention, size = self.attention.self, self.attention.self.attention_head_size
    first = hidden_states[:, :1]
    query = _heads(attention.query(first), size)
    key, value = _heads(attention.key(hidden_states), size), _heads(attention.value(hidden_states), size)
    context = _attend(
        attention, query, key, value, attention_mask, attention.dropout.p, attention.scaling, **kwargs
    )
    row: torch.Tensor = self.feed_forward_chunk(self.attention.output(context, first))
    return row


def _distilbert(
    self: Any, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
) -> torch.Tensor:
    attention, size = self.attention, self.attention.attention_head_size
    first = hidden_states[:, :1]
    query = _heads(attention.q_lin(first), size)
    key, value = _heads(attention.k_lin(hidden_states), size), _heads(attention.v_lin(hidden_states), size)
    context = _attend(
        attention, query, key, value, attention_mask, attention.dropout.p, attention.scaling, **kwargs
    )
    middle = self.sa_layer_norm(attention.out_lin(context) + first)
    row: torch.Tensor = self.output_layer_norm(self.ffn(middle) + middle)
    return row


def _mpnet(
    self: Any,
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor]:
    # Its attention is its own: transformers has no other function for it.
    attention, size = self.attention.attn, self.attention.attn.attention_head_size
    first = hidden_states[:, :1]
    query = _heads(attention.q(first), size)
    key, value = _heads(attention.k(hidden_states), size), _heads(attention.v(hidden_states), size)
    scores = torch.matmul(query, key.transpose(-1, -2)) / size**0.5
    for added in (position_bias, attention_mask):
        if added is not None:
            scores = scores + added[:, :, :1]
    probabilities = attention.dropout(torch.softmax(scores, dim=-1))
    context = torch.matmul(probabilities, value).transpose(1, 2).flatten(2)
    middle = self.attention.LayerNorm(self.attention.dropout(attention.o(context)) + first)
    return (self.output(self.intermediate(middle), middle),)


def _modernbert(
    self: Any,
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
    **kwargs: Any,
) -> torch.Tensor:
    attention, first = self.attn, hidden_states[:, :1]
    # Queries, keys and values are one layer, so the queries of all tokens come along.
    projected = attention.Wqkv(self.attn_norm(hidden_states))
    query, key, value = (_heads(part, attention.head_dim) for part in projected.chunk(3, dim=-1))
    assert position_embeddings is not None
    query, key = apply_rotary_pos_emb(query, key, *position_embeddings, unsqueeze_dim=1)
    context = _attend(
        attention,
        query[:, :, :1],
        key,
        value,
        attention_mask,
        attention.attention_dropout,
        attention.head_dim**-0.5,
        sliding_window=attention.sliding_window,
        deterministic=attention.deterministic_flash_attn,
        **kwargs,
    )
    middle = first + attention.out_drop(attention.Wo(context))
    row: torch.Tensor = middle + self.mlp(self.mlp_norm(middle))
    return row


def _vit(
    self: Any, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
) -> torch.Tensor:
    first = hidden_states[:, :1]
    context = _patches(self.attention, self.layernorm_before(hidden_states), attention_mask, **kwargs)
    middle = self.dropout(context) + first
    row: torch.Tensor = self.dropout(self.mlp(self.layernorm_after(middle))) + middle
    return row


def _dinov2(
    self: Any, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
) -> torch.Tensor:
    first = hidden_states[:, :1]
    context = _patches(self.attention, self.norm1(hidden_states), attention_mask, **kwargs)
    middle = self.drop_path(self.layer_scale1(context)) + first
    row: torch.Tensor = self.drop_path(self.layer_scale2(self.mlp(self.norm2(middle)))) + middle
    return row


def _patches(attention: Any, states: torch.Tensor, mask: torch.Tensor | None, **kwargs: Any) -> torch.Tensor:
    """The attention of the ViT kinds, projected: (batch, 1, width)."""
    size = attention.head_dim
    query = _heads(attention.q_proj(states[:, :1]), size)
    key, value = _heads(attention.k_proj(states), size), _heads(attention.v_proj(states), size)
    context = _attend(
        attention, query, key, value, mask, attention.attention_dropout, attention.scaling, **kwargs
    )
    projected: torch.Tensor = attention.o_proj(context)
    return projected


FORWARDS: dict[str, Forward] = {
    **dict.fromkeys(["bert", "roberta", "xlm-roberta", "camembert", "electra"], _bert),
    "distilbert": _distilbert,
    "mpnet": _mpnet,
    "modernbert": _modernbert,
    **dict.fromkeys(["vit", "deit"], _vit),
    "dinov2": _dinov2,
}
"""The last block's forward pass by kind; kinds without a first token have none."""
