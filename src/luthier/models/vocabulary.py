"""The rows of a token embedding that a training can change: those of the tokens that occur in its data.

All other rows get no gradient, yet an optimizer reads and writes each of them at each step, and a gradient of
the whole table is made and cleared: a sixth of a step of a small encoder, most of one with many tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from luthier.models.network import Network

# Tokens that occur, as a share of all, from which on leaving the others out gains too little.
ENOUGH = 0.8


class Vocabulary:
    """The tokens of some examples, numbered anew.

    Args:
        network: Trains its token embedding, and was not changed yet.
        ids: Arrays of the token ids that will be looked up, the padding's among them.
    """

    def __init__(self, network: Network, ids: Sequence[np.ndarray]) -> None:
        table = _embedding(network)
        self.name = _name(network)
        self.size = table.num_embeddings
        self.used = torch.from_numpy(np.unique(np.concatenate(ids)).astype(np.int64))
        self._table = table.weight.detach().clone()
        self._number = torch.zeros(self.size, dtype=torch.int64)
        self._number[self.used] = torch.arange(len(self.used))

    @property
    def pays(self) -> bool:
        """Whether enough tokens do not occur."""
        return len(self.used) <= ENOUGH * self.size

    def narrow(self, network: Network) -> None:
        """Leaves a network like the first with the rows of the tokens that occur, in place."""
        table = _embedding(network)
        kept = nn.Embedding(len(self.used), table.embedding_dim, dtype=table.weight.dtype)
        if table.padding_idx is not None and table.padding_idx in self.used:
            kept.padding_idx = int(self._number[table.padding_idx])
        kept.weight = nn.Parameter(table.weight.detach()[self.used].clone(), table.weight.requires_grad)
        # Not resize_token_embeddings, which changes the config and draws new rows.
        network.set_submodule(self.name.removesuffix(".weight"), kept.train(table.training))

    def numbered(self, examples: Any) -> Any:
        """Examples whose batches have the new numbers; all else is theirs."""
        return _Numbered(examples, self._number)

    def whole(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A narrowed network's trained state as the whole network has it: other rows are as they were."""
        if self.name not in state:
            return state
        rows = state[self.name]
        table = self._table.to(rows.dtype, copy=True)
        table[self.used] = rows
        return state | {self.name: table}

    def part(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A whole network's trained state as the narrowed one has it; one that is narrow already stays."""
        if self.name not in state or len(state[self.name]) != self.size:
            return state
        return state | {self.name: state[self.name][self.used]}


class _Numbered:
    """See `Vocabulary.numbered`."""

    def __init__(self, examples: Any, number: torch.Tensor) -> None:
        self._examples, self._number = examples, number

    def __len__(self) -> int:
        return len(self._examples)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_examples"], name)

    def batch(self, indices: np.ndarray) -> Any:
        """As the examples', with ``input_ids`` numbered anew."""
        batch = self._examples.batch(indices)
        batch.inputs["input_ids"] = self._number[batch.inputs["input_ids"]]
        return batch


def of(network: Network, splits: Sequence[Any]) -> Vocabulary | None:
    """The vocabulary of encoded splits, where a network trains its token embedding and that pays; else None.

    Args:
        network: As it was built.
        splits: Examples with ``ids`` of tokens and a ``pad_id``; others have no vocabulary.
    """
    if not all(hasattr(split, "ids") and hasattr(split, "pad_id") for split in splits):
        return None
    table = network.backbone.get_input_embeddings()  # type: ignore[operator]
    if not isinstance(table, nn.Embedding) or not table.weight.requires_grad:
        return None
    ids = [*(split.ids.values for split in splits), np.array([split.pad_id for split in splits])]
    found = Vocabulary(network, ids)
    return found if found.pays else None


def _embedding(network: Network) -> nn.Embedding:
    table = network.backbone.get_input_embeddings()  # type: ignore[operator]
    assert isinstance(table, nn.Embedding)
    return table


def _name(network: Network) -> str:
    weight = _embedding(network).weight
    return next(name for name, parameter in network.named_parameters() if parameter is weight)
