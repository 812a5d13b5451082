"""Hyperband's brackets: who goes on, from where, and what becomes of trials that end in another way."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.search import registry
from luthier.search.base import Order, Report
from luthier.search.halving import Halving
from luthier.search.hyperband import Hyperband
from luthier.search.ladder import Ladder
from luthier.search.random import Random
from luthier.search.source import Source
from luthier.search.workers import Workers, mixed, reports
from luthier.space import Space

RATE = {"low": 1e-6, "high": 1e-1, "log": True}
SPACE = Space.from_dict({"model": "m", "learning_rate": RATE, "epochs": 27})
SMALL = Space.from_dict({"model": "m", "batch_size": [8, 16], "optimizer": ["sgd", "adamw"], "epochs": 9})


def by_number(order: Order, epoch: int) -> float:
    """Trials score in an order that has nothing to do with when they came: 0 to 1 by a hash of the number."""
    return order.trial * 37 % 101 / 101 + epoch / 1000


def tell(strategy: Hyperband, orders: list[Order], score: Callable[[Order, int], float] = by_number) -> None:
    for order in orders:
        for report in reports(order, order.until - 1, score):
            strategy.tell(report)


def best(orders: list[Order], count: int) -> set[int]:
    return set(sorted((o.trial for o in orders), key=lambda trial: -(trial * 37 % 101))[:count])


def test_the_brackets_of_the_papers_example_are_trained_as_it_says() -> None:
    space = Space.from_dict({"model": "m", "learning_rate": RATE, "epochs": 81})
    halving = Halving(Ladder(81, eta=3, least=1), Source(space, 0))
    trained = []
    for _ in range(15):
        turns = halving.ask(1000)
        trained.append((len(turns), {turn.until for turn in turns}))
        for turn in turns:
            halving.tell(Report(turn.trial, turn.until, "completed", turn.trial * 37 % 101 / 101))
    assert trained == [
        (81, {1}), (27, {3}), (9, {9}), (3, {27}), (1, {81}),
        (34, {3}), (11, {9}), (3, {27}), (1, {81}),
        (15, {9}), (5, {27}), (1, {81}),
        (8, {27}), (2, {81}),
        (5, {81}),
    ]  # fmt: skip
    assert [turn.until for turn in halving.ask(1000)] == [1] * 81


def test_the_best_third_goes_on_from_where_it_stands() -> None:
    strategy, trained, last = Hyperband(SPACE, 0), Counter[int](), []
    for until, count in [(2, 27), (3, 9), (9, 3), (27, 1)]:
        orders = strategy.ask(1000)
        assert [order.until for order in orders] == [until] * count
        if last:
            assert {order.trial for order in orders} == best(last, count)
        for order in orders:
            trained[order.trial] += order.until - trained[order.trial]
        tell(strategy, orders)
        last = orders
    assert sum(trained.values()) == 27 * 2 + 9 * 1 + 3 * 6 + 1 * 18
    assert [order.trial for order in strategy.ask(1000)] == list(range(27, 39))


def test_recipes_are_those_of_random_search() -> None:
    recipes = [order.recipe for order in Hyperband(SPACE, 3).ask(27)]
    assert recipes == [order.recipe for order in Random(SPACE, 3).ask(27)]
    assert recipes[0] == SPACE.default()


def test_a_rung_comes_over_several_asks_where_there_is_little_room() -> None:
    whole, piecewise = Hyperband(SPACE, 0), Hyperband(SPACE, 0)
    for _ in range(20):
        rung = whole.ask(1000)
        tell(whole, rung)
        found: list[Order] = []
        while len(found) < len(rung):
            orders = piecewise.ask(4)
            assert 0 < len(orders) <= 4
            tell(piecewise, orders)
            found += orders
        assert found == rung


def test_asked_while_orders_are_out_it_begins_the_next_bracket_and_then_goes_back() -> None:
    strategy = Hyperband(SPACE, 0)
    first = strategy.ask(27)
    second = strategy.ask(30)
    assert [(order.trial, order.until) for order in second] == [(trial, 3) for trial in range(27, 39)]
    tell(strategy, first)
    assert {order.trial for order in strategy.ask(30)} == best(first, 9)
    third = strategy.ask(30)
    assert [(order.trial, order.until) for order in third] == [(trial, 9) for trial in range(39, 45)]


def test_of_equal_trials_the_first_go_on() -> None:
    strategy = Hyperband(SPACE, 0)
    tell(strategy, strategy.ask(27), lambda order, epoch: 0.5)
    assert [order.trial for order in strategy.ask(27)] == list(range(9))


def test_an_earlier_epochs_score_counts() -> None:
    strategy = Hyperband(SPACE, 0)
    for order in strategy.ask(27):
        first = 0.9 if order.trial == 20 else 0.5
        for report in reports(order, 0, lambda order, epoch, first=first: first if epoch == 1 else 0.4):  # type: ignore[misc]
            strategy.tell(report)
    assert strategy.ask(27)[0].trial == 20


def close(strategy: Hyperband, order: Order, **how) -> None:
    defaults = {"epoch": order.until, "status": "completed", "score": by_number(order, order.until)}
    strategy.tell(Report(order.trial, **(defaults | how)))


@pytest.mark.parametrize(
    "how",
    [
        {"status": "failed", "reason": "out of memory", "epoch": 1},
        {"status": "stopped", "reason": "the user stopped it", "epoch": 1},
        {"score": math.nan},
        {"score": math.inf},
    ],
    ids=["failed", "stopped", "NaN", "infinite"],
)
def test_a_lost_trials_place_goes_to_the_next(how) -> None:
    strategy = Hyperband(SPACE, 0)
    orders = strategy.ask(27)
    ranked = sorted(orders, key=lambda order: -by_number(order, 2))
    for order in orders:
        close(strategy, order, **(how if order in ranked[:2] else {}))
    again = strategy.ask(27)
    assert {order.trial for order in again} == {order.trial for order in ranked[2:11]}
    for order in again:
        close(strategy, order, **(how if order in again[:7] else {}))
    assert {order.trial for order in strategy.ask(27)} == {order.trial for order in again[7:]}


def test_a_trial_that_ends_in_nan_is_not_continued_though_its_best_was_good() -> None:
    strategy = Hyperband(SPACE, 0)
    orders = strategy.ask(27)
    strategy.tell(Report(0, 1, "running", 9.0))
    strategy.tell(Report(0, 2, "running", math.nan))
    strategy.tell(Report(0, 2, "completed", 9.0))
    tell(strategy, orders[1:])
    assert 0 not in {order.trial for order in strategy.ask(27)}


@pytest.mark.parametrize(("epoch", "reason"), [(1, ""), (2, "no better for 1 epoch")])
def test_a_trial_that_lost_its_patience_keeps_its_place_and_is_left_alone(epoch, reason) -> None:
    strategy = Hyperband(SPACE, 0)
    orders = strategy.ask(27)
    close(strategy, orders[0], score=9.0, epoch=epoch, reason=reason)
    tell(strategy, orders[1:])
    eight = strategy.ask(27)
    assert {order.trial for order in eight} == best(orders[1:], 8)
    # It also takes the place of one of three at the next rung, and the only one at the highest.
    tell(strategy, eight)
    two = strategy.ask(27)
    assert {order.trial for order in two} == best(eight, 2)
    tell(strategy, two)
    assert [order.trial for order in strategy.ask(27)] == list(range(27, 39))


def test_a_bracket_without_any_score_ends_and_the_next_begins() -> None:
    strategy = Hyperband(SPACE, 0)
    tell(strategy, strategy.ask(27), lambda order, epoch: math.nan)
    assert [order.trial for order in strategy.ask(3)] == [27, 28, 29]


def test_recipes_of_different_lengths_meet_at_the_same_rungs() -> None:
    space = Space.from_dict(
        {"model": "m", "learning_rate": RATE, "epochs": {"low": 1, "high": 60, "prior": 12}}
    )
    strategy, ladder = Hyperband(space, 0), Ladder(12)
    workers = Workers(strategy, 1, lambda order, begun: reports(order, begun, by_number)).run(120)
    by_trial: dict[int, list[int]] = {}
    for order in workers.orders:
        by_trial.setdefault(order.trial, []).append(order.until)
    for trial, untils in by_trial.items():
        epochs = workers.recipes[trial].epochs
        assert set(untils) <= {ladder.until(epochs, rung) for rung in range(3)}
    lengths = {workers.recipes[trial].epochs for trial, untils in by_trial.items() if len(untils) > 1}
    assert len(lengths) > 5


def test_a_small_space_is_used_up_and_its_best_is_trained_to_the_end() -> None:
    workers = Workers(Hyperband(SMALL, 0), 2, lambda o, b: reports(o, b, by_number)).run(1000)
    assert workers.strategy.finished and len(workers.recipes) == 4
    top = max(range(4), key=lambda trial: trial * 37 % 101)
    assert workers.reached(top) == 9


def test_reports_of_trials_that_are_not_out_change_nothing() -> None:
    strategy = Hyperband(SPACE, 0)
    orders = strategy.ask(2)
    tell(strategy, orders)
    before = strategy.state()
    for report in (Report(0, 2, "completed", 9.0), Report(700, 1, "failed")):
        strategy.tell(report)
    assert strategy.state() == before


def test_it_says_where_there_is_nothing_to_pause() -> None:
    short = Space.from_dict({"model": "m", "learning_rate": RATE, "epochs": 2})
    assert "trained to its end" in Hyperband(short).notes()[0]
    assert Hyperband(SPACE).notes() == []


@pytest.mark.parametrize(("option", "largest"), [("", 20_000), ("asha", 150_000), ("bohb", 300_000)])
def test_its_state_stays_small_and_exact_over_thousands_of_trials(option, largest) -> None:
    space = Space.from_dict(
        {"model": "m", "learning_rate": RATE, "head_dropout": {"low": 0, "high": 0.9}, "epochs": 9}
    )
    score = lambda order, epoch: math.log10(order.recipe.learning_rate) ** 2 / 7 + epoch / 1000  # noqa: E731
    make = lambda: Hyperband(space, 1, option)  # noqa: E731
    workers = Workers(make(), 16, mixed(score)).run(3000 if option != "bohb" else 600)
    workers.strategy.ask(16)
    started = time.thread_time()
    text = json.dumps(workers.strategy.state())
    assert time.thread_time() - started < 0.2
    assert len(text) < largest
    again = make()
    again.restore(json.loads(text))
    assert json.dumps(again.state()) == text
    for _ in range(3):
        assert again.ask(5) == workers.strategy.ask(5)


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(["hyperband", "hyperband:asha"]),
    epochs=st.tuples(st.integers(1, 40), st.integers(0, 40)),
    values=st.lists(st.sampled_from([0.1, 0.2, 0.3, math.nan]), min_size=1, max_size=7),
    count=st.integers(1, 9),
    seed=st.integers(0, 99),
    wrong=st.booleans(),
)
def test_whatever_happens_the_contract_of_orders_is_kept(name, epochs, values, count, seed, wrong) -> None:
    low, more = epochs
    space = Space.from_dict(
        {"model": "m", "batch_size": [8, 16, 32], "epochs": {"low": low, "high": low + max(more, 1)}}
    )

    def score(order: Order, epoch: int) -> float:
        return values[(order.trial + epoch) % len(values)]

    fate = mixed(score) if wrong else lambda order, begun: reports(order, begun, score)
    pace = lambda trial: 1.0 + (trial * 7919 + seed) % 13  # noqa: E731
    workers = Workers(registry.create(name, space, seed), count, fate, pace).run(1000)
    assert workers.strategy.finished and not workers.out
    sizes = (low + max(more, 1)) - low + 1
    assert len(workers.recipes) <= 3 * sizes
    assert len(set(workers.recipes.values())) == len(workers.recipes)
