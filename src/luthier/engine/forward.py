"""Inputs through a network: where both lie, and outputs for a whole split."""

from __future__ import annotations

import contextlib
from typing import TypeVar

import numpy as np
import torch

from luthier.engine.batches import EVALUATION_BATCH, evaluation_batches
from luthier.tasks.base import Examples, Task

Module = TypeVar("Module", bound=torch.nn.Module)


def place(network: Module, device: torch.device) -> Module:
    """A network on a device, with channels last.

    Convolutions run up to twice as fast so, and nothing else notices.
    """
    # torch's stubs of Module.to leave out memory_format, which its documentation has.
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def to_device(
    inputs: dict[str, torch.Tensor], device: torch.device, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    """Inputs where the network is and in its type, images with their channels last."""
    return {name: _moved(value, device, dtype) for name, value in inputs.items()}


def _moved(value: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    value = value.to(device, dtype if value.is_floating_point() else value.dtype, non_blocking=True)
    return value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value


def type_of(network: torch.nn.Module) -> torch.dtype:
    """The type of a network's weights."""
    return next(network.parameters()).dtype


def forward(network: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits: of the whole network, or of its head where the inputs are the head's features."""
    if "features" in inputs:
        logits: torch.Tensor = network.get_submodule("head")(inputs["features"])
    else:
        logits = network(**inputs)
    return logits


def mixed(device: torch.device, dtype: torch.dtype | None) -> contextlib.AbstractContextManager[object]:
    """Autocast to a type, or nothing for None."""
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def precise(logits: torch.Tensor) -> torch.Tensor:
    """Logits as losses want them: float32 at least."""
    return logits if logits.dtype == torch.float64 else logits.float()


@torch.inference_mode()
def predict(
    network: torch.nn.Module,
    task: Task,
    examples: Examples,
    device: torch.device,
    *,
    dtype: torch.dtype | None = None,
    batch_size: int = EVALUATION_BATCH,
    trials: int = 1,
) -> list[list[np.ndarray]]:
    """Outputs of each trial of a network for every example of a split, in its order; leaves it in eval mode.

    Args:
        network: Of one trial, or a stack.
        task: Cuts logits into outputs.
        examples: The split; every trial sees all of it.
        device: Where the network is.
        dtype: For autocast, or None.
        batch_size: Examples a forward pass, over all trials.
        trials: How many are stacked in the network.
    """
    kind = type_of(place(network, device).eval())
    found: list[list[np.ndarray]] = [[np.empty(0)] * len(examples) for _ in range(trials)]
    with mixed(device, dtype):
        for indices in evaluation_batches(examples.lengths, max(8, batch_size // trials)):
            batch = examples.batch(indices)
            inputs = to_device(folded(batch.inputs, trials), device, kind)
            logits = precise(forward(network, inputs)).cpu()
            for trial, part in enumerate(logits.chunk(trials)):
                for index, output in zip(indices, task.outputs(part, batch), strict=True):
                    found[trial][index] = output
    return found


def folded(inputs: dict[str, torch.Tensor], trials: int) -> dict[str, torch.Tensor]:
    """The same inputs for every trial of a stack, one after the other."""
    if trials == 1:
        return inputs
    return {name: value.repeat(trials, *[1] * (value.ndim - 1)) for name, value in inputs.items()}
