"""Differential evolution with Hyperband."""

from __future__ import annotations

import math

import numpy as np
import pytest

from luthier.search.base import Report
from luthier.search.dehb import Dehb
from luthier.search.random import Random
from luthier.space import Space

NINE = Space.from_dict(
    {
        "model": "m",
        "learning_rate": {"low": 1e-6, "high": 1e-1, "log": True},
        "head_dropout": {"low": 0.0, "high": 0.9},
        "weight_decay": {"low": 0.0, "high": 1.0},
        "optimizer": ["adamw", "sgd", "lion"],
        "epochs": 9,
    }
)


def _score(recipe, epoch: int) -> float:
    loss = abs(math.log10(recipe.learning_rate) + 3.3) + abs(recipe.head_dropout - 0.6)
    loss += abs(recipe.weight_decay - 0.2) + {"adamw": 0.3, "sgd": 0.6, "lion": 0.0}[recipe.optimizer]
    return -loss - 2.0 / epoch


def _run(strategy, epochs: int) -> tuple[list, float]:
    """Orders one after the other until so many epochs are trained, and the best score at the last epoch."""
    orders, reached, best = [], {}, -math.inf
    while sum(reached.values()) < epochs:
        (order,) = strategy.ask(1)
        orders.append(order)
        reached[order.trial] = order.until
        score = _score(order.recipe, order.until)
        strategy.tell(Report(order.trial, order.until, "completed", score))
        if order.until == order.recipe.epochs:
            best = max(best, score)
    return orders, best


def test_the_first_bracket_is_successive_halving_and_promoted_trials_go_on() -> None:
    orders, _ = _run(Dehb(NINE, 0), 9 + 3 * 2 + 6)
    assert [(order.trial, order.until) for order in orders[:9]] == [(trial, 1) for trial in range(9)]
    ranked = sorted(range(9), key=lambda trial: -_score(orders[trial].recipe, 1))
    assert [(order.trial, order.until) for order in orders[9:12]] == [(trial, 3) for trial in ranked[:3]]
    assert [(order.trial, order.until) for order in orders[12:]] == [(ranked[0], 9)]
    assert [order.recipe for order in orders[:9]] == [order.recipe for order in Random(NINE, 0).ask(9)]


def test_later_rungs_evolve_new_trials_from_the_start() -> None:
    orders, _ = _run(Dehb(NINE, 0), 400)
    first = {}
    for order in orders:
        first.setdefault(order.trial, order.until)
    assert {1, 3, 9} == set(first.values()), "children train to their level's epochs at once"
    assert sum(until == 9 for until in first.values()) >= 5


def test_a_member_is_replaced_by_a_child_that_is_not_worse_and_by_no_other() -> None:
    strategy = Dehb(NINE, 0)
    known: dict[tuple[int, int], float] = {}
    for _ in range(150):
        before = strategy.subpopulations()
        (order,) = strategy.ask(1)
        score = math.nan if order.trial % 11 == 5 else _score(order.recipe, order.until)
        known[order.trial, order.until] = score
        status = "failed" if math.isnan(score) else "completed"
        grown = strategy.subpopulations()
        strategy.tell(Report(order.trial, order.until, status, score))
        for level, until in enumerate((1, 3, 9)):
            after = strategy.subpopulations()[level]
            assert grown[level][: len(before[level])] == before[level], "asking replaces nobody"
            for old, new in zip(grown[level], after, strict=True):
                if old != new:
                    better = known[new, until] >= known[old, until]
                    assert new == order.trial and (better or math.isnan(known[old, until]))


def test_what_failed_is_never_taken_further() -> None:
    strategy = Dehb(NINE, 1)
    failed = set()
    for _ in range(120):
        (order,) = strategy.ask(1)
        assert order.trial not in failed
        if order.trial % 3 == 0:
            failed.add(order.trial)
            strategy.tell(Report(order.trial, 0, "failed"))
        else:
            score = _score(order.recipe, order.until)
            strategy.tell(Report(order.trial, order.until, "completed", score))


def test_in_equal_epochs_it_comes_closer_than_random_search() -> None:
    ceiling = -2.0 / 9
    runs = [[_run(kind(NINE, seed), 9 * 40)[1] for kind in (Dehb, Random)] for seed in range(6)]
    evolved, random = ceiling - np.mean(runs, axis=0)
    assert evolved < 0.6 * random


@pytest.mark.parametrize(("epochs", "first"), [(1, 1), (2, 2), (3, 1), (4, 2), (30, 2), (27, 1)])
def test_the_first_level_trains_an_epoch_or_two(epochs, first) -> None:
    space = Space.from_dict({"model": "m", "l1": {"low": 0.0, "high": 1.0}, "epochs": epochs})
    assert Dehb(space, 0).ask(1)[0].until == first


def test_workers_get_the_next_bracket_while_a_rung_is_out() -> None:
    strategy = Dehb(NINE, 0)
    orders = strategy.ask(20)
    assert len(orders) == 20 and [order.until for order in orders[:9]] == [1] * 9
    assert {order.until for order in orders[9:14]} == {3}, "the second bracket begins a level higher"


def test_what_diverged_is_not_promoted_and_what_ran_out_of_patience_counts_as_it_is() -> None:
    strategy = Dehb(NINE, 0)
    for order in strategy.ask(9):
        patient = order.trial != 4
        score = {3: 5.0, 4: 4.0}.get(order.trial, 0.1 * order.trial)
        strategy.tell(Report(order.trial, 1, "running", math.nan if order.trial == 3 else score))
        reason = "" if patient else "no better score for an epoch"
        strategy.tell(Report(order.trial, 1, "completed", score, reason=reason))
    orders = strategy.ask(2)
    assert [(order.trial, order.until) for order in orders] == [(8, 3), (7, 3)]
    assert strategy.subpopulations()[1] == [4, 8, 7]
