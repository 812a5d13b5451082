"""The loop itself, with an engine that answers at once: what it asks, tells, keeps and gives up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from luthier.engine.cost import Cost
from luthier.errors import RunError
from luthier.recipe import Recipe
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
    """Scores a recipe by its rate; an epoch takes a second of a made clock."""

    def __init__(self, clock: list[float], fails: Callable[[int], bool] = lambda trial: False) -> None:
        self.clock = clock
        self.fails = fails
        self.trained: list[Order] = []
        self.kept: set[int] = set()
        self.task = SimpleNamespace(metric="accuracy")
        self.checkpoints = SimpleNamespace(keep=self.keep)

    def keep(self, trials: set[int]) -> None:
        self.kept = trials

    def predict_cost(self, recipe: Recipe) -> Cost:
        return Cost(0.0, 1.0)

    def run(
        self, orders: list[Order], *, halt: Callable[[], str | None], on_step: Callable[[float], None]
    ) -> Iterator[Report]:
        for order in orders:
            self.trained.append(order)
            if self.fails(order.trial):
                yield Report(order.trial, 0, "failed", reason="made to fail")
                continue
            score = -math.log10(order.recipe.learning_rate)
            for epoch in range(1, order.until + 1):
                if reason := halt():
                    yield Report(
                        order.trial, epoch - 1, "stopped", score if epoch > 1 else math.nan, reason=reason
                    )
                    break
                self.clock[0] += 1
                yield Report(order.trial, epoch, "running", score, {"loss": 1.0}, 1.0)
            else:
                yield Report(order.trial, order.until, "completed", score, {"loss": 1.0}, best_epoch=1)


class Quiet:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: None


def make(folder: Path, engine: Engine, run: str | None = None, **options: Any) -> Study:
    store = Store(folder / "study.sqlite")
    run = run or store.create_run(name="x")
    budget = Budget(options.pop("budget", 1e6), clock=lambda: engine.clock[0])
    return Study(store, run, Random(SPACE, 0), engine, budget, Quiet(), seed=1, **options)  # type: ignore[arg-type]


def nothing_held_back(best: object) -> float:
    return 0.0


def test_it_ends_after_so_many_trials_and_keeps_the_best(tmp_path: Path) -> None:
    engine = Engine([0.0])
    study = make(tmp_path, engine, trials=6, keep=2)
    study.run(nothing_held_back)
    scores = {order.trial: -math.log10(order.recipe.learning_rate) for order in engine.trained}
    assert list(scores) == list(range(6))
    ranked = sorted(scores, key=lambda trial: -scores[trial])
    assert study.best is not None and study.best.trial == ranked[0]
    assert engine.kept == set(ranked[:2])
    assert len({order.seed for order in engine.trained}) == 6


def test_the_budget_is_kept_and_epochs_are_made_to_fit(tmp_path: Path) -> None:
    engine = Engine([0.0])
    study = make(tmp_path, engine, budget=12.0)
    study.run(lambda best: 4.0)
    assert engine.clock[0] == 8.0
    assert [order.recipe.epochs for order in engine.trained] == [3, 3, 2]


def test_first_recipes_go_first_and_the_strategy_is_not_told(tmp_path: Path) -> None:
    engine = Engine([0.0])
    probe = Recipe(model="m", adaptation="probe", epochs=2)
    study = make(tmp_path, engine, trials=3, first=[probe])
    told: list[int] = []
    study.strategy.tell = lambda report: told.append(report.trial)  # type: ignore[method-assign]
    study.run(nothing_held_back)
    assert [order.trial for order in engine.trained] == [0, 1, 2]
    assert engine.trained[0].recipe == probe
    assert engine.trained[1].recipe == SPACE.default()
    assert set(told) == {0, 1}


def test_failures_are_results(tmp_path: Path) -> None:
    engine = Engine([0.0], fails=lambda trial: trial % 2 == 1)
    study = make(tmp_path, engine, trials=4)
    study.run(nothing_held_back)
    table = study.store.trials(study.run_id)
    assert list(table["status"]) == ["completed", "failed", "completed", "failed"]
    assert table["reason"][1] == "made to fail"


def test_when_nothing_works_it_gives_up_and_says_why(tmp_path: Path) -> None:
    study = make(tmp_path, Engine([0.0], fails=lambda trial: True), trials=100)
    with pytest.raises(RunError, match=r"first 3 trials all failed.*made to fail"):
        study.run(nothing_held_back)


def test_it_stops_when_asked(tmp_path: Path) -> None:
    engine = Engine([0.0])
    study = make(tmp_path, engine, interrupted=lambda: "you did" if engine.clock[0] >= 4 else None)
    study.run(nothing_held_back)
    table = study.store.trials(study.run_id)
    assert list(table["status"]) == ["completed", "stopped"]
    assert table["reason"][1] == "you did"


class Killed(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("step", range(1, 12))
def test_after_a_kill_the_trials_are_those_of_an_undisturbed_run(tmp_path: Path, step: int) -> None:
    calm = make(tmp_path / "calm", Engine([0.0]), trials=4, first=[Recipe(model="m", epochs=1)])
    calm.run(nothing_held_back)

    class Dying(Engine):
        def run(self, *args: Any, **also: Any) -> Iterator[Report]:
            for report in super().run(*args, **also):
                self.steps = getattr(self, "steps", 0) + 1
                if self.steps == step:
                    raise Killed
                yield report

    first = make(tmp_path / "killed", Dying([0.0]), trials=4, first=[Recipe(model="m", epochs=1)])
    with pytest.raises(Killed):
        first.run(nothing_held_back)
    second = make(
        tmp_path / "killed", Engine([0.0]), run=first.run_id, trials=4, first=[Recipe(model="m", epochs=1)]
    )
    second.run(nothing_held_back)
    lasting = ["number", "status", "score", "epochs", "seed", "learning_rate", "best_epoch"]
    assert (
        calm.store.trials(calm.run_id)[lasting].to_dict()
        == second.store.trials(second.run_id)[lasting].to_dict()
    )
    assert calm.best is not None and second.best is not None
    assert calm.best.trial == second.best.trial


def test_a_trial_that_kills_the_process_is_given_up(tmp_path: Path) -> None:
    class Deadly(Engine):
        def run(self, orders: list[Order], **also: Any) -> Iterator[Report]:
            if orders[0].trial == 1:
                raise Killed
            yield from super().run(orders, **also)

    study = make(tmp_path, Deadly([0.0]), trials=3)
    for _ in range(4):
        with pytest.raises(Killed):
            study.run(nothing_held_back)
        study = make(tmp_path, Deadly([0.0]), run=study.run_id, trials=3)
    study.run(nothing_held_back)
    table = study.store.trials(study.run_id)
    assert list(table["status"]) == ["completed", "failed", "completed"]
    assert "died 4 times" in table["reason"][1]
