"""What a strategy is asked and told, and what of it is kept."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from luthier.recipe import Recipe
from luthier.search.grid import Grid
from luthier.space import Space
from luthier.study.proposals import Proposals
from luthier.trial import Report

SPACE = Space.from_dict({"model": "m", "batch_size": [4, 8, 16, 32], "epochs": 2})
FIRST = Recipe(model="m", adaptation="probe", epochs=1)


class Hearing(Grid):
    """A grid that remembers what it was told."""

    def __init__(self) -> None:
        super().__init__(SPACE)
        self.told: list[Report] = []

    def tell(self, report: Report) -> None:
        self.told.append(report)


def epoch(trial: int, at: int, **metrics: float) -> Report:
    return Report(trial, at, "running", at / 10, metrics)


def end(trial: int) -> Report:
    return Report(trial, 2, "completed", 0.2)


def begun() -> tuple[Hearing, Proposals]:
    """The first recipe and three of the strategy's, of which the last waits."""
    strategy = Hearing()
    proposals = Proposals(strategy, [FIRST], seed=5)
    proposals.ask(0, 4)
    proposals.begin(3)
    return strategy, proposals


def test_orders_are_numbered_after_the_first_and_have_seeds_of_their_own() -> None:
    proposals = Proposals(Hearing(), [FIRST], seed=5)
    proposals.ask(0, 4)
    assert [order.trial for order in proposals.waiting] == [0, 1, 2, 3]
    assert [order.recipe.batch_size for order in proposals.waiting[1:]] == [4, 8, 16]
    assert proposals.waiting[0].recipe == FIRST and proposals.waiting[0].seed == 5
    assert len({order.seed for order in proposals.waiting}) == 4


def test_nothing_is_asked_for_while_orders_wait() -> None:
    strategy, proposals = begun()
    proposals.ask(3, 4)
    assert [order.trial for order in proposals.waiting] == [3]
    assert not strategy.finished


def test_a_round_is_told_when_all_of_it_has_ended_in_the_order_of_numbers() -> None:
    strategy, proposals = begun()
    proposals.begin(1)
    mixed = [epoch(2, 1), epoch(1, 1), epoch(0, 1), epoch(3, 1), epoch(2, 2), end(3), end(2), end(0)]
    for report in mixed:
        proposals.take(report)
    assert strategy.told == []
    proposals.take(end(1))
    assert [(report.trial, report.epoch, report.status) for report in strategy.told] == [
        (0, 1, "running"), (0, 2, "completed"),
        (1, 1, "running"), (1, 2, "running"), (1, 2, "completed"),
        (2, 1, "running"), (2, 2, "completed"),
    ]  # fmt: skip
    assert proposals.state() == strategy.state()


def test_a_round_is_not_over_while_orders_of_it_wait() -> None:
    strategy, proposals = begun()
    for trial in range(3):
        proposals.take(end(trial))
    assert strategy.told == []


def test_orders_that_were_not_begun_after_all_wait_in_their_places() -> None:
    strategy, proposals = begun()
    orders = Proposals(Hearing(), [FIRST], seed=5)
    orders.ask(0, 4)
    proposals.take(end(0))
    proposals.put_back(orders.waiting[1:3])
    assert proposals.waiting == orders.waiting[1:]
    assert strategy.told == []


def test_what_is_kept_is_json_and_leaves_out_trials_in_training() -> None:
    _, proposals = begun()
    for report in (epoch(1, 1, loss=np.float32(0.5)), epoch(2, 1), end(1)):  # type: ignore[arg-type]
        proposals.take(report)
    state: dict[str, Any] = json.loads(json.dumps(proposals.state()))
    strategy = Hearing()
    again = Proposals(strategy, [FIRST], seed=5)
    again.restore(state, unfinished={0, 2})
    assert again.waiting == proposals.waiting
    assert again.state() == proposals.state()
    again.begin(1)
    for report in (epoch(2, 1), end(3), end(2), end(0)):
        again.take(report)
    assert [report.trial for report in strategy.told] == [0, 0, 1, 1, 2]
    assert strategy.told[0].metrics == {"loss": 0.5} and math.isclose(strategy.told[0].score, 0.1)


def test_states_of_a_strategy_alone_are_taken() -> None:
    strategy = Hearing()
    proposals = Proposals(strategy, [], seed=5)
    proposals.restore({"trials": 2}, unfinished=())
    proposals.ask(2, 4)
    assert [order.recipe.batch_size for order in proposals.waiting] == [16, 32]


def test_an_order_that_will_never_begin_is_told_as_stopped_with_the_rest_of_its_round() -> None:
    strategy, proposals = begun()
    for trial in range(3):
        proposals.take(end(trial))
    (left,) = proposals.waiting
    proposals.drop([left], "no more trials")
    assert proposals.waiting == []
    assert [(report.trial, report.status) for report in strategy.told] == [
        (0, "completed"),
        (1, "completed"),
        (2, "stopped"),
    ]
    assert strategy.told[-1].reason == "no more trials"
