"""Linear heads of many trials on the same pooled vectors, trained together by closed-form gradients.

Where a recipe trains nothing but a linear head, the vectors that the head reads never change, and what is
left to do for an example is so little that a step of one trial is all overhead. Here a step of all trials is
a handful of batched operations. Each trial's numbers are those that it would have alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from luthier.engine import kept, lesson
from luthier.engine.compiled import CompiledWhenItPays
from luthier.engine.layout import Layout, epoch_of
from luthier.engine.memory import used
from luthier.engine.noise import Noise
from luthier.engine.rules import KINDS, Rules
from luthier.engine.state import Diverged, EpochResult, Halted, Member, Position, TrialState, of_validation
from luthier.recipe import Recipe
from luthier.tasks.base import Batch, Examples, Task

WEIGHT, BIAS = "head.classifier.weight", "head.classifier.bias"

# Steps between looks at the losses and at memory: a look at a loss waits for the device.
LOOK_EVERY = 50
# Validation logits that exist at a time, over all trials.
LOGITS_AT_ONCE = 2**25


class Pooled(Examples, Protocol):
    """A split of which only one vector an example is left."""

    values: torch.Tensor
    """(n, width) float32."""


def never() -> str | None:
    """A halt condition that never holds."""
    return None


def supports(recipe: Recipe, head_form: str, task: Task) -> bool:
    """Whether `HeadStack` can train a recipe.

    Args:
        recipe: What is asked for.
        head_form: As the network has it; ``native`` is linear for some architectures only.
        task: Its answers must be one an example.
    """
    # Views of images differ from step to step, and so do their vectors.
    changing = task.modality == "image" and recipe.augmentation != "none"
    return (
        recipe.adaptation == "probe"
        and head_form == "linear"
        and task.level == "example"
        and recipe.optimizer in KINDS
        and recipe.accumulate == 1
        and recipe.precision in ("auto", "fp32")
        and not changing
    )


class HeadStack:
    """Linear heads in training; a trial alone is a stack of one.

    Members share the vectors and ``batch_size``, may differ in all else, and may stand at different epochs.
    As in `luthier.engine.train.Training`, a trial's batches and dropout depend on its seed and epoch alone.

    Args:
        members: The trials, each with a recipe that `supports` holds for; their states' epochs are counted
            up.
        task: Loss, outputs and metrics.
        train: Training vectors.
        validation: Validation vectors.
        validation_targets: The true answers that validation outputs are held against.
        device: Where to train; the vectors are copied there, if they are not there already.
        dtype: Of weights and vectors.
    """

    def __init__(
        self, members: list[Member], task: Task, train: Pooled, validation: Pooled,
        validation_targets: list[np.ndarray], *, device: torch.device, dtype: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        self.members = members
        self.size = len(members)
        self.task = task
        self.train = train
        self.validation = validation
        self.validation_targets = validation_targets
        self.device = device
        self._values = train.values.to(device, dtype)
        self._targets = train.targets_of(np.arange(len(train))).to(device)
        self._judged = validation.values.to(device, dtype)
        self._width, self._outputs = self._values.shape[1], task.num_outputs
        self._batch = min(members[0].recipe.batch_size, len(train))
        self.steps_per_epoch = math.ceil(len(train) / self._batch)

        self._order = sorted(range(self.size), key=lambda k: KINDS.index(members[k].recipe.optimizer))
        self._row = {member: row for row, member in enumerate(self._order)}
        self._sorted = [members[k] for k in self._order]
        recipes = [member.recipe for member in self._sorted]
        decayed = self._outputs * self._width
        self._parameters = torch.empty(self.size, decayed + self._outputs, device=device, dtype=dtype)
        totals = [self.steps_per_epoch * recipe.epochs for recipe in recipes]
        self._rules = Rules(recipes, self._parameters, decayed, totals)
        self._steps = np.array([member.state.steps for member in self._sorted])
        for row, member in enumerate(self._sorted):
            self._load(row, member.state)

        self._smoothing, self._class_weights = self._of_losses(recipes)
        self._rates = [recipe.head_dropout for recipe in recipes]
        self._noise = Noise([member.seed for member in self._sorted], device)
        self._inputs = torch.empty(self.size * self._batch, self._width, device=device, dtype=dtype)
        exact = torch.float64 if device.type == "cpu" else torch.float32
        self._parts = self._inputs.chunk(self.size)
        self._totals = torch.zeros(self.size, device=device, dtype=exact)
        self._ones = torch.ones(self.size, self._batch, device=device, dtype=dtype)
        self._even = self._ones.unsqueeze(-1) / self._batch
        lessons = [member.lesson for member in self._sorted]
        self._counts = lesson.counts(lessons, len(train), device, dtype)
        self._teachers = lesson.teachers(lessons, len(train), self._outputs, self._ones)
        self._learn = CompiledWhenItPays(self._update, self._changed, device, self._steps_left())
        self._step, self._seconds = 0, 0.0
        self._layout: Layout | None = None
        self._said: dict[int, torch.Tensor] = {}

    @property
    def done(self) -> float:
        """The share of the epoch that is done."""
        return self._step / self.steps_per_epoch

    @torch.no_grad()
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
        """
        started, peak = time.perf_counter(), used(self.device, reset=True)
        try:
            # Anew where no step succeeded yet: one that failed may have drawn random numbers.
            layout = self._lay_out() if self._layout is None or self._step == 0 else self._layout
            while self._step < self.steps_per_epoch:
                if reason := halt():
                    raise Halted(reason)
                self._take(layout)
                if self._step % LOOK_EVERY == 1:
                    peak = max(peak, used(self.device))
                    if not bool(torch.isfinite(self._totals).any()):
                        break
                if on_step is not None:
                    on_step(self.done)
        finally:
            self._seconds += time.perf_counter() - started
        return self._finish(peak)

    @torch.no_grad()
    def evaluate(self) -> list[dict[str, float] | Diverged]:
        """Validation metrics of each member as it is, or that they are not finite."""
        found: dict[int, dict[str, float] | Diverged] = {}
        self._said = {}
        bytes_each = len(self._judged) * self._outputs * self._judged.element_size()
        for row, logits in self._logits(range(self.size)):
            member = self._sorted[row]
            outputs = self._outputs_of(logits)
            metrics = self.task.metrics(outputs, self.validation_targets)
            epoch = max(1, member.state.epoch + (self._step > 0))
            finite = math.isfinite(metrics["loss"])
            found[self._order[row]] = metrics if finite else of_validation(metrics["loss"], epoch, outputs)
            if self.size * bytes_each <= kept.MEMORY_BYTES:
                self._said[row] = logits
        return [found[k] for k in range(self.size)]

    @torch.no_grad()
    def outputs(self, index: int) -> list[np.ndarray]:
        """What a member says of the validation split, as it is."""
        row = self._row[index]
        ((_, logits),) = self._logits(range(row, row + 1))
        return self._outputs_of(logits)

    def said(self, index: int) -> kept.Later:
        """A copy of what a member said of the validation split when it was last evaluated."""
        found = self._said.get(self._row[index])
        if found is None:
            return dict
        # Cut into rows only at the end: thousands of arrays for each trial take longer than a step of all.
        logits, cut = found.clone(), _Cut(self.task, self.validation)
        return lambda: kept.pack(cut(logits))

    def weights(self, index: int) -> dict[str, torch.Tensor]:
        """Copies of a member's trained weights in main memory, as `Network.trained_state` names them."""
        return self._named(self._parameters[self._row[index]].to("cpu", copy=True))

    def state(self, index: int) -> TrialState:
        """Where a member stands, copied out of the stack; what is known of its best epoch stays as it is."""
        row = self._row[index]
        optimizer: dict[str, dict[str, torch.Tensor]] = {}
        for key, value in self._rules.state(row).items():
            parts = self._named(value) if value.ndim else {WEIGHT: value, BIAS: value.clone()}
            for name, part in parts.items():
                optimizer.setdefault(name, {})[key] = part
        return replace(
            self.members[index].state,
            weights=self.weights(index),
            optimizer=optimizer,
            steps=int(self._steps[row]),
        )

    def position(self) -> Position:
        """Where in its epoch the stack stands."""
        noise = self._noise.state()
        rows = [self._row[index] for index in range(self.size)]
        return Position(self._step, self._seconds, self._totals[rows], [noise[row] for row in rows])

    def resume(self, position: Position) -> None:
        """Goes on from there."""
        self._step, self._seconds, self._layout = position.step, position.seconds, None
        self._totals.copy_(position.totals[self._order])
        self._noise.load_state([position.noise[index] for index in self._order])

    def _load(self, row: int, state: TrialState) -> None:
        self._parameters[row].copy_(_flat(state.weights[WEIGHT], state.weights[BIAS]))
        weight, bias = state.optimizer.get(WEIGHT, {}), state.optimizer.get(BIAS, {})
        both = {key: _flat(value, bias[key]) if value.ndim else value for key, value in weight.items()}
        self._rules.load(row, both, state.steps)

    def _named(self, row: torch.Tensor) -> dict[str, torch.Tensor]:
        """A row's weights and biases, each in memory of its own."""
        weight = row[: -self._outputs].view(self._outputs, self._width)
        return {WEIGHT: weight.clone(), BIAS: row[-self._outputs :].clone()}

    def _of_losses(self, recipes: list[Recipe]) -> tuple[float | torch.Tensor, torch.Tensor | None]:
        """Label smoothing and class weights as `Task.gradient` takes them."""
        like = self._parameters
        amounts = [recipe.label_smoothing for recipe in recipes]
        smoothing: float | torch.Tensor = amounts[0]
        if len(set(amounts)) > 1:
            smoothing = torch.tensor(amounts, device=like.device, dtype=like.dtype).view(-1, 1, 1)
        weights = [member.class_weights for member in self._sorted]
        if all(weight is None for weight in weights):
            return smoothing, None
        rows = [torch.ones(self._outputs) if weight is None else weight.cpu() for weight in weights]
        return smoothing, torch.stack(rows).to(like.device, like.dtype).unsqueeze(1)

    def _changed(self) -> list[torch.Tensor]:
        """All that a step changes for good."""
        return [self._totals, *self._rules.matrices()]

    def _steps_left(self) -> int:
        """Steps until the last member is through, if none leaves early."""
        epochs = [member.recipe.epochs - member.state.epoch for member in self.members]
        return self.steps_per_epoch * max(0, *epochs)

    def _lay_out(self) -> Layout:
        """Says for an epoch, or the rest of one, who sees what at which step, and at what rates."""
        indices, counts = epoch_of(self._sorted, self.train.lengths, self.steps_per_epoch, self._batch)
        if self._step == 0:
            for row, member in enumerate(self._sorted):
                self._noise.start(row, member.state.epoch + 1)
        plan = self._rules.plan(self._steps.tolist(), self.steps_per_epoch - self._step)
        chosen = torch.from_numpy(indices.reshape(self.steps_per_epoch, -1)).to(self.device)
        self._layout = Layout(chosen, counts, plan, self._step)
        return self._layout

    def _take(self, layout: Layout) -> None:
        """One step of every member."""
        indices, counts = layout.indices[self._step], layout.counts[self._step]
        torch.index_select(self._values, 0, indices, out=self._inputs)
        targets = self._targets.index_select(0, indices)
        self._drop(counts)
        targets = targets.view(self.size, self._batch, *targets.shape[1:])
        places = indices.view(self.size, self._batch)
        said = None if self._teachers is None else self._teachers.said(places.long())
        self._learn(targets, *self._shares(counts, places), layout.plan[self._step - layout.first], said)
        self._rules.taken += 1
        self._steps += 1
        self._step += 1

    def _drop(self, counts: np.ndarray) -> None:
        """Dropout on the vectors at hand, for each trial from its own random numbers and for its own rows."""
        for row, (inputs, rate, count) in enumerate(
            zip(self._parts, self._rates, counts.tolist(), strict=True)
        ):
            if rate > 0:
                self._noise.extent(count)
                part = inputs if count == self._batch else inputs[:count]
                part.mul_(self._noise.mask(row, (count, self._width), rate))

    def _shares(self, counts: np.ndarray, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(trials, batch) what each example counts, and (trials, batch, 1) its share of its trial's loss."""
        if self._counts is None and (counts == self._batch).all():
            return self._ones, self._even
        taken = torch.from_numpy(np.arange(self._batch) < counts[:, None]).to(self.device, self._even.dtype)
        if self._counts is not None:
            taken = taken * self._counts.gather(1, places.long())
        sizes = torch.from_numpy(counts).to(self.device, self._even.dtype).view(-1, 1, 1)
        return taken, taken.unsqueeze(-1) / sizes

    def _update(
        self, targets: torch.Tensor, taken: torch.Tensor, shares: torch.Tensor, now: torch.Tensor,
        said: torch.Tensor | None,
    ) -> None:  # fmt: skip
        """The step itself: from the vectors at hand to the next weights. Nothing here depends on data."""
        inputs = self._inputs.view(self.size, self._batch, self._width)
        shape = (self.size, self._outputs, self._width)
        weights = self._parameters[:, : -self._outputs].view(shape)
        biases = self._parameters[:, -self._outputs :].unsqueeze(1)
        logits = torch.bmm(weights, inputs.transpose(1, 2)).transpose(1, 2) + biases
        losses, slopes = self.task.gradient(
            logits, targets, label_smoothing=self._smoothing, class_weights=self._class_weights
        )
        if self._teachers is not None and said is not None:
            losses, slopes = self._teachers.join(self.task, logits, said, losses, slopes)
        summed = (losses * taken).sum(dim=1)
        slopes = slopes * shares
        gradients = torch.bmm(slopes.transpose(1, 2), inputs).flatten(1)
        # Nothing was changed so far, in case that memory ran out.
        self._rules.update(torch.cat([gradients, slopes.sum(dim=1)], dim=1), now)
        self._totals.add_(summed)

    def _finish(self, peak: int) -> list[EpochResult | Diverged]:
        """Evaluates, and moves every member's epoch on by one."""
        started = time.perf_counter()
        totals, step = self._totals.tolist(), self._step
        judged = self.evaluate()
        seconds = (self._seconds + time.perf_counter() - started) / self.size
        peak = max(peak, used(self.device))
        found: list[EpochResult | Diverged] = []
        for index, (member, metrics) in enumerate(zip(self.members, judged, strict=True)):
            total = totals[self._row[index]]
            member.state.epoch = epoch = member.state.epoch + 1
            if not math.isfinite(total):
                found.append(Diverged(f"the training loss became {total} in epoch {epoch}, by step {step}"))
            elif isinstance(metrics, Diverged):
                found.append(metrics)
            else:
                train_loss = total / len(self.train)
                found.append(EpochResult(epoch, metrics | {"train_loss": train_loss}, seconds, peak))
        self._step, self._seconds, self._layout = 0, 0.0, None
        self._totals.zero_()
        return found

    def _logits(self, rows: range) -> Iterator[tuple[int, torch.Tensor]]:
        """Validation logits of some rows, (n, outputs) in main memory: one product for as many as is wise."""
        count = len(self._judged)
        at_once = max(1, LOGITS_AT_ONCE // max(1, count * self._outputs))
        for start in range(rows.start, rows.stop, at_once):
            chosen = self._parameters[start : min(start + at_once, rows.stop)]
            weights = chosen[:, : -self._outputs].reshape(-1, self._width)
            logits = torch.addmm(chosen[:, -self._outputs :].flatten(), self._judged, weights.T).cpu()
            parts = logits.view(count, len(chosen), self._outputs).transpose(0, 1).contiguous()
            yield from enumerate(parts, start)

    def _outputs_of(self, logits: torch.Tensor) -> list[np.ndarray]:
        return _Cut(self.task, self.validation)(logits)


@dataclass(frozen=True)
class _Cut:
    """Cuts a trial's logits for the validation split into outputs; it outlives the stack."""

    task: Task
    validation: Pooled

    def __call__(self, logits: torch.Tensor) -> list[np.ndarray]:
        everything = np.arange(len(self.validation))
        return self.task.outputs(logits, Batch({}, self.validation.targets_of(everything), everything))


def _flat(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.cat([weight.flatten(), bias])
