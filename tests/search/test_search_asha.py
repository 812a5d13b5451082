"""Asynchronous halving against one that sorts everything anew for each decision."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.search.asha import Asha, Rung
from luthier.search.hyperband import Hyperband
from luthier.search.ladder import Ladder
from luthier.search.source import Source
from luthier.search.workers import Workers, reports
from luthier.space import Space
from luthier.trial import Report

RATE = {"low": 1e-6, "high": 1e-1, "log": True}
LENGTHS = {"low": 2, "high": 40, "prior": 12}
SPACE = Space.from_dict({"model": "m", "learning_rate": RATE, "epochs": 27})
MIXED = Space.from_dict({"model": "m", "learning_rate": RATE, "epochs": LENGTHS})


class Reference:
    """Li et al. 2020, algorithm 2, word by word: ``job`` gives a trial and the rung it goes to."""

    def __init__(self, ladder: Ladder, free) -> None:
        self.ladder, self.free = ladder, free
        self.rungs: list[dict[int, float]] = [{} for _ in range(ladder.top + 1)]
        self.promoted: list[set[int]] = [set() for _ in range(ladder.top + 1)]
        self.new = 0

    def promotable(self, rung: int) -> list[int]:
        scores = self.rungs[rung]
        ranked = sorted(scores, key=lambda trial: (-scores[trial], trial))[: len(scores) // self.ladder.eta]
        return [one for one in ranked if one not in self.promoted[rung] and scores[one] > -math.inf]

    def job(self) -> tuple[int, int]:
        for rung in reversed(range(self.ladder.top)):
            for trial in self.promotable(rung):
                self.promoted[rung].add(trial)
                return trial, rung + 1
        self.new += 1
        return self.new - 1, 0

    def arrive(self, trial: int, rung: int, score: float) -> None:
        self.rungs[rung][trial] = score
        while any(self.skip(at) for at in range(self.ladder.top)):
            pass

    def skip(self, rung: int) -> bool:
        """Promotes one that needs no training for the next rung."""
        for trial in self.promotable(rung):
            if self.free(trial, rung):
                self.promoted[rung].add(trial)
                self.rungs[rung + 1][trial] = self.rungs[rung][trial]
                return True
        return False


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    space=st.sampled_from([SPACE, MIXED]),
    workers=st.integers(1, 30),
    levels=st.sampled_from([3, 20, 10**6]),
    wrong=st.sampled_from([0.0, 0.3]),
)
def test_every_decision_is_the_references(seed, space, workers, levels, wrong) -> None:
    rng = random.Random(seed)
    ladder = Ladder(space.default().epochs)
    asha = Asha(ladder, Source(space, 0))
    recipes, best, ended = {}, {}, set()

    def free(trial: int, rung: int) -> bool:
        epochs = recipes[trial].epochs
        return trial in ended or ladder.until(epochs, rung) == ladder.until(epochs, rung + 1)

    reference, out = Reference(ladder, free), {}
    for _ in range(300):
        if len(out) < workers:
            (turn,) = asha.ask(1)
            trial, rung = reference.job()
            assert (turn.trial, turn.until) == (trial, ladder.until(turn.recipe.epochs, rung))
            recipes[trial] = turn.recipe
            out[trial] = rung, turn.until
        if len(out) == workers or rng.random() < 0.5:
            trial = rng.choice(sorted(out))
            rung, until = out.pop(trial)
            score = rng.randrange(levels) / levels
            kind = rng.choice(["failed", "NaN", "patience"]) if rng.random() < wrong else ""
            if kind == "failed":
                asha.tell(Report(trial, 1, "failed"))
            elif kind == "NaN":
                asha.tell(Report(trial, until, "completed", math.nan))
            else:
                asha.tell(Report(trial, until, "completed", score, reason=kind))
            best[trial] = max(best.get(trial, 0.0), score)
            if kind == "patience":
                ended.add(trial)
            reference.arrive(trial, rung, -math.inf if kind in {"failed", "NaN"} else best[trial])


@given(st.lists(st.integers(-3, 3), max_size=60), st.integers(2, 4))
def test_a_rungs_upper_part_is_always_its_best_share(scores, eta) -> None:
    rung, promoted = Rung(Ladder(27, eta)), []
    for trial, score in enumerate(scores):
        rung.add(trial, score)
        ranked = sorted(range(trial + 1), key=lambda one: (-scores[one], one))[: (trial + 1) // eta]
        left = [one for one in ranked if one not in promoted]
        assert rung.promotable() == (left[0] if left else None)
        if left and trial % 2:
            rung.promote(left[0])
            promoted.append(left[0])


def test_it_promotes_as_soon_as_a_third_is_there() -> None:
    strategy = Hyperband(SPACE, 0, "asha")
    orders = strategy.ask(3)
    for order, score in zip(orders, (0.1, 0.3, 0.2), strict=True):
        strategy.tell(Report(order.trial, order.until, "completed", score))
    assert [(order.trial, order.until) for order in strategy.ask(2)] == [(1, 3), (3, 2)]


def test_restored_it_still_knows_whom_it_has_promoted() -> None:
    strategy = Hyperband(SPACE, 0, "asha")
    orders = strategy.ask(9)
    for order in orders:
        strategy.tell(Report(order.trial, order.until, "completed", order.trial / 10))
    assert [order.trial for order in strategy.ask(2)] == [8, 7]
    again = Hyperband(SPACE, 0, "asha")
    again.restore(json.loads(json.dumps(strategy.state())))
    assert [order.trial for order in again.ask(2)] == [6, 9]
    again.tell(Report(6, 3, "completed", 0.1))
    assert again.state()["schedule"]["rungs"][1] == {"trials": [6], "scores": [0.6]}


@pytest.mark.parametrize(("batches", "trials"), [([8], 1), ([8, 16], 2), ([8, 16, 32, 64], 4)])
def test_where_the_space_ends_the_best_is_taken_to_its_end(batches, trials) -> None:
    space = Space.from_dict({"model": "m", "batch_size": batches, "epochs": 27})
    fate = lambda order, begun: reports(order, begun, lambda order, epoch: order.trial + epoch / 100)  # noqa: E731
    workers = Workers(Hyperband(space, 0, "asha"), 3, fate).run(100)
    assert workers.strategy.finished and len(workers.recipes) == trials
    assert workers.reached(trials - 1) == 27


def test_where_the_space_ends_without_any_score_nothing_is_continued() -> None:
    space = Space.from_dict({"model": "m", "batch_size": [8, 16], "epochs": 27})
    strategy = Hyperband(space, 0, "asha")
    for order in strategy.ask(2):
        strategy.tell(Report(order.trial, order.until, "completed", math.nan))
    assert strategy.finished and strategy.ask(1) == []


def test_the_heaps_do_not_grow_with_what_has_left_them() -> None:
    rung = Rung(Ladder(27))
    for trial in range(5000):
        rung.add(trial, float(trial))
        if (one := rung.promotable()) is not None:
            rung.promote(one)
    assert len(rung._candidates) <= 2 * len(rung.scores)
    assert len(rung._upper) + len(rung._lower) == len(rung.scores) == 5000
