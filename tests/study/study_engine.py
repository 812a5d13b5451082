"""A study with an engine that answers at once by a made clock, and a strategy that hears everything."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from luthier.engine.cost import Cost
from luthier.recipe import Recipe
from luthier.search.base import Strategy
from luthier.search.random import Random
from luthier.space import Space
from luthier.study.budget import Budget
from luthier.study.store import Store
from luthier.study.study import Study
from luthier.trial import Order, Report

SPACE = Space.from_dict(
    {"model": "m", "learning_rate": {"low": 1e-5, "high": 1e-3, "log": True}, "epochs": 3}
)


class Engine:
    """Scores a recipe by its rate; an epoch of a trial takes a second of a made clock.

    A trial that was left goes on from there; one that another process left is trained again from its start.

    Orders given together train in stacks, in which trials take turns, an epoch each. Once halted, it ends the
    trials of a stack with what they have, and begins no further stack.
    """

    learns = False
    """Whether a score depends on all epochs before it, also those of parents."""

    def __init__(
        self, clock: list[float], fails: Callable[[int], bool] = lambda trial: False, stack: int = 3
    ) -> None:
        self.clock = clock
        self.fails = fails
        self.stack = stack
        self.calls: list[list[int]] = []
        self.trained: list[Order] = []
        self.kept = None
        self.keeping: set[int] = set()
        # Trials whose weights are on disk.
        self.weights: set[int] = set()
        self.left: dict[int, int] = {}
        self.reached: dict[int, int] = {}
        # What a trial has learnt, and what it has learnt it from.
        self.value: dict[int, float] = {}
        self.inherited: dict[int, float] = {}
        self.live: list[Order] = []
        self.task = SimpleNamespace(metric="accuracy", maximize=True)
        self.inputs = SimpleNamespace(targets=lambda name: [])
        self.checkpoints = SimpleNamespace(
            keep=self.keep,
            forget=lambda trial: self.left.pop(trial, None),
            has=lambda trial: trial in self.weights,
        )

    def keep(self, trials: set[int]) -> None:
        self.keeping = trials
        self.weights &= trials
        assert {order.trial for order in self.live} <= trials

    def gains_by_company(self, recipe: Recipe) -> bool:
        return True

    def retrace(self, order: Order, **also: Any) -> None:
        for _ in self.run([order], **also):
            pass

    def holds(self, trial: int, epoch: int) -> bool:
        return self.left.get(trial) == epoch

    def inherit(self, trial: int, parent: int) -> None:
        self.inherited[trial] = self.value[parent]

    def recall(self, reached: dict[int, int]) -> None:
        self.reached = dict(reached)

    def predict_costs(self, recipes: Sequence[Recipe]) -> list[Cost | None]:
        return [Cost(0.0, 1.0) for _ in recipes]

    def run(
        self, orders: list[Order], *, halt: Callable[[], str | None], on_step: Callable[[float], None]
    ) -> Iterator[Report]:
        self.calls.append([order.trial for order in orders])
        for order in orders:
            if order.parent is not None and order.trial not in self.inherited:
                self.inherit(order.trial, order.parent)
        for start in range(0, len(orders), self.stack):
            stack = orders[start : start + self.stack]
            if start and (reason := halt()):
                for order in stack:
                    yield Report(order.trial, self.left.get(order.trial, 0), "stopped", reason=reason)
            else:
                yield from self._run(stack, halt)

    def _run(self, orders: list[Order], halt: Callable[[], str | None]) -> Iterator[Report]:
        self.trained += orders
        self.live = list(orders)
        for epoch in range(1, max(order.until for order in orders) + 1):
            for order in list(self.live):
                if epoch <= self.left.get(order.trial, 0):
                    continue
                for report in self._epoch(order, epoch, halt()):
                    if report.status != "running":
                        self.live.remove(order)
                    yield report

    def _epoch(self, order: Order, epoch: int, halted: str | None) -> Iterator[Report]:
        if epoch == 1:
            self.value[order.trial] = self.inherited.pop(order.trial, 0.0)
        self.value[order.trial] += -math.log10(order.recipe.learning_rate)
        score = self.value[order.trial] if self.learns else -math.log10(order.recipe.learning_rate)
        if self.fails(order.trial):
            yield Report(order.trial, 0, "failed", reason="made to fail")
            return
        if halted is None:
            self.clock[0] += 1
        elif epoch == 1:
            score = self.salvage(order)
        if (halted is None or epoch == 1) and epoch > self.reached.get(order.trial, 0):
            self.reached[order.trial] = epoch
            yield Report(order.trial, epoch, "running", score, {"loss": 1.0}, 1.0)
        if halted is not None:
            self.weights.add(order.trial)
            yield Report(
                order.trial, max(1, epoch - 1), "stopped", score, best_epoch=1, reason=halted, parameters=9
            )
        elif epoch == order.until:
            self.left[order.trial] = epoch
            self.weights.add(order.trial)
            yield Report(order.trial, order.until, "completed", score, {"loss": 1.0}, best_epoch=1)

    def salvage(self, order: Order) -> float:
        return 0.25


class Seeded(Engine):
    """What a trial scores depends on its seed, too."""

    def _epoch(self, order: Order, epoch: int, halted: str | None) -> Iterator[Report]:
        for report in super()._epoch(order, epoch, halted):
            yield replace(report, score=report.score + self.luck(order.seed))

    def luck(self, seed: int) -> float:
        return seed % 997 / 997


class Quiet:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: None


class Listening(Strategy):
    """Its next recipes follow from all that it was told, and from the order in which it was."""

    name = "listening"

    def __init__(self, space: Space, seed: int = 0) -> None:
        super().__init__(space, seed)
        self.trials = 0
        self.heard: list[list[Any]] = []

    def ask(self, room: int) -> list[Order]:
        rng = np.random.default_rng(zlib.crc32(json.dumps([self.trials, room, self.heard]).encode()))
        recipes = [Recipe(model="m", epochs=3, learning_rate=rate) for rate in rng.uniform(1e-5, 1e-3, room)]
        self.trials += room
        return [Order(self.trials - room + at, recipe, 3) for at, recipe in enumerate(recipes)]

    def tell(self, report: Report) -> None:
        self.heard.append([report.trial, report.epoch, report.status, report.score])

    @property
    def finished(self) -> bool:
        return False

    def state(self) -> dict[str, Any]:
        return {"trials": self.trials, "heard": [list(one) for one in self.heard]}

    def restore(self, state: dict[str, Any]) -> None:
        self.trials, self.heard = state["trials"], state["heard"]


class Killed(BaseException):
    """The process dies here."""


class Dying(Engine):
    """Takes the process down when it would give its report number ``step``."""

    def __init__(self, step: int) -> None:
        super().__init__([0.0])
        self.step = step

    def run(self, *args: Any, **also: Any) -> Iterator[Report]:
        for report in super().run(*args, **also):
            self.step -= 1
            if self.step == 0:
                raise Killed
            yield report


class Halving(Strategy):
    """Five trials for an epoch, the better two of them for another, the best for a third; and so on."""

    name = "halving"

    def __init__(self, space: Space, seed: int = 0) -> None:
        super().__init__(space, seed)
        self.trials = 0
        self.scores: dict[str, float] = {}
        self.rung: list[int] = []
        self.given = 0
        self.epoch = 0

    def ask(self, room: int) -> list[Order]:
        if self.epoch == 0 and not self.rung:
            self.rung = list(range(self.trials, self.trials + 5))
            self.trials, self.given = self.trials + 5, 0
        elif all(str(trial) in self.scores for trial in self.rung):
            ranked = sorted(self.rung, key=lambda trial: -self.scores[str(trial)])
            self.rung, self.epoch = ranked[: max(1, len(ranked) // 2)], self.epoch + 1
            if self.epoch == 3:
                self.rung, self.epoch = [], 0
                return self.ask(room)
            self.scores, self.given = {}, 0
        waiting = self.rung[self.given : self.given + room]
        self.given += len(waiting)
        return [Order(trial, self._recipe(trial), self.epoch + 1) for trial in waiting]

    def _recipe(self, trial: int) -> Recipe:
        rate = np.random.default_rng(trial).uniform(1e-5, 1e-3)
        return Recipe(model="m", epochs=3, learning_rate=float(rate))

    def tell(self, report: Report) -> None:
        if report.status != "running":
            self.scores[str(report.trial)] = report.score if math.isfinite(report.score) else -math.inf

    @property
    def finished(self) -> bool:
        return False

    def state(self) -> dict[str, Any]:
        return {
            "trials": self.trials, "scores": self.scores, "rung": self.rung, "epoch": self.epoch,
            "given": self.given,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.trials, self.epoch, self.given = state["trials"], state["epoch"], state["given"]
        self.scores, self.rung = dict(state["scores"]), list(state["rung"])


def make(folder: Path, engine: Engine, run: str | None = None, **options: Any) -> Study:
    store = Store(folder / "study.sqlite")
    run = run or store.create_run(name="x")
    budget = Budget(options.pop("budget", 1e6), clock=lambda: engine.clock[0])
    strategy = options.pop("strategy", Random)(SPACE, 0)
    listener = options.pop("listener", Quiet())
    return Study(store, run, strategy, engine, budget, listener, seed=1, **options)  # type: ignore[arg-type]


def nothing_held_back(best: object) -> float:
    return 0.0


LASTING = ["number", "status", "score", "epochs", "seed", "learning_rate", "best_epoch"]


def table(study: Study) -> dict[str, Any]:
    """What must not depend on whether the run was disturbed."""
    found: dict[str, Any] = study.store.trials(study.run_id)[LASTING].to_dict("list")
    return found


class Copying(Strategy):
    """Three trials side by side, an epoch at a time; then the worst gives way to a copy of the best."""

    name = "copying"

    def __init__(self, space: Space, seed: int = 0) -> None:
        super().__init__(space, seed)
        self.trials = 0
        self.live: list[int] = []
        self.epochs: dict[str, int] = {}
        self.scores: dict[str, float] = {}

    def ask(self, room: int) -> list[Order]:
        if not self.live:
            self.live, self.trials = [0, 1, 2], 3
            return [self._order(trial) for trial in self.live]
        ranked = sorted(self.live, key=lambda trial: -self.scores[str(trial)])
        if any(self.epochs[str(trial)] == 9 for trial in ranked[:2]):
            return []
        child, self.trials = self.trials, self.trials + 1
        self.live = [*ranked[:2], child]
        # The best goes on in the round in which it is copied.
        return [*(self._order(trial) for trial in ranked[:2]), replace(self._order(child), parent=ranked[0])]

    def _order(self, trial: int) -> Order:
        rate = np.random.default_rng(trial).uniform(1e-5, 1e-3)
        recipe = Recipe(model="m", epochs=9, learning_rate=float(rate))
        return Order(trial, recipe, self.epochs.get(str(trial), 0) + 1)

    def tell(self, report: Report) -> None:
        if report.status == "running":
            self.epochs[str(report.trial)] = report.epoch
            self.scores[str(report.trial)] = report.score
        elif report.status == "stopped":
            self.live.remove(report.trial)

    @property
    def finished(self) -> bool:
        return False

    def state(self) -> dict[str, Any]:
        return {"trials": self.trials, "live": self.live, "epochs": self.epochs, "scores": self.scores}

    def restore(self, state: dict[str, Any]) -> None:
        self.trials, self.live = state["trials"], list(state["live"])
        self.epochs, self.scores = dict(state["epochs"]), dict(state["scores"])
