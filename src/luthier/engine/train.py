"""The one training loop: trials stacked in one network, taken forward an epoch at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from luthier.engine import kept, lesson, stacked
from luthier.engine.attention import quickest
from luthier.engine.augment import augment
from luthier.engine.batches import generator, training_batches
from luthier.engine.forward import forward, mixed, place, precise, predict, to_device, type_of
from luthier.engine.memory import is_out_of_memory, used
from luthier.engine.noise import Noise
from luthier.engine.optim import Updater
from luthier.engine.state import Diverged, EpochResult, Halted, Member, Position, TrialState, of_validation
from luthier.engine.watchdog import Hung, Watchdog
from luthier.models.network import Network
from luthier.tasks.base import Batch, Examples, Task

# Steps between looks at the losses and at memory: a look at a loss waits for the device.
LOOK_EVERY = 20


OptimizerState = dict[str, dict[str, torch.Tensor]]


def never() -> str | None:
    """A halt condition that never holds."""
    return None


class Training:
    """Trials in training as one network; a trial alone is a stack of one.

    Batches, dropout and augmentation of a trial depend on its seed and epoch alone, and its weights meet no
    others, so its numbers are the same alone, in a stack, or paused and continued in another stack.

    Args:
        network: As one of the recipes builds it, perhaps cut and narrowed; changed in place.
        members: The trials. They share what `luthier.engine.plan.structure` lists, and may stand at different
            epochs.
        task: Loss, outputs and metrics.
        train: Training examples, or their cached states.
        validation: Validation examples, or their cached states.
        validation_targets: The true answers that validation outputs are held against.
        device: Where to train.
        dtype: For autocast, or None.
        watchdog: Ends steps that hang.
        step_seconds: How long a step is expected to take, before the first was measured.

    Raises:
        Unstackable: There are several members, and something they train has no stacked counterpart.
    """

    def __init__(
        self, network: Network, members: list[Member], task: Task, train: Examples, validation: Examples,
        validation_targets: list[np.ndarray], *, device: torch.device, dtype: torch.dtype | None = None,
        watchdog: Watchdog | None = None, step_seconds: float | None = None,
    ) -> None:  # fmt: skip
        self.members = members
        self.size = len(members)
        self.recipe = members[0].recipe
        self.task = task
        self.train = train
        self.validation = validation
        self.validation_targets = validation_targets
        self.device = device
        self.watchdog = watchdog or Watchdog()
        self.noise = Noise([member.seed for member in members], device)
        depth = network.depth
        stacked.prepare(network, self.noise, [member.recipe for member in members])
        self.network = place(network, device)
        self._kind = type_of(network)
        for index, member in enumerate(members):
            stacked.load(network, index, member.state.weights)
        self.steps_per_epoch = math.ceil(len(train) / self.recipe.batch_size)
        self.rows = stacked.rows(network)
        self.updaters = [
            Updater(
                row, depth, member.recipe, self.steps_per_epoch * member.recipe.epochs, _started(member, row)
            )
            for row, member in zip(self.rows, members, strict=True)
        ]
        for updater, member in zip(self.updaters, members, strict=True):
            updater.load(_fitted(member.state.optimizer, updater), member.state.steps)
        self._dtype = dtype
        self._scaler = torch.amp.GradScaler(device.type) if self._dtype == torch.float16 else None
        self._weights = [_moved(member.class_weights, device) for member in members]
        self._lessons = [member.lesson for member in members]
        self._counts = lesson.counts(self._lessons, len(train), device, self._kind)
        self._step, self._epoch_seconds = 0, 0.0
        exact = torch.float64 if device.type == "cpu" else torch.float32
        self._totals = torch.zeros(self.size, device=device, dtype=exact)
        self._step_seconds = step_seconds
        self._said: list[list[np.ndarray]] = []

    @property
    def done(self) -> float:
        """The share of the epoch that is done."""
        return self._step / self.steps_per_epoch

    def run_epoch(
        self, halt: Callable[[], str | None] = never, on_step: Callable[[float], None] | None = None
    ) -> list[EpochResult | Diverged]:
        """Trains one more epoch and evaluates; or goes on with an epoch that ended in the middle.

        Args:
            halt: Asked before each step; a reason ends the epoch.
            on_step: Told the share of the epoch that is done.

        Returns:
            For each member its epoch, or that its loss is no longer finite; the others are untouched by that.

        Raises:
            Halted: ``halt`` gave a reason. The steps taken so far stay in the weights.
            Hung: A step took far too long. It is as if it had not begun.
            MemoryError, RuntimeError: Out of memory (see `is_out_of_memory`); as if the step had not begun.
        """
        started, peak = time.perf_counter(), used(self.device, reset=True)
        self._said = []
        self.network.train()
        orders = [self._batches(member) for member in self.members]
        try:
            with torch.random.fork_rng(devices=_cuda_indices(self.device)):
                first = self.members[0]
                # For what draws from torch's own generator, which happens only in a stack of one.
                torch.manual_seed(int(generator(first.seed, first.state.epoch + 1, 4).integers(2**62)))
                if self._step == 0:
                    for index, member in enumerate(self.members):
                        self.noise.start(index, member.state.epoch + 1)
                while self._step < self.steps_per_epoch:
                    if reason := halt():
                        raise Halted(reason)
                    self._take([order[self._step] for order in orders])
                    self._step += 1
                    if self._step % LOOK_EVERY == 1:
                        peak = max(peak, used(self.device))
                        if not bool(torch.isfinite(self._totals).any()):
                            break
                    if on_step is not None:
                        on_step(self.done)
        finally:
            self._epoch_seconds += time.perf_counter() - started
        return self._finish(peak)

    def pace(self, steps: int) -> float:
        """Seconds of the shortest of some steps, the first left out, in a stack that is not used after it."""
        self.network.train()
        orders = [self._batches(member) for member in self.members]
        seconds = []
        with torch.random.fork_rng(devices=_cuda_indices(self.device)):
            for step in range(1 + steps):
                started = time.perf_counter()
                self._take([order[step % len(order)] for order in orders])
                if self.device.type != "cpu":
                    torch.accelerator.synchronize(self.device)
                seconds.append(time.perf_counter() - started)
        return min(seconds[1:])

    def evaluate(self) -> list[dict[str, float] | Diverged]:
        """Validation metrics of each member as it is, or that they are not finite."""
        outputs = predict(
            self.network, self.task, self.validation, self.device, dtype=self._dtype, trials=self.size
        )
        self._said = outputs
        found: list[dict[str, float] | Diverged] = []
        for member, each in zip(self.members, outputs, strict=True):
            metrics = self.task.metrics(each, self.validation_targets)
            epoch = max(1, member.state.epoch + (self._step > 0))
            finite = math.isfinite(metrics["loss"])
            found.append(metrics if finite else of_validation(metrics["loss"], epoch, each))
        return found

    def said(self, index: int) -> kept.Later:
        """A copy of what a member said of the validation split when it was last evaluated."""
        packed: kept.Packed = {}
        if self.size * sum(output.nbytes for output in self._said[index]) <= kept.MEMORY_BYTES:
            # Now, since the parts lie in the logits of the whole stack, which need not stay for one of it.
            packed = kept.pack(self._said[index])
        return lambda: packed

    def weights(self, index: int) -> dict[str, torch.Tensor]:
        """Copies of a member's trained weights in main memory, as `Network.trained_state` names them."""
        state = stacked.state(self.network, index, self.members[index].recipe)
        return {name: value.detach().to("cpu", copy=True) for name, value in state.items()}

    def state(self, index: int) -> TrialState:
        """Where a member stands, copied out of the stack."""
        member, updater = self.members[index], self.updaters[index]
        weights = self.weights(index)
        optimizer = {
            name: {key: _cropped(value, weights[name], updater) for key, value in tensors.items()}
            for name, tensors in updater.state().items()
        }
        return replace(member.state, weights=weights, optimizer=optimizer, steps=updater.step_count)

    def position(self) -> Position:
        """Where in its epoch the stack stands."""
        return Position(self._step, self._epoch_seconds, self._totals.clone(), self.noise.state())

    def resume(self, position: Position) -> None:
        """Goes on from there."""
        self._step, self._epoch_seconds = position.step, position.seconds
        self._totals.copy_(position.totals)
        self.noise.load_state(position.noise)

    def _batches(self, member: Member) -> list[np.ndarray]:
        recipe, epoch = member.recipe, member.state.epoch + 1
        return training_batches(self.train.lengths, recipe.batch_size, member.seed, epoch, member.rows)

    def _finish(self, peak: int) -> list[EpochResult | Diverged]:
        """Evaluates, and moves every member's epoch on by one."""
        started = time.perf_counter()
        totals, step = self._totals.tolist(), self._step
        judged = self.evaluate()
        self._epoch_seconds += time.perf_counter() - started
        seconds, peak = self._epoch_seconds / self.size, max(peak, used(self.device))
        found: list[EpochResult | Diverged] = []
        for member, total, metrics in zip(self.members, totals, judged, strict=True):
            epoch = member.state.epoch + 1
            member.state.epoch = epoch
            if not math.isfinite(total):
                said = f"the training loss became {total} in epoch {epoch}, by step {step}"
                found.append(Diverged(said))
            elif isinstance(metrics, Diverged):
                found.append(metrics)
            else:
                train_loss = total / len(self.train)
                found.append(EpochResult(epoch, metrics | {"train_loss": train_loss}, seconds, peak))
        self._step, self._epoch_seconds = 0, 0.0
        self._totals.zero_()
        return found

    def _take(self, batches: list[np.ndarray]) -> None:
        """One optimizer step of every member over its batch; all of it or, where it cannot be, nothing."""
        before, started = self.noise.state(), time.perf_counter()
        try:
            with self.watchdog.guard(self._step_seconds):
                losses = self._backward(batches)
        except BaseException as error:
            if isinstance(error, Hung) or is_out_of_memory(error):
                self.network.zero_grad(set_to_none=True)
                self.noise.load_state(before)
            raise
        self._totals += losses
        gradients = stacked.gradients(self.network)
        for row, updater, found in zip(self.rows, self.updaters, gradients, strict=True):
            for name, parameter in row.items():
                parameter.grad = found.get(name)
            self._update(updater)
        self.network.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - started
        # The slowest so far: batches differ in length, and the first of each shape is slow.
        self._step_seconds = max(seconds, self._step_seconds or 0.0)

    def _backward(self, batches: list[np.ndarray]) -> torch.Tensor:
        """Gradients of every member's mean loss over its batch, in microbatches; (members,) summed losses."""
        summed = torch.zeros_like(self._totals)
        count = min(self.recipe.accumulate, len(batches[0]))
        for parts in zip(*(np.array_split(batch, count) for batch in batches), strict=True):
            batch = self._inputs(list(parts))
            inputs = to_device(batch.inputs, self.device, self._kind)
            with mixed(self.device, self._dtype), quickest(self.device, self._dtype, inputs):
                logits = forward(self.network, inputs)
            losses = self._losses(precise(logits), batch.targets.to(self.device), parts)
            loss = losses.sum() / len(batches[0])
            torch.autograd.backward(loss if self._scaler is None else self._scaler.scale(loss))
            summed += losses.detach()
        return summed

    def _inputs(self, parts: list[np.ndarray]) -> Batch:
        """The members' microbatches as one batch, padded to the longest of all."""
        rows = len(parts[0])
        indices = np.concatenate(parts)
        padded = self.task.modality == "text"
        self.noise.extent(rows, [int(self.train.lengths[part].max()) for part in parts] if padded else None)
        views = getattr(self.train, "views", 0)
        if views:
            drawn = [self.noise.generator(k).integers(views, size=rows) for k in range(self.size)]
            return self.train.batch(indices, np.concatenate(drawn))  # type: ignore[call-arg]
        batch = self.train.batch(indices)
        if "pixel_values" in batch.inputs and self.recipe.augmentation != "none":
            changed = [
                augment(pixels, self.recipe.augmentation, self.noise.generator(k))
                for k, pixels in enumerate(batch.inputs["pixel_values"].chunk(self.size))
            ]
            batch.inputs["pixel_values"] = torch.cat(changed)
        return batch

    def _losses(
        self, logits: torch.Tensor, targets: torch.Tensor, parts: Sequence[np.ndarray]
    ) -> torch.Tensor:
        """(members,) summed losses of each member's examples, which are ``parts``."""
        losses = self._of_examples(logits, targets, parts)
        if self._counts is not None:
            places = torch.from_numpy(np.stack(parts)).long().to(self.device)
            losses = losses * self._counts.gather(1, places).to(losses.dtype)
        return losses.sum(dim=1)

    def _of_examples(
        self, logits: torch.Tensor, targets: torch.Tensor, parts: Sequence[np.ndarray]
    ) -> torch.Tensor:
        """(members, rows) losses."""
        smoothing = [member.recipe.label_smoothing for member in self.members]
        alike = len(set(smoothing)) == 1 and len({id(weights) for weights in self._weights}) == 1
        alike = alike and all(each is None or each.teacher is None for each in self._lessons)
        if alike:
            losses = self.task.loss(
                logits, targets, label_smoothing=smoothing[0], class_weights=self._weights[0]
            )
            return losses.view(self.size, -1)
        each = []
        for k, (part, wanted) in enumerate(
            zip(logits.chunk(self.size), targets.chunk(self.size), strict=True)
        ):
            true = self.task.loss(part, wanted, label_smoothing=smoothing[k], class_weights=self._weights[k])
            taught = self._lessons[k]
            each.append(true if taught is None else taught.losses(self.task, part, wanted, parts[k], true))
        return torch.stack(each)

    def _update(self, updater: Updater) -> None:
        if self._scaler is None:
            updater.step()
            return
        self._scaler.unscale_(updater.optimizer)
        if all(bool(torch.isfinite(p.grad).all()) for p in updater.parameters if p.grad is not None):
            updater.step()
        else:  # A scale too large for this step: half precision's usual hiccup, not a divergence.
            updater.skip()
        self._scaler.update()


def _started(member: Member, row: dict[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    """The weights that L2-SP pulls to, in the shapes of the stack."""
    return {name: _filled(member.start[name], row[name]) for name in row if name in member.start}


def _fitted(state: OptimizerState, updater: Updater) -> OptimizerState:
    """Optimizer tensors in the shapes of a stack, whose low-rank halves are filled up to the largest rank."""
    return {
        name: {key: _padded(value, updater.named[name], updater) for key, value in tensors.items()}
        for name, tensors in state.items()
    }


def _padded(tensor: torch.Tensor, like: torch.Tensor, updater: Updater) -> torch.Tensor:
    return _filled(tensor, like) if _elementwise(tensor, like, updater) else tensor.to(like.device, copy=True)


def _filled(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    padded = torch.zeros_like(like, dtype=tensor.dtype)
    padded[tuple(slice(0, size) for size in tensor.shape)] = tensor
    return padded


def _cropped(tensor: torch.Tensor, like: torch.Tensor, updater: Updater) -> torch.Tensor:
    if _elementwise(tensor, like, updater):
        tensor = tensor[tuple(slice(0, size) for size in like.shape)]
    return tensor.to("cpu", copy=True)


def _elementwise(tensor: torch.Tensor, like: torch.Tensor, updater: Updater) -> bool:
    """Whether a tensor has a number for each of the parameter's. Adafactor's do not, and are never filled
    up.
    """
    return tensor.ndim == like.ndim and updater.recipe.optimizer != "adafactor"


def _moved(weights: torch.Tensor | None, device: torch.device) -> torch.Tensor | None:
    return None if weights is None else weights.to(device)


def _cuda_indices(device: torch.device) -> list[int]:
    return [device.index or 0] if device.type == "cuda" else []
