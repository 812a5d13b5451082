"""`Footprints`: what a finished network will take: time to predict, memory, size. Nothing is trained for it.

It depends on a recipe's structure alone, so it is measured once a structure. What is made of it lives in
`study`.
"""

from __future__ import annotations

import json
import statistics
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from luthier.engine.batches import EVALUATION_BATCH
from luthier.engine.forward import forward, place, precise, to_device
from luthier.engine.inputs import Inputs
from luthier.models.network import Network, build
from luthier.models.source import Source
from luthier.recipe import Recipe
from luthier.tasks.base import Examples

# Settings that a finished network's shape depends on.
STRUCTURE = ("model", "head", "pooling", "max_length", "image_size")
# Examples that are predicted one by one, of evenly spread lengths.
SAMPLE = 16
# Predictions before the clock counts: the first ones allocate memory and choose kernels.
WARM_UP = 3
# Each example is predicted so often, unless that takes longer than PATIENCE seconds.
ROUNDS = 5
PATIENCE = 2.0
# Batches whose activations are counted; what a larger one takes follows, since it grows by the example.
COUNTED = (4, 8)


@dataclass(frozen=True)
class Footprint:
    """What predicting with a finished network takes.

    Attributes:
        latency_ms: Median milliseconds of one example alone, from its encoded inputs to its logits, over
            validation examples of evenly spread lengths. In float32, as finished models predict.
        memory_mb: Megabytes (10^6) of the weights and of all tensors that are alive at once, at most, while a
            batch of 128 of the longest validation example is predicted, as `luthier predict` does. What a
            kernel takes for itself is not seen.
        size_mb: Megabytes of the weights in the saved model, without an adapter that goes with it.
    """

    latency_ms: float
    memory_mb: float
    size_mb: float


class Footprints:
    """Measures each structure of a run once, and remembers.

    A low-rank network is saved merged, and what else was trained leaves no trace in a network's shape. So a
    structure is a model, a head, a pooling and the extent of inputs.

    Args:
        inputs: Their validation split is predicted.
        sources: Models by the name that recipes use.
        device: Where to predict; on a CPU with the threads that torch has.
        known: What an earlier process measured, as `known` had it: timings differ from one time to the next,
            and a run that is resumed must decide as it began.

    Attributes:
        known: Footprints as plain values, by structure.
        on_new: Called when `known` has grown.
    """

    def __init__(
        self,
        inputs: Inputs,
        sources: dict[str, Source],
        device: torch.device,
        known: dict[str, dict[str, float]] | None = None,
    ) -> None:
        self.inputs = inputs
        self.sources = sources
        self.device = device
        self.known = {} if known is None else known
        self.on_new: Callable[[], None] = lambda: None

    def of(self, recipe: Recipe) -> dict[str, float]:
        """The `Footprint` of a recipe's finished network, as plain values by name.

        Raises:
            ModelError: There is no such network.
        """
        key = json.dumps([getattr(recipe, name) for name in STRUCTURE])
        if key not in self.known:
            self.known[key] = asdict(self._measured(finished(recipe)))
            self.on_new()
        return self.known[key]

    def _measured(self, recipe: Recipe) -> Footprint:
        source, task = self.sources[recipe.model], self.inputs.task
        network = build(source, recipe, level=task.level, num_outputs=task.num_outputs, seed=0)
        examples = self.inputs.split("validation", source, recipe).examples
        size = nbytes(network.state_dict().values())
        place(network, self.device).eval()
        memory = prediction_bytes(network, examples, self.device)
        milliseconds = latency(network, examples, self.device)
        return Footprint(float(f"{milliseconds:.4g}"), memory / 1e6, size / 1e6)


def finished(recipe: Recipe) -> Recipe:
    """The simplest recipe whose finished network has the shape of this one's."""
    return Recipe(adaptation="probe", **recipe.model_dump(include=set(STRUCTURE)))


def nbytes(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of the tensors' storages, each of which counts once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors}
    return sum(storage.nbytes() for storage in storages.values())


@torch.inference_mode()
def latency(network: Network, examples: Examples, device: torch.device) -> float:
    """Median milliseconds of predicting one example.

    Args:
        network: On the device, in eval mode.
        examples: Of which `SAMPLE` are predicted, of evenly spread lengths.
        device: Where the network is.
    """
    order = np.argsort(examples.lengths, kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(SAMPLE, len(order))).round().astype(int)]
    batches = [examples.batch(np.array([index])).inputs for index in chosen]

    def seconds(inputs: dict[str, torch.Tensor]) -> float:
        started = time.perf_counter()
        # The copy back waits for a device that works on its own.
        precise(forward(network, to_device(inputs, device))).cpu()
        return time.perf_counter() - started

    for _ in range(WARM_UP):
        seconds(batches[-1])
    found: list[float] = []
    for _ in range(ROUNDS):
        found += [seconds(inputs) for inputs in batches]
        if sum(found) > PATIENCE:
            break
    return 1e3 * statistics.median(found)


def prediction_bytes(
    network: Network, examples: Examples, device: torch.device, batch: int = EVALUATION_BATCH
) -> int:
    """Bytes of the weights and of all tensors alive at once while many of the longest example are predicted.

    Counted, not read off the process, whose resident set also holds all else. Every tensor of a forward pass
    grows by the same bytes with each further example, so two small batches tell of a large one.

    Args:
        network: On the device, in eval mode.
        examples: The longest of them is taken.
        device: Where the network is.
        batch: Examples of it.
    """
    longest = int(np.argmax(examples.lengths))
    few, more = (
        _live_bytes(network, to_device(examples.batch(np.full(count, longest)).inputs, device))
        for count in COUNTED
    )
    each = (more - few) / (COUNTED[1] - COUNTED[0])
    weights = nbytes([*network.parameters(), *network.buffers()])
    return int(weights + few + (batch - COUNTED[0]) * each)


@torch.no_grad()
def _live_bytes(network: Network, inputs: dict[str, torch.Tensor]) -> int:
    """Peak bytes of inputs and activations."""
    alive = _Alive([*network.parameters(), *network.buffers()])
    with alive:
        for value in inputs.values():
            alive.note(value)
        forward(network, inputs)
    return alive.peak


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors made inside of it, from their making until nothing refers to them.

    Args:
        apart: Tensors that do not count.
    """

    def __init__(self, apart: list[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in apart}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs an operation, and counts what it made."""
        made = func(*args, **(kwargs or {}))
        for value in tree_leaves(made):
            if isinstance(value, torch.Tensor):
                self.note(value)
        return made

    def note(self, tensor: torch.Tensor) -> None:
        """Counts a tensor's storage, unless it counts already."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size
