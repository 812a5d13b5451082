"""The simulated engine of the benchmarks: its clock, how runs end, and regret."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from luthier.recipe import Recipe
from luthier.search.base import Order
from luthier.search.past import PastStudy
from luthier.search.random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import pool

STUDY = PastStudy(
    "quicktune:D",
    [Recipe(model=name, epochs=4) for name in "abc"],
    [[0.1, 0.5, 0.4, 0.6], [0.3], [0.2, 0.8]],
    [[1.0] * 4, [2.0], [3.0, 3.0]],
)
POOL = pool.Pool(STUDY)


class Scripted(Random):
    """Gives orders as written: (trial, recipe's place in the pool, until)."""

    def __init__(self, script) -> None:
        super().__init__(POOL.space(0))
        self.script, self.told = list(script), []

    def ask(self, room):
        trial, at, until = self.script.pop(0)
        return [Order(trial, STUDY.recipes[at], until)]

    def tell(self, report):
        self.told.append((report.trial, report.epoch, report.status, report.score))

    @property
    def finished(self):
        return not self.script


def test_a_trial_taken_further_pays_for_its_further_epochs_only() -> None:
    strategy = Scripted([(0, 0, 2), (1, 2, 1), (0, 0, 4)])
    trace = pool.simulate(strategy, POOL, 100.0)
    assert trace.seconds == [1, 2, 5, 6, 7] and trace.scores == [0.1, 0.5, 0.2, 0.4, 0.6]
    assert trace.trials == [0, 0, 1, 0, 0] and trace.epochs == [1, 2, 1, 3, 4]
    assert strategy.told[2] == (0, 2, "completed", 0.5) and strategy.told[-1] == (0, 4, "completed", 0.6)


def test_a_run_that_ended_is_stopped_with_its_best_score() -> None:
    strategy = Scripted([(0, 1, 4), (0, 1, 4), (1, 2, 1)])
    trace = pool.simulate(strategy, POOL, 100.0)
    assert strategy.told[:3] == [(0, 1, "running", 0.3), (0, 1, "stopped", 0.3), (0, 1, "stopped", 0.3)]
    assert trace.seconds == [2, 5]


def test_the_epoch_that_crosses_the_limit_is_cut_off() -> None:
    trace = pool.simulate(Scripted([(0, 0, 4), (1, 1, 1)]), POOL, 2.5)
    assert trace.seconds == [1, 2]


def test_a_strategy_in_a_circle_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(pool, "_IDLE", 10)
    with pytest.raises(RuntimeError, match="costs nothing"):
        pool.simulate(Scripted([(0, 1, 4)] * 50), POOL, 100.0)


def test_regret_runs_from_the_worst_run_to_the_best() -> None:
    assert (POOL.best, POOL.worst, POOL.cost) == (0.8, 0.3, 4.0)
    trace = pool.Trace([2.0, 4.0, 8.0], [0.2, 0.55, 0.8], [0, 1, 2], [1, 1, 1])
    found = pool.regret(trace, POOL, (0.25, 0.5, 1.0, 2.0))
    assert found == pytest.approx([1.0, 1.0, 0.5, 0.0])
    assert pool.regret(pool.Trace([], [], [], []), POOL, (1.0,)) == [1.0]


def test_the_order_of_a_pool_is_its_seeds() -> None:
    orders = {POOL.space(seed).recipes for seed in range(20)}
    assert POOL.space(3).recipes == POOL.space(3).recipes and len(orders) == 6
    assert np.array_equal(POOL.space(1).features, np.zeros((3, 0)))
