"""`Engine`: runs orders and streams a report an epoch.

What it shares between trials shows in the clock, never in the numbers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from luthier.engine import prefix
from luthier.engine.checkpoint import Checkpoints
from luthier.engine.cost import FORWARD, Cost, CostModel, relative_cost
from luthier.engine.inputs import Inputs, Split
from luthier.engine.precision import autocast_dtype, choose_device
from luthier.engine.train import Diverged, Halted, Training, never, predict
from luthier.errors import LuthierError, RunError
from luthier.models.network import Network, build
from luthier.models.source import Source
from luthier.recipe import Recipe
from luthier.trial import Order, Report, Status

# Cached features may take this much memory; beyond it the body runs again in every epoch.
CACHE_BYTES = 4 * 2**30


@dataclass
class _Live:
    """A trial in training, with the weights of its best epoch, kept in main memory until its order ends."""

    order: Order
    training: Training
    units: float | None
    best_score: float = -math.inf
    best_epoch: int = 0
    best_metrics: dict[str, float] = field(default_factory=dict)
    best_state: dict[str, torch.Tensor] = field(default_factory=dict)

    def improve(self, score: float, metrics: dict[str, float]) -> None:
        """Keeps this epoch's weights if it scores better; of equal scores the one with the lower loss."""
        tied = score == self.best_score and metrics["loss"] < self.best_metrics["loss"]
        if score > self.best_score or tied:
            state = self.training.network.trained_state()
            self.best_state = {name: value.detach().cpu().clone() for name, value in state.items()}
            self.best_score, self.best_epoch, self.best_metrics = score, self.training.epoch, metrics


class Engine:
    """Trains recipes on one dataset.

    Args:
        inputs: The encoded training and validation splits.
        sources: Models by the name that recipes use.
        checkpoints: Where the best weights of each trial go.
        device: ``auto``, ``cpu``, ``cuda``, ``mps`` or a torch device string.

    Raises:
        SettingError: The device is not there.
    """

    def __init__(
        self, inputs: Inputs, sources: dict[str, Source], checkpoints: Checkpoints, device: str = "auto"
    ) -> None:
        self.inputs = inputs
        self.task = inputs.task
        self.sources = sources
        self.checkpoints = checkpoints
        self.device = choose_device(device)
        self.cost = CostModel()
        self._blocks: dict[str, int] = {}
        self._features: dict[tuple[object, ...], prefix.Features] = {}
        self._paused: dict[int, _Live] = {}

    def run(
        self,
        orders: list[Order],
        *,
        halt: Callable[[], str | None] = never,
        on_step: Callable[[float], None] | None = None,
    ) -> Iterator[Report]:
        """Carries out orders, one after the other, each closed by one report that is not ``running``.

        The weights of a trial's best epoch are on disk before its closing report is given. A trial that
        diverges, runs out of memory or raises is a result with a reason. One that is halted before its first
        epoch ended is evaluated as it stands, so that whatever was trained is of use.

        Args:
            orders: Of new trials, or of ones that were left at an earlier epoch in this process.
            halt: Asked before each step; a reason stops the trial, and those that would follow.
            on_step: Told the share of the trial that is done.

        Raises:
            RunError: What no other trial would survive either, such as a full disk.
        """
        for order in orders:
            yield from self._run(order, halt, on_step)

    def _run(
        self, order: Order, halt: Callable[[], str | None], on_step: Callable[[float], None] | None
    ) -> Iterator[Report]:
        started = time.perf_counter()
        live = self._paused.pop(order.trial, None)
        status: Status = "completed"
        reason, finished = "", 0
        try:
            live = live or self._start(order)
            training, patience = live.training, order.recipe.patience
            finished = training.epoch
            while training.epoch < min(order.until, order.recipe.epochs):
                result = training.run_epoch(halt, on_step)
                finished = result.epoch
                score = self.task.score(result.metrics)
                live.improve(score, result.metrics)
                self._observe(live, result.seconds)
                seconds, started = time.perf_counter() - started, time.perf_counter()
                yield Report(
                    order.trial, finished, "running", score, result.metrics, seconds, result.peak_memory
                )
                if patience is not None and finished - live.best_epoch >= patience:
                    reason = f"no better validation score for {patience} epochs"
                    break
        except Halted as halted:
            status, reason = "stopped", str(halted)
            if live is not None and live.best_epoch == 0 and (partial := self._salvage(live)) is not None:
                finished, score = live.training.epoch, self.task.score(partial)
                seconds, started = time.perf_counter() - started, time.perf_counter()
                yield Report(order.trial, finished, "running", score, partial, seconds)
        except Diverged as diverged:
            status, reason = "failed", f"diverged: {diverged}"
        except RunError:
            raise
        except Exception as error:  # Whatever happened to this trial, the others go on.
            status, reason = "failed", explain(error)
        seconds = time.perf_counter() - started
        yield self._close(order, live, status, reason, finished, seconds)

    def _close(
        self, order: Order, live: _Live | None, status: Status, reason: str, finished: int, seconds: float
    ) -> Report:
        """The closing report, after the best weights are on disk; a trial that is to go further is kept."""
        if live is None:
            return Report(order.trial, finished, status, seconds=seconds, reason=reason)
        usable = status != "failed" and live.best_epoch > 0
        if usable:
            self.checkpoints.save(order.trial, live.best_state)
        if status == "completed" and not reason and order.until < order.recipe.epochs:
            self._paused[order.trial] = live
        network = live.training.network
        return Report(
            order.trial,
            finished,
            status,
            score=live.best_score if usable else math.nan,
            metrics=live.best_metrics if usable else {},
            seconds=seconds,
            reason=reason,
            best_epoch=live.best_epoch if usable else 0,
            trainable=sum(p.numel() for p in network.trainable().values()),
            parameters=sum(p.numel() for p in network.parameters()),
        )

    def predict_cost(self, recipe: Recipe) -> Cost | None:
        """What a recipe will cost, or None before anything of its model was measured.

        A probe pays once, for the features that no earlier one left, and next to nothing for its epochs.
        """
        seconds = self.epoch_seconds(recipe)
        if seconds is None or not may_be_cached(recipe):
            return None if seconds is None else Cost(0.0, seconds)
        return Cost(0.0 if self._feature_key(recipe, "train") in self._features else seconds, 0.0)

    def epoch_seconds(self, recipe: Recipe) -> float | None:
        """Seconds of an epoch if nothing is cached: for a probe, one forward pass over the training data."""
        source = self.sources[recipe.model]
        if source.fingerprint not in self._blocks:
            return None
        return self.cost.predict(source, recipe, self._units(recipe))

    def network(self, recipe: Recipe, seed: int, trial: int | None = None) -> Network:
        """A recipe's network as it starts, or with a trial's trained weights."""
        task, source = self.task, self.sources[recipe.model]
        network = build(source, recipe, level=task.level, num_outputs=task.num_outputs, seed=seed)
        self._blocks[source.fingerprint] = network.num_blocks
        if trial is not None:
            network.load_trained_state(self.checkpoints.load(trial))
        return network

    def outputs(self, network: Network, recipe: Recipe, split: Split) -> list[np.ndarray]:
        """Outputs of a trained network on a split, in its order."""
        dtype = autocast_dtype(self.device, recipe.precision)
        return predict(network, self.task, split.examples, self.device, dtype=dtype)

    def features(self, recipe: Recipe, name: str, network: Network | None = None) -> prefix.Features:
        """The frozen outputs of a recipe's body on a split, computed once.

        Args:
            recipe: A probe; its model, pooling and preprocessing count.
            name: The split.
            network: One that was built for the recipe already, to save building another.
        """
        key = self._feature_key(recipe, name)
        if key not in self._features:
            network = network or self.network(recipe, seed=0)
            source = self.sources[recipe.model]
            examples = self.inputs.split(name, source, recipe).examples
            started = time.perf_counter()
            self._features[key] = prefix.compute(network, examples, self.device)
            if name == "train":
                # One forward pass over the training data: the first word on what deeper recipes will cost.
                share = self._units(recipe) / FORWARD
                self.cost.guess(source, (time.perf_counter() - started) / share)
        return self._features[key]

    def _start(self, order: Order) -> _Live:
        recipe, source = order.recipe, self.sources[order.recipe.model]
        network = self.network(recipe, order.seed)
        train = self.inputs.split("train", source, recipe)
        validation = self.inputs.split("validation", source, recipe)
        weights = self.task.class_weights(train.targets) if recipe.class_weights == "balanced" else None
        cached = self._cacheable(recipe, network, train, validation)
        training = Training(
            network,
            recipe,
            self.task,
            self.features(recipe, "train", network) if cached else train.examples,
            self.features(recipe, "validation", network) if cached else validation.examples,
            validation.targets,
            seed=order.seed,
            device=self.device,
            class_weights=weights,
        )
        return _Live(order, training, None if cached else self._units(recipe))

    def _observe(self, live: _Live, seconds: float) -> None:
        """Teaches the cost model; an epoch on cached features says nothing of the model's speed."""
        if live.units is not None:
            recipe = live.order.recipe
            self.cost.observe(self.sources[recipe.model], recipe, live.units, seconds)

    def _units(self, recipe: Recipe) -> float:
        source = self.sources[recipe.model]
        native = getattr(self.inputs.processor(source), "image_size", None)
        return relative_cost(recipe, self._blocks[source.fingerprint], native)

    def _feature_key(self, recipe: Recipe, name: str) -> tuple[object, ...]:
        return (name, *Inputs.key(self.sources[recipe.model], recipe), recipe.pooling, recipe.init)

    def _cacheable(self, recipe: Recipe, network: Network, *splits: Split) -> bool:
        """Whether every epoch would compute the same features, and they fit in memory."""
        if not may_be_cached(recipe):
            return False
        rows = sum(
            int(split.examples.lengths.sum()) if self.task.level == "token" else len(split.examples)
            for split in splits
        )
        return rows * network.width * 4 <= CACHE_BYTES

    def _salvage(self, live: _Live) -> dict[str, float] | None:
        """Evaluates a training halted before its first epoch ended, so that what was trained is of use."""
        try:
            metrics = live.training.evaluate()
        except Diverged:
            return None
        live.improve(self.task.score(metrics), metrics)
        return metrics


def may_be_cached(recipe: Recipe) -> bool:
    """Whether the body's outputs are the same in every epoch, and in other trials."""
    return recipe.adaptation == "probe" and recipe.augmentation == "none" and recipe.init == "pretrained"


def explain(error: BaseException) -> str:
    """A failed trial's reason in one line."""
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in text:
        return f"out of memory: {text[:200]}"
    if isinstance(error, LuthierError):
        return text
    return f"{type(error).__name__}: {text[:300]}"
