"""`Engine`: runs orders and streams a report an epoch.

What it shares between trials shows in the clock, never in the numbers.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from luthier.engine import prefix, warm
from luthier.engine.allocator import keep_memory
from luthier.engine.cache import FeatureCache, default_folder
from luthier.engine.checkpoint import Checkpoints
from luthier.engine.cost import Cost, CostModel
from luthier.engine.forecast import Forecast
from luthier.engine.forward import predict
from luthier.engine.group import Group, explain
from luthier.engine.inputs import Inputs, Split
from luthier.engine.kept import KeptOutputs, pack
from luthier.engine.lesson import Lesson
from luthier.engine.plan import even, plan, structure
from luthier.engine.precision import Auto, autocast_dtype, choose_device, measured
from luthier.engine.setting import Setting, Stack
from luthier.engine.sharing import Sharing, shares
from luthier.engine.sizing import Sizing
from luthier.engine.state import Halted, TrialState
from luthier.engine.train import never
from luthier.engine.watchdog import Watchdog
from luthier.errors import RunError
from luthier.models.network import Network, build
from luthier.models.source import Source
from luthier.recipe import Recipe
from luthier.trial import Order, Report, Status

NONE: Mapping[int, Lesson] = MappingProxyType({})


class Engine:
    """Trains recipes on one dataset.

    Args:
        inputs: The encoded training and validation splits.
        sources: Models by the name that recipes use.
        checkpoints: Where the best weights of each trial go, and the states of paused ones.
        device: ``auto``, ``cpu``, ``cuda``, ``mps`` or a torch device string.
        store: Keeps the frozen outputs of models; by default in memory and in the user's cache folder.
        dtype: Of kept states: ``float16``, ``bfloat16`` or ``float32``.
        auto: What the precision ``auto`` stands for; None to measure it here. Trainings are the same again
            only where this is.
        arithmetic: Type to train in; float64 is there for proofs.
        stack: Largest number of trials in a stack, or None for as many as pay and fit.
        kept: Where the validation outputs of each trial's best epoch go, or None to keep none.
        note: Told what a person should know.

    Raises:
        SettingError: The device is not there.
    """

    def __init__(
        self, inputs: Inputs, sources: dict[str, Source], checkpoints: Checkpoints, device: str = "auto", *,
        store: FeatureCache | None = None, dtype: str = "float16", auto: Auto | None = None,
        arithmetic: torch.dtype = torch.float32, stack: int | None = None, kept: KeptOutputs | None = None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:  # fmt: skip
        self.inputs = inputs
        self.task = inputs.task
        self.sources = sources
        self.checkpoints = checkpoints
        self.device = choose_device(device)
        if self.device.type == "cpu":
            keep_memory()
        self.auto = measured(self.device) if auto is None else auto
        self.arithmetic = arithmetic
        self.kept = kept
        self.forecast = Forecast(inputs, sources, self.device)
        self.watchdog = Watchdog()
        store = FeatureCache(default_folder()) if store is None else store
        self._note, self._said = note, set[str]()
        self.sharing = Sharing(
            inputs, store, self.device, dtype, self._autocast, self.forecast.passed, self._say
        )
        self.sizing = Sizing(self.device, self.forecast.model, stack)
        self._reached: dict[int, int] = {}
        self._inherited: dict[int, dict[str, torch.Tensor]] = {}
        self._probed: dict[tuple[Any, ...], dict[str, torch.Tensor]] = {}

    @property
    def cost(self) -> CostModel:
        """What is known of the models' speed."""
        return self.forecast.model

    @property
    def room(self) -> int:
        """Orders that are worth giving at once: with more, no stack grows."""
        return self.sizing.room

    def gains_by_company(self, recipe: Recipe) -> bool:
        """Whether trials like this one cost less with others beside them than one after the other."""
        return self.sizing.gains_by_company(recipe)

    def run(
        self,
        orders: Sequence[Order],
        *,
        halt: Callable[[], str | None] = never,
        on_step: Callable[[float], None] | None = None,
        lessons: Mapping[int, Lesson] = NONE,
    ) -> Iterator[Report]:
        """Carries out orders; each is closed by one report that is not ``running``.

        Orders that can share work are trained together, and their reports come interleaved. The weights of a
        trial's best epoch are on disk before its closing report is given. A trial that diverges, hangs,
        runs out of memory or raises is a result with a reason. One that is halted before its first epoch
        ended is evaluated as it stands, so that whatever was trained is of use.

        Args:
            orders: Of new trials, or of ones that were left at an earlier epoch.
            halt: Asked before each step; a reason stops the trials in training, and those that would follow.
            on_step: Told the share that is done of what is in training.
            lessons: What trials learn from, by number, of those that do not learn from the training rows as
                they are; given again where a trial goes on.

        Raises:
            RunError: What no other trial would survive either, such as a full disk.
        """
        for order in orders:
            # Before any of them goes on: a parent may be among them.
            if order.parent is not None and order.trial not in self._inherited:
                self.inherit(order.trial, order.parent)
        groups = plan(orders, self._epoch)
        for index, group in enumerate(groups):
            reason = halt() if index else None
            if reason is None:
                yield from self._run(group, self._depths(orders), halt, on_step, lessons)
            else:
                yield from self._never_begun(group, "stopped", reason)

    def _run(
        self, orders: list[Order], also: dict[str, set[int]], halt: Callable[[], str | None],
        on_step: Callable[[float], None] | None, lessons: Mapping[int, Lesson],
    ) -> Iterator[Report]:  # fmt: skip
        """Orders of one structure, in as many stacks as it takes."""
        clock = time.perf_counter()
        recipe = orders[0].recipe
        try:
            recipes, own = [order.recipe for order in orders], _of(orders, lessons)
            setting = self._setting(recipes, also[recipe.model], halt, own)
            ahead = sum(order.until - self._epoch(order.trial) for order in orders)
            size = self.sizing.of(setting, orders, ahead)
        except RunError:
            raise
        except Exception as error:  # Whatever happened to these trials, the others go on.
            halted = isinstance(error, Halted)
            reason = str(error) if halted else explain(error)
            yield from self._never_begun(orders, "stopped" if halted else "failed", reason, clock)
            return
        for index, part in enumerate(even(orders, size)):
            if index and (reason := halt() or ""):
                yield from self._never_begun(part, "stopped", reason)
                continue
            observe = partial(self.forecast.observe, setting)
            failed = partial(self.sizing.memory.failed, structure(recipe))
            group = Group(
                setting, self.checkpoints, self.kept, self._reached, observe, failed, self._say, halt,
                on_step, clock,
            )  # fmt: skip
            yield from group.run(part)
            clock = time.perf_counter()

    def _never_begun(
        self, orders: Sequence[Order], status: Status, reason: str, clock: float | None = None
    ) -> Iterator[Report]:
        seconds = 0.0 if clock is None else (time.perf_counter() - clock) / len(orders)
        for order in orders:
            yield Report(order.trial, self._epoch(order.trial), status, seconds=seconds, reason=reason)

    def begin(
        self, orders: Sequence[Order], *, halt: Callable[[], str | None] = never,
        lessons: Mapping[int, Lesson] = NONE,
    ) -> tuple[Setting, Stack]:  # fmt: skip
        """A training of trials of one structure for a caller that takes it forward, to look at their weights
        or outputs on the way.

        Nothing is reported of it nor kept; weights are to go through `Setting.whole` before they are.

        Raises:
            Halted: ``halt`` gave a reason while frozen outputs were computed.
            ModelError: The architecture has not what the recipe asks for.
        """
        recipes = [order.recipe for order in orders]
        also = self._depths(orders)[recipes[0].model]
        setting = self._setting(recipes, also, halt, _of(orders, lessons))
        return setting, setting.stack([setting.live(order) for order in orders])

    def know(self, other: Engine) -> None:
        """Takes over what another measured of the same models on this machine."""
        self.forecast.know(other.forecast)
        self.sizing = other.sizing

    def holds(self, trial: int, epoch: int) -> bool:
        """Whether a trial was left at this epoch and can go on from there."""
        state = self.checkpoints.peek(trial)
        return state is not None and state.epoch == epoch

    def inherit(self, trial: int, parent: int) -> None:
        """Lets a trial start from the weights of another that was left, as they are now.

        Where the other is not at hand the trial will fail.
        """
        state = self.checkpoints.peek(parent)
        if state is not None:
            self._inherited[trial] = {name: value.clone() for name, value in state.weights.items()}

    def start_from(self, trial: int, weights: dict[str, torch.Tensor]) -> None:
        """Lets a trial start from weights as checkpoints have them, of the same model and adaptation."""
        self._inherited[trial] = {name: value.clone() for name, value in weights.items()}

    def retrace(
        self, order: Order, *, halt: Callable[[], str | None] = never,
        on_step: Callable[[float], None] | None = None,
    ) -> None:  # fmt: skip
        """Trains a trial again to where it stood, for others to start from; what is kept of it stays.

        Args:
            order: Of the trial, which is not held.
            halt: As for `run`.
            on_step: As for `run`.
        """
        weights = self.checkpoints.load(order.trial) if self.checkpoints.has(order.trial) else None
        outputs = None if self.kept is None else self.kept.load(order.trial)
        for _ in self.run([order], halt=halt, on_step=on_step):
            pass
        # It may have been at its best in a later epoch than the one that it is trained to now.
        if weights is not None:
            self.checkpoints.save(order.trial, weights)
        if self.kept is not None and outputs is not None:
            self.kept.save(order.trial, pack(outputs))

    def recall(self, reached: dict[int, int]) -> None:
        """Takes note of trials that an earlier process left.

        Their weights of then are gone: one that goes on is trained again from its start, by which it comes to
        stand where it did, and reported from there.

        Args:
            reached: Trial to the last epoch that was reported of it.
        """
        self._reached.update(reached)

    def predict_cost(self, recipe: Recipe, size: int = 1) -> Cost | None:
        """What a recipe will cost, or None before its model was seen.

        Args:
            recipe: What would be trained.
            size: Trials in its stack; the cost is that of one of them.
        """
        if not self.forecast.knows(recipe):
            return None
        depth = self.forecast.depth(recipe)
        source = self.sources[recipe.model]
        cached = shares(recipe) and self.sharing.known(source, recipe, "train", depth)
        return self.forecast.predict(recipe, depth, cached=cached, size=size)

    def predict_costs(self, recipes: Sequence[Recipe]) -> list[Cost | None]:
        """What recipes will cost that are trained together; as for `predict_cost`.

        A frozen part that several of them share counts for the first, and each is taken to be in a stack with
        those of its structure.
        """
        sizes = Counter(structure(recipe) for recipe in recipes)
        filled: set[str] = set()
        found = []
        for recipe in recipes:
            cost = self.predict_cost(recipe, min(sizes[structure(recipe)], self.room))
            if cost is not None and shares(recipe):
                source = self.sources[recipe.model]
                part = self.sharing.key(source, recipe, "train", self.forecast.depth(recipe))
                cost = Cost(0.0, cost.each) if part in filled else cost
                filled.add(part)
            found.append(cost)
        return found

    def epoch_seconds(self, recipe: Recipe) -> float | None:
        """Seconds of an epoch if nothing is cached: for a probe, one forward pass over all rows."""
        cost = self.predict_cost(recipe)
        return None if cost is None else cost.total(1)

    def network(self, recipe: Recipe, seed: int, trial: int | None = None) -> Network:
        """A recipe's network as it starts, or with a trial's trained weights."""
        task, source = self.task, self.sources[recipe.model]
        network = build(source, recipe, level=task.level, num_outputs=task.num_outputs, seed=seed)
        self.forecast.meet(network, recipe)
        if trial is not None:
            network.load_trained_state(self.checkpoints.load(trial))
        return network

    def outputs(self, network: Network, recipe: Recipe, split: Split) -> list[np.ndarray]:
        """Outputs of a trained network on a split, in its order."""
        dtype = self._autocast(recipe)
        return predict(network, self.task, split.examples, self.device, dtype=dtype)[0]

    def features(self, recipe: Recipe, name: str, network: Network | None = None) -> prefix.Features:
        """The frozen outputs of a recipe's whole body on a split, computed once.

        Args:
            recipe: A probe; its model, pooling and preprocessing count.
            name: The split.
            network: One that was built for the recipe already, to save building another.
        """
        network = network or self.network(recipe, seed=0)
        return self.sharing.features(network, self.sources[recipe.model], recipe, name, 0)

    def _setting(
        self, recipes: list[Recipe], also: set[int], halt: Callable[[], str | None],
        lessons: Mapping[int, Lesson] = NONE,
    ) -> Setting:  # fmt: skip
        source = self.sources[recipes[0].model]
        setting = Setting(
            self.inputs, source, recipes, self.sharing, device=self.device, dtype=self._autocast(recipes[0]),
            watchdog=self.watchdog, also=also, halt=halt, arithmetic=self.arithmetic,
            meet=self.forecast.meet, resume=self._resume,
            head=lambda recipe: self._head(recipes, recipe, halt), lessons=lessons,
        )  # fmt: skip
        cost = self.forecast.predict(setting.recipe, setting.depth, cached=True)
        if cost is not None:
            setting.step_seconds = cost.each * setting.recipe.batch_size / max(1, len(setting.train))
        return setting

    def _head(
        self, recipes: list[Recipe], recipe: Recipe, halt: Callable[[], str | None]
    ) -> dict[str, torch.Tensor]:
        """The trained head that some of these recipes, of one structure, start with; see `warm`."""
        if not warm.wanted(recipes):
            return {}
        source = self.sources[recipe.model]
        key = (*Inputs.key(source, recipe), recipe.head, recipe.pooling)
        if key not in self._probed:
            probes = [warm.probe_recipe(recipe, rate) for rate in warm.RATES]
            self._probed[key] = warm.trained(self._setting(probes, set(), halt), halt)
        return self._probed[key]

    def _resume(self, trial: int) -> TrialState | None:
        """A trial where it was left, or at its start with another's weights; None for the usual start."""
        inherited = self._inherited.pop(trial, None)
        state = self.checkpoints.resume(trial)
        return TrialState(inherited) if state is None and inherited is not None else state

    def _autocast(self, recipe: Recipe) -> torch.dtype | None:
        """The type that a recipe's passes run in where that is faster; None for float32."""
        if self.arithmetic != torch.float32:
            return None
        return autocast_dtype(self.device, recipe.precision, self.auto)

    def _depths(self, orders: Sequence[Order]) -> dict[str, set[int]]:
        """For each model the depths whose frozen outputs the orders will want, to be filled by one pass."""
        found: dict[str, set[int]] = {order.recipe.model: set() for order in orders}
        for order in orders:
            if shares(order.recipe):
                # Depths are counted from the top, and so are known without knowing the model.
                found[order.recipe.model].add(
                    order.recipe.last_k if order.recipe.adaptation == "last_k" else 0
                )
        return found

    def _epoch(self, trial: int) -> int:
        """Epochs that a trial has behind it."""
        return self._reached.get(trial, 0)

    def _say(self, text: str) -> None:
        """Says something once."""
        if text not in self._said:
            self._said.add(text)
            self._note(text)


def _of(orders: Sequence[Order], lessons: Mapping[int, Lesson]) -> dict[int, Lesson]:
    return {order.trial: lessons[order.trial] for order in orders if order.trial in lessons}
