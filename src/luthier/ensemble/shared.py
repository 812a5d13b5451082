"""Parts of an ensemble that differ in their heads alone: their body is run once for all of them.

Which parts those are is told from their weights, not from how they were trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from luthier.engine.batches import EVALUATION_BATCH, evaluation_batches
from luthier.engine.forward import place, precise, to_device
from luthier.models.saved import SavedModel
from luthier.tasks.base import Examples, Task

POOLER = "pooler"
"""The part of some bodies that belongs to the head: BERT's classifier reads it, and it is trained with it."""


class SharedBody(nn.Module):
    """Finished models with one body, which the first of them runs for all.

    The others give up theirs: they are changed by this, and work only here.

    Args:
        parts: Of which `alike` said that they share it.
    """

    def __init__(self, parts: Sequence[SavedModel]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self._output: Any = None
        if len(parts) > 1:
            body(parts[0]).register_forward_hook(self._hold)
            for part in parts[1:]:
                _replace(part, _Echo(self._held, getattr(body(part), POOLER, None)))

    def forward(self, **inputs: torch.Tensor) -> list[torch.Tensor]:
        """Each part's logits."""
        try:
            return [part(**inputs) for part in self.parts]
        finally:
            self._output = None

    def _hold(self, module: nn.Module, arguments: Any, output: Any) -> None:
        self._output = output

    def _held(self) -> Any:
        return self._output


class _Echo(nn.Module):
    """Stands where a body was: says what another, equal one has just said."""

    def __init__(self, held: Any, pooler: nn.Module | None) -> None:
        super().__init__()
        self._held = held
        self.pooler = pooler

    def forward(self, *arguments: Any, **options: Any) -> Any:
        output = self._held()
        # Convolutional bodies pool without weights, and what they pooled is the same for all.
        if self.pooler is None or not list(self.pooler.parameters()):
            return output
        changed = {**output, "pooler_output": self.pooler(output.last_hidden_state)}
        return type(output)(**changed)


def alike(parts: Sequence[SavedModel]) -> list[list[int]]:
    """Places of the parts that have the same body and the same inputs, in order."""
    groups: list[list[int]] = []
    for at, part in enumerate(parts):
        for group in groups:
            if _same(parts[group[0]], part):
                group.append(at)
                break
        else:
            groups.append([at])
    return groups


def body(part: SavedModel) -> nn.Module:
    """The network below the head."""
    found: nn.Module = part.model if part.head is not None else getattr(part.model, _name(part))
    return found


def _name(part: SavedModel) -> str:
    return str(part.model.base_model_prefix)


def _replace(part: SavedModel, other: nn.Module) -> None:
    if part.head is not None:
        part.model = other
    else:
        setattr(part.model, _name(part), other)


def _same(one: SavedModel, other: SavedModel) -> bool:
    """Whether two finished models have equal bodies and read equal inputs."""
    recipes = [(part.recipe.max_length, part.recipe.image_size) for part in (one, other)]
    if recipes[0] != recipes[1] or one.base != other.base or one.form.kind != other.form.kind:
        return False
    first, second = (
        {name: value for name, value in body(part).state_dict().items() if not name.startswith(POOLER)}
        for part in (one, other)
    )
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@torch.inference_mode()
def outputs_of(
    shared: SharedBody, task: Task, examples: Examples, device: torch.device
) -> list[list[np.ndarray]]:
    """Outputs of each part for every example, in their order."""
    place(shared, device).eval()
    found: list[list[np.ndarray]] = [[np.empty(0)] * len(examples) for _ in shared.parts]
    for indices in evaluation_batches(examples.lengths, EVALUATION_BATCH):
        batch = examples.batch(indices)
        for outputs, logits in zip(found, shared(**to_device(batch.inputs, device)), strict=True):
            for index, output in zip(indices, task.outputs(precise(logits).cpu(), batch), strict=True):
                outputs[index] = output
    return found
