"""The simulated workers, and that the asynchronous checks notice strategies that break the contract."""

from __future__ import annotations

import math

import pytest

from luthier.recipe import Recipe
from luthier.search import conformance
from luthier.search.base import Order, Report
from luthier.search.conformance import LONG, WIDE
from luthier.search.hyperband import Hyperband
from luthier.search.random import Random
from luthier.search.workers import Ledger, Workers, mixed, reports


class Overheard(Random):
    """Writes down what it was told, and how many orders were out when it was asked."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.told: list[Report] = []
        self.asked: list[int] = []

    def ask(self, room):
        self.asked.append(room)
        return super().ask(room)

    def tell(self, report):
        self.told.append(report)


def test_the_widest_space_varies_every_setting_of_a_recipe() -> None:
    assert set(WIDE.dimensions) == set(Recipe.model_fields)


def test_reports_of_workers_are_interleaved_and_each_is_told_once() -> None:
    strategy = Overheard(LONG, 0)
    workers = Workers(strategy, 3, lambda order, begun: reports(order, begun, lambda o, e: 0.5)).run(9)
    assert len(workers.orders) == 9 and not workers.out
    ends = [report.trial for report in strategy.told if report.status == "completed"]
    assert sorted(ends) == list(range(9)) and ends != sorted(ends)
    changes = sum(a.trial != b.trial for a, b in zip(strategy.told, strategy.told[1:], strict=False))
    assert changes > 20
    assert {1, 3} <= set(strategy.asked)
    for order in workers.orders:
        epochs = [report.epoch for report in strategy.told if report.trial == order.trial]
        assert epochs == [*range(1, order.until + 1), order.until]


def test_every_way_to_go_wrong_is_among_the_mixed_fates() -> None:
    fate = mixed(lambda order, epoch: 0.5)

    def last(trial: int, begun: int) -> Report:
        return fate(Order(trial, Recipe(model="m", epochs=9), 9), begun)[-1]

    assert [last(trial, 0).status for trial in (0, 1, 3, 5, 7, 9)] == [
        "completed", "failed", "completed", "completed", "completed", "completed",
    ]  # fmt: skip
    assert last(3, 2).status == "failed" and last(7, 2).status == "stopped"
    assert math.isnan(last(5, 2).score)
    assert (last(9, 2).epoch, last(9, 2).status) == (3, "completed") and last(9, 2).reason


def test_the_ledger_notices_orders_that_break_the_contract() -> None:
    recipe = Recipe(model="m", epochs=9)
    ledger = Ledger()
    ledger.take(Order(0, recipe, 3))
    with pytest.raises(AssertionError, match="while it is being trained"):
        ledger.take(Order(0, recipe, 4))
    ledger.hear(Report(0, 3, "completed", 0.5))
    for order, message in [
        (Order(0, recipe, 3), "is at 3"),
        (Order(0, recipe, 10), "epoch 10 of 9"),
        (Order(0, Recipe(model="n", epochs=9), 4), "recipe of trial 0 changed"),
        (Order(2, recipe, 3), "trial 2 follows trial 0"),
    ]:
        with pytest.raises(AssertionError, match=message):
            ledger.take(order)
    ledger.take(Order(0, recipe, 9))
    ledger.hear(Report(0, 5, "failed", reason="out of memory"))
    with pytest.raises(AssertionError, match="it had failed"):
        ledger.take(Order(0, recipe, 9))


def test_the_ledger_notices_parents_that_are_none() -> None:
    recipe = Recipe(model="m", epochs=9)
    ledger = Ledger()
    ledger.take(Order(0, recipe, 3))
    with pytest.raises(AssertionError, match="is being trained"):
        ledger.take(Order(1, recipe, 3, parent=0))
    ledger.hear(Report(0, 3, "completed", 0.5))
    for order, message in [
        (Order(1, recipe, 3, parent=1), "has not finished an epoch"),
        (Order(1, Recipe(model="m", head="linear"), 3, parent=0), "another head"),
        (Order(0, recipe, 4, parent=0), "has begun"),
    ]:
        with pytest.raises(AssertionError, match=message):
            ledger.take(order)
    ledger.take(Order(1, recipe, 3, parent=0))
    with pytest.raises(AssertionError, match="trial 1, which starts from it, was not heard of"):
        ledger.take(Order(0, recipe, 9))
    ledger.hear(Report(1, 1, "running", 0.5))
    ledger.take(Order(0, recipe, 9))
    ledger.hear(Report(0, 4, "failed", reason="out of memory"))
    with pytest.raises(AssertionError, match="which failed"):
        ledger.take(Order(2, recipe, 3, parent=0))
    assert ledger.root(1) == 0


class Persists(Hyperband):
    """Takes trials further that have failed, or are at their end."""

    def tell(self, report):
        status = "running" if report.status == "running" else "completed"
        super().tell(Report(report.trial, 99, status, 1.0))


class Doubles(Hyperband):
    """Orders what is out once more."""

    def ask(self, room):
        orders = super().ask(room)
        return [*orders[:1], *orders[: room - 1]] if room > 1 else orders


class Waits(Random):
    """Gives up when its first trials have been told."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self._over = False

    def ask(self, room):
        return [] if self._over else super().ask(room)

    def tell(self, report):
        self._over = True


class Hasty(Hyperband):
    """Says that it is finished as soon as no recipe is left."""

    def __init__(self, space, seed=0):
        super().__init__(space, seed, "asha")

    @property
    def finished(self):
        return not self._source.fresh


class Drops(Hyperband):
    """Forgets what is being trained."""

    def state(self):
        state = super().state()
        for bracket in state["schedule"]["brackets"]:
            bracket["out"] = []
        return state


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (Persists, "asynchronous"),
        (Doubles, "asynchronous"),
        (Waits, "asynchronous"),
        (Hasty, "asynchronous"),
        (Drops, "restored_asynchronous"),
    ],
)
def test_the_asynchronous_checks_notice(broken, check) -> None:
    with pytest.raises(AssertionError):
        getattr(conformance, f"check_{check}")(broken)
