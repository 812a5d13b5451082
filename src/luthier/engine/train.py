"""The one training loop: a network, its optimizer and its data, taken forward an epoch at a time."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import psutil
import torch

from luthier.engine.batches import EVALUATION_BATCH, evaluation_batches, generator, training_batches
from luthier.engine.optim import Updater
from luthier.engine.precision import autocast_dtype
from luthier.models.network import Network
from luthier.recipe import Recipe
from luthier.tasks.base import Batch, Examples, Task

Module = TypeVar("Module", bound=torch.nn.Module)

# Steps between looks at the loss and at memory: a look at a loss waits for the device.
LOOK_EVERY = 20


class Diverged(Exception):
    """The loss is no longer a finite number; the message says where."""


class Halted(Exception):
    """The caller asked to stop in the middle of an epoch; the message says why."""


def never() -> str | None:
    """A halt condition that never holds."""
    return None


@dataclass(frozen=True)
class EpochResult:
    """One finished epoch: validation metrics and ``train_loss``, seconds, and peak memory in bytes."""

    epoch: int
    metrics: dict[str, float]
    seconds: float
    peak_memory: int


class Training:
    """One trial in training.

    Batches, dropout and augmentation of an epoch depend on the seed and the epoch alone, so that a training
    that is paused between epochs and continued equals one that went straight through.

    Args:
        network: With its adaptation applied; moved to ``device``.
        recipe: How to train.
        task: Loss, outputs and metrics.
        train: Training examples, or their cached features.
        validation: Validation examples, or their cached features.
        validation_targets: The true answers that validation outputs are held against.
        seed: The trial's seed.
        device: Where to train.
        class_weights: (outputs,) weights of classes in the training loss, or None.
    """

    def __init__(
        self, network: Network, recipe: Recipe, task: Task, train: Examples, validation: Examples,
        validation_targets: list[np.ndarray], *, seed: int, device: torch.device,
        class_weights: torch.Tensor | None = None,
    ) -> None:  # fmt: skip
        self.network = place(network, device)
        self.recipe = recipe
        self.task = task
        self.train = train
        self.validation = validation
        self.seed = seed
        self.device = device
        self.class_weights = None if class_weights is None else class_weights.to(device)
        self.epoch = 0
        self.steps_per_epoch = math.ceil(len(train) / recipe.batch_size)
        self.updater = Updater(network, recipe, self.steps_per_epoch * recipe.epochs)
        self.validation_targets = validation_targets
        self._dtype = autocast_dtype(device, recipe.precision)
        self._scaler = torch.amp.GradScaler(device.type) if self._dtype == torch.float16 else None

    def run_epoch(
        self, halt: Callable[[], str | None] = never, on_step: Callable[[float], None] | None = None
    ) -> EpochResult:
        """Trains one more epoch and evaluates.

        Args:
            halt: Asked before each step; a reason ends the epoch.
            on_step: Told the share of the whole training that is done.

        Raises:
            Diverged: The loss became NaN or infinite.
            Halted: ``halt`` gave a reason. The steps taken so far stay in the weights.
        """
        started, peak = time.perf_counter(), _memory(self.device, reset=True)
        self.epoch += 1
        self.network.train()
        total = torch.zeros((), device=self.device)
        batches = training_batches(self.train.lengths, self.recipe.batch_size, self.seed, self.epoch)
        with torch.random.fork_rng(devices=_cuda_indices(self.device)):
            torch.manual_seed(int(generator(self.seed, self.epoch, 2).integers(2**62)))
            for step, indices in enumerate(batches):
                if reason := halt():
                    raise Halted(reason)
                total += self._step(indices)
                if step % LOOK_EVERY == 0:
                    peak = max(peak, _memory(self.device))
                    self._check(total, step)
                if on_step is not None:
                    on_step((self.epoch - 1 + (step + 1) / len(batches)) / self.recipe.epochs)
        self._check(total, len(batches) - 1)
        metrics = self.evaluate()
        metrics["train_loss"] = float(total) / len(self.train)
        return EpochResult(
            self.epoch, metrics, time.perf_counter() - started, max(peak, _memory(self.device))
        )

    def evaluate(self) -> dict[str, float]:
        """Validation metrics of the network as it is.

        Raises:
            Diverged: The validation loss is not finite.
        """
        outputs = predict(self.network, self.task, self.validation, self.device, dtype=self._dtype)
        metrics = self.task.metrics(outputs, self.validation_targets)
        if not math.isfinite(metrics["loss"]):
            raise Diverged(f"the validation loss became {metrics['loss']} in epoch {self.epoch}")
        return metrics

    def _step(self, indices: np.ndarray) -> torch.Tensor:
        """One optimizer step over a batch, in microbatches; returns the summed loss of its examples."""
        summed = torch.zeros((), device=self.device)
        for part in np.array_split(indices, min(self.recipe.accumulate, len(indices))):
            batch = self.train.batch(part)
            if "pixel_values" in batch.inputs and self.recipe.augmentation != "none":
                batch.inputs["pixel_values"] = augment(batch.inputs["pixel_values"], self.recipe.augmentation)
            with self._autocast():
                logits = forward(self.network, batch, self.device)
            losses = self.task.loss(
                logits.float(),
                batch.targets.to(self.device),
                label_smoothing=self.recipe.label_smoothing,
                class_weights=self.class_weights,
            )
            loss = losses.sum() / len(indices)
            if self._scaler is not None:
                loss = self._scaler.scale(loss)
            torch.autograd.backward(loss)
            summed += losses.detach().sum()
        if self._scaler is None:
            self.updater.step()
        else:
            self._scaler.unscale_(self.updater.optimizer)
            if all(bool(torch.isfinite(p.grad).all()) for p in self.updater.parameters if p.grad is not None):
                self.updater.step()
            else:  # A scale too large for this step: half precision's usual hiccup, not a divergence.
                self.updater.skip()
            self._scaler.update()
        return summed

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        if self._dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self._dtype)

    def _check(self, total: torch.Tensor, step: int) -> None:
        if not math.isfinite(value := float(total)):
            raise Diverged(f"the training loss became {value} in epoch {self.epoch}, by step {step + 1}")


def forward(network: torch.nn.Module, batch: Batch, device: torch.device) -> torch.Tensor:
    """Logits of a batch: of the whole network, or of its head where the batch carries features."""
    inputs = to_device(batch.inputs, device)
    if "features" in inputs:
        logits: torch.Tensor = network.get_submodule("head")(inputs["features"])
    else:
        logits = network(**inputs)
    return logits


def to_device(inputs: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """Inputs where the network is, images with their channels last."""
    moved = {name: value.to(device, non_blocking=True) for name, value in inputs.items()}
    return {
        name: value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
        for name, value in moved.items()
    }


def place(network: Module, device: torch.device) -> Module:
    """A network on a device, with channels last.

    Convolutions run up to twice as fast so, and nothing else notices.
    """
    # torch's stubs of Module.to leave out memory_format, which its documentation has.
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


@torch.inference_mode()
def predict(
    network: torch.nn.Module,
    task: Task,
    examples: Examples,
    device: torch.device,
    *,
    dtype: torch.dtype | None = None,
    batch_size: int = EVALUATION_BATCH,
) -> list[np.ndarray]:
    """Outputs for every example of a split, in its order; the network is left in eval mode."""
    place(network, device).eval()
    found: list[np.ndarray | None] = [None] * len(examples)
    context = contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)
    with context:
        for indices in evaluation_batches(examples.lengths, batch_size):
            batch = examples.batch(indices)
            logits = forward(network, batch, device).float().cpu()
            for index, output in zip(indices, task.outputs(logits, batch), strict=True):
                found[index] = output
    return [output for output in found if output is not None]


def augment(pixels: torch.Tensor, kind: str) -> torch.Tensor:
    """Mirrors half of the images.

    With ``flip_shift`` each is also moved by up to an eighth, repeating the border.

    Args:
        pixels: (batch, channels, height, width).
        kind: ``flip`` or ``flip_shift``.
    """
    mirrored = torch.rand(len(pixels)) < 0.5
    pixels = torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)
    if kind == "flip":
        return pixels
    height, width = pixels.shape[-2:]
    down, right = max(1, height // 8), max(1, width // 8)
    padded = torch.nn.functional.pad(pixels, (right, right, down, down), mode="replicate")
    tops = torch.randint(0, 2 * down + 1, (len(pixels),)).tolist()
    lefts = torch.randint(0, 2 * right + 1, (len(pixels),)).tolist()
    moved = [image[:, t : t + height, x : x + width] for image, t, x in zip(padded, tops, lefts, strict=True)]
    return torch.stack(moved)


def _memory(device: torch.device, *, reset: bool = False) -> int:
    """Memory in bytes: the device's peak on a GPU, the resident set on a CPU."""
    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


def _cuda_indices(device: torch.device) -> list[int]:
    return [device.index or 0] if device.type == "cuda" else []
