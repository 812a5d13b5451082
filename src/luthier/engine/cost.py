"""What an epoch of a recipe will cost: the arithmetic of its passes, corrected by measured epochs.

Prediction is plain floating-point arithmetic on numbers that were noted, and so the same each time; only
`profile` runs a network.
"""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch

from luthier.engine.forward import place, to_device
from luthier.engine.plan import STRUCTURE
from luthier.models.network import Network
from luthier.recipe import Recipe

# Seconds that an optimizer takes for one parameter, until it was measured: reading and writing seven float32
# values from memory.
UPDATE = 3e-9
# Seconds that a step takes beside its arithmetic: making the batch, and calling what computes it.
STEP = 3e-4
# What low-rank updates add to a block, in its forward passes.
UPDATES = 0.2
# Of a body's parameters those that are biases, and those that low-rank updates add; only the optimizer asks.
FEW = 0.01
# Forward passes that are timed: noise on a shared machine only ever adds, so the shortest counts.
PASSES = 3


@dataclass(frozen=True)
class Profile:
    """The speed of a model, by depth: 0 the head, 1 the top block, ..., last the embeddings.

    Attributes:
        forward: Seconds that an example takes in a forward pass. The top block's includes what lies between
            it and the head: norms and pooling.
        parameters: Number of parameters.
        extent: Of the examples measured: tokens of a text, padding included, or pixels of an image; 0 if
            unknown.
        update: Seconds that an optimizer step takes for one parameter.
    """

    forward: tuple[float, ...]
    parameters: tuple[int, ...]
    extent: float = 0.0
    update: float = UPDATE

    @property
    def num_blocks(self) -> int:
        """Blocks between the embeddings and the head."""
        return len(self.forward) - 2


@dataclass(frozen=True)
class Cost:
    """Seconds of a training: once, whatever its length, and for each epoch."""

    once: float
    each: float

    def total(self, epochs: int) -> float:
        """Seconds of so many epochs."""
        return self.once + epochs * self.each

    def epochs_within(self, seconds: float, wanted: int) -> int:
        """How many epochs of those wanted fit."""
        if self.total(wanted) <= seconds:
            return wanted
        return int(min(wanted, max(0.0, (seconds - self.once) / self.each))) if self.each > 0 else 0


class CostModel:
    """Predicts the seconds of trainings.

    A prediction is the arithmetic of the recipe's passes at the profiled speed of its model, times a
    correction that was learnt. The correction is taken from what is most like the training that is asked for:
    the same shape (all that trials of a stack share) in a stack of the same size, the same shape, the same
    adaptation, or the same model; otherwise it is 1. Trainings that were measured themselves predict what
    they took.

    Epochs that read only cached features, of recipes that train the head alone, say nothing of the model's
    speed; they and the others learn apart.
    """

    def __init__(self) -> None:
        self._profiles: dict[str, dict[float, Profile]] = {}
        self._corrections: dict[Hashable, float] = {}
        self._seconds: dict[Hashable, float] = {}
        self._sizes: dict[Hashable, dict[int, Hashable]] = {}

    def note(self, source_key: str, profile: Profile) -> None:
        """Takes a profile of a model; one for each extent is kept.

        Args:
            source_key: The model, such as its fingerprint.
            profile: Its speed.
        """
        self._profiles.setdefault(source_key, {})[profile.extent] = profile

    def knows(self, source_key: str) -> bool:
        """Whether a profile of the model was noted."""
        return source_key in self._profiles

    def predict(
        self, source_key: str, recipe: Recipe, *, cut: int, rows: int, validation_rows: int, size: int = 1,
        cached: bool = False, cacheable: bool = True, views: int = 1, extent: float | None = None,
        trainable: int | None = None,
    ) -> Cost | None:  # fmt: skip
        """Seconds of one trial, or None before a profile of its model was noted.

        Args:
            source_key: The model.
            recipe: Its settings.
            cut: Depth of the deepest trainable parameter, see `Network.cut`.
            rows: Training examples.
            validation_rows: Examples evaluated after each epoch.
            size: Trials in its stack; what a stack's epoch takes is shared out equally.
            cached: Whether the outputs of the frozen part lie ready.
            cacheable: Whether they are kept once they were computed; otherwise every epoch computes them.
            views: Fixed views of each training example in the cache.
            extent: Tokens of a text (the mean, with padding) or pixels of an image, by which the cost grows
                in proportion; None for the recipe's image size, or what was profiled.
            trainable: Parameters that are trained, if counted; otherwise they are estimated.
        """
        profile = self._profile(source_key, recipe, extent)
        if profile is None:
            return None
        once = 0.0
        if cacheable and not cached:
            key = (source_key, "prefix")
            once = _prefix(profile, cut, rows * views + validation_rows) * self._corrections.get(key, 1.0)
        measured = self._seconds.get(
            _training(source_key, recipe, size, cut, rows, validation_rows, cacheable)
        )
        if measured is not None:
            return Cost(once, measured)
        each = _epoch(profile, recipe, cut, rows, validation_rows, cacheable, trainable)
        levels = _levels(source_key, recipe, size, cut == 0 and cacheable)
        found = (self._corrections[level] for level in levels if level in self._corrections)
        return Cost(once, each * next(found, 1.0))

    def observe(
        self, source_key: str, recipe: Recipe, size: int, seconds: float, *, cut: int, rows: int,
        validation_rows: int, cacheable: bool = True, extent: float | None = None,
        trainable: int | None = None,
    ) -> None:  # fmt: skip
        """Takes note of a finished epoch.

        Args:
            source_key: The model.
            recipe: Of one of the trials.
            size: Trials in the stack.
            seconds: Of one trial: the stack's divided by its size.
            cut: As for `predict`, and so are the others.
            rows: See `predict`.
            validation_rows: See `predict`.
            cacheable: See `predict`.
            extent: See `predict`.
            trainable: See `predict`.
        """
        profile = self._profile(source_key, recipe, extent)
        if profile is None or not 0 < seconds < math.inf:
            return
        self._learn(
            self._seconds, _training(source_key, recipe, size, cut, rows, validation_rows, cacheable), seconds
        )
        ratio = seconds / _epoch(profile, recipe, cut, rows, validation_rows, cacheable, trainable)
        levels = _levels(source_key, recipe, size, cut == 0 and cacheable)
        for level in levels:
            self._learn(self._corrections, level, ratio)
        self._sizes.setdefault((source_key, _shape(recipe)), {})[size] = levels[0]

    def observe_prefix(
        self,
        source_key: str,
        recipe: Recipe,
        seconds: float,
        *,
        cut: int,
        rows: int,
        extent: float | None = None,
    ) -> None:
        """Takes note of a pass over the frozen part.

        Args:
            source_key: The model.
            recipe: Its image size counts.
            seconds: That it took.
            cut: Depth whose states were wanted.
            rows: Examples, each view counted.
            extent: See `predict`.
        """
        profile = self._profile(source_key, recipe, extent)
        if profile is None or not 0 < seconds < math.inf:
            return
        if (predicted := _prefix(profile, cut, rows)) > 0:
            self._learn(self._corrections, (source_key, "prefix"), seconds / predicted)

    def has_sizes(self, source_key: str, recipe: Recipe) -> bool:
        """Whether epochs of a recipe's shape were measured, in stacks of any size."""
        return bool(self._sizes.get((source_key, _shape(recipe))))

    def best_size(self, source_key: str, recipe: Recipe, largest: int) -> int:
        """How many trials of a shape to stack.

        Stacks grow as long as that was not measured to cost more: the answer is ``largest``, unless some
        smaller size took less of each trial's time than a larger one that was measured, too.

        Args:
            source_key: The model.
            recipe: Of one of the trials.
            largest: As many as there are, and as memory allows.
        """
        measured = self._sizes.get((source_key, _shape(recipe)), {})
        if not measured:
            return largest
        cheapest = min(measured, key=lambda size: (self._corrections[measured[size]], -size))
        return cheapest if cheapest < min(largest, max(measured)) else largest

    def _profile(self, source_key: str, recipe: Recipe, extent: float | None) -> Profile | None:
        """The profile of the nearest extent, brought to the one that is asked for."""
        profiles = self._profiles.get(source_key)
        if not profiles:
            return None
        if extent is None and recipe.image_size is not None:
            extent = float(recipe.image_size) ** 2
        known = [measured for measured in profiles if measured > 0]
        if not extent or not known:
            return next(iter(profiles.values()))
        nearest = profiles[min(known, key=lambda measured: (abs(math.log(extent / measured)), measured))]
        scale = extent / nearest.extent
        forward = tuple(seconds * scale for seconds in nearest.forward)
        return Profile(forward, nearest.parameters, extent, nearest.update)

    @staticmethod
    def _learn(known: dict[Hashable, float], key: Hashable, value: float) -> None:
        # The newest measurement counts half: the machine may be shared, and its speed drift. Ratios average
        # as their logarithms do.
        known[key] = value if key not in known else math.sqrt(known[key] * value)


def profile(network: Network, batch_inputs: dict[str, torch.Tensor], device: torch.device) -> Profile:
    """Times the parts of a network in inference mode, under the caller's autocast if there is one.

    Args:
        network: A whole one, not cut or stacked; moved to ``device``.
        batch_inputs: One typical batch, as for `Network.forward`; its size is that of the batch.
        device: Where to measure.
    """
    inputs = to_device(batch_inputs, device)
    training = network.training
    place(network, device).eval()
    marks: list[tuple[int, float]] = []

    def mark(depth: int) -> None:
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        marks.append((depth, time.perf_counter()))

    def begins(depth: int) -> Callable[..., None]:
        return lambda *_: mark(depth)

    # A part lasts from where it is entered to where the next one is. What is called before the first block
    # are the embeddings.
    parts = [(network.head, 0)]
    for name, module in network.backbone.named_modules():
        if network.family.block_pattern.match(f"{name}."):
            parts.append((module, network.depth(f"backbone.{name}.")))
    handles = [module.register_forward_pre_hook(begins(depth)) for module, depth in parts]
    deepest = network.num_blocks + 1
    best = [math.inf] * (deepest + 1)
    try:
        for run in range(1 + PASSES):
            marks.clear()
            with torch.inference_mode():
                mark(deepest)
                network(**inputs)
                mark(0)
            seconds = [0.0] * (deepest + 1)
            for (depth, start), (_, end) in itertools.pairwise(marks):
                seconds[depth] += end - start
            if run > 0:
                best = [min(pair) for pair in zip(best, seconds, strict=True)]
    finally:
        for handle in handles:
            handle.remove()
        network.train(training)
    parameters = [0] * (deepest + 1)
    for name, parameter in network.named_parameters():
        parameters[network.depth(name)] += parameter.numel()
    first = next(iter(inputs.values()))
    extent = first.shape[-1] * first.shape[-2] if first.ndim == 4 else first.shape[1]
    forward = tuple(seconds / len(first) for seconds in best)
    return Profile(forward, tuple(parameters), float(extent), update_seconds(device))


@functools.cache
def update_seconds(device: torch.device, elements: int = 2**21) -> float:
    """Seconds that clipping and AdamW take for one parameter; measured once."""
    parameter = torch.nn.Parameter(torch.zeros(elements, device=device))
    parameter.grad = torch.ones_like(parameter)
    optimizer = torch.optim.AdamW([parameter], fused=True)
    best = math.inf
    for _ in range(1 + PASSES):
        started = time.perf_counter()
        torch.nn.utils.clip_grad_norm_([parameter], 1.0)
        optimizer.step()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return best / elements


def _epoch(
    profile: Profile, recipe: Recipe, cut: int, rows: int, validation_rows: int, cacheable: bool,
    trainable: int | None,
) -> float:  # fmt: skip
    """Seconds of one epoch by arithmetic alone."""
    blocks = profile.num_blocks
    heavy = _heavy(recipe, blocks)
    seconds = 0.0
    for depth, forward in enumerate(profile.forward):
        if depth > cut:
            if not cacheable:
                seconds += forward * (rows + validation_rows)
            continue
        passes = 1.0
        if cut > 0 and depth <= blocks:
            # Of activations. The lowest block passes them through most of itself, too; nothing wants those
            # that enter the embeddings.
            passes += 1.0
        if depth <= heavy:
            passes += 1.0
        if 1 <= depth <= blocks:
            passes += (1.0 if recipe.gradient_checkpointing else 0.0) + (
                UPDATES if recipe.adaptation == "lora" else 0.0
            )
        seconds += forward * (passes * rows + validation_rows)
    steps = math.ceil(rows / recipe.batch_size)
    elements = _trainable(profile, recipe) if trainable is None else trainable
    return seconds + steps * (STEP + elements * profile.update)


def _prefix(profile: Profile, cut: int, rows: int) -> float:
    """Seconds of one pass through all that lies below the cut."""
    return sum(profile.forward[cut + 1 :]) * rows


def _heavy(recipe: Recipe, blocks: int) -> int:
    """The deepest part whose weight matrices are trained themselves; 0 for the head."""
    return {"full": blocks + 1, "last_k": min(recipe.last_k, blocks)}.get(recipe.adaptation, 0)


def _trainable(profile: Profile, recipe: Recipe) -> int:
    """About how many parameters a recipe trains."""
    trained = sum(profile.parameters[: _heavy(recipe, profile.num_blocks) + 1])
    if recipe.adaptation in {"bias", "lora"}:
        trained += int(FEW * sum(profile.parameters[1:]))
    return trained


def _shape(recipe: Recipe) -> Hashable:
    """All that trials of one stack share."""
    shared = recipe.model_dump(include=set(STRUCTURE) - {"model"})
    for name, adaptation in (("last_k", "last_k"), ("lora_targets", "lora")):
        if recipe.adaptation != adaptation:
            shared.pop(name, None)
    return tuple(sorted(shared.items()))


def _levels(source_key: str, recipe: Recipe, size: int, light: bool) -> list[Hashable]:
    """Where corrections are kept, the most particular first."""
    shape = _shape(recipe)
    return [
        (source_key, light, shape, size),
        (source_key, light, shape),
        (source_key, light, recipe.adaptation),
        (source_key, light),
    ]


def _training(source_key: str, recipe: Recipe, size: int, *work: int) -> Hashable:
    """Trainings with equal keys take equally long."""
    return (source_key, _shape(recipe), size, work)
