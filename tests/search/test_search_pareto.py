"""Several objectives by any strategy: the contract, who hears what, and that fronts are found."""

from __future__ import annotations

import math

import pytest
from test_search_strategies import QUICK

from luthier.errors import SettingError
from luthier.search import conformance
from luthier.search.base import Order, Report
from luthier.search.conformance import CHECKS, LONG, SPACES
from luthier.search.pareto import Pareto
from luthier.search.registry import resolve
from luthier.search.scalarisation import Aim, scalarise, spread
from luthier.search.workers import Ledger, rebirth
from luthier.space import Space
from luthier.study.front import front

# Each pauses, copies, models or ends in a way of its own; every other strategy does as one of these.
KINDS = ["auto", "bayesian", "grid", "hyperband", "hyperband:asha", "optuna", "population", "random"]
# Three searches each make as many steps as one, and their own tests look closer.
FEWER = {"STEPS": 12, "SPACES": {name: SPACES[name] for name in ("point", "conditional", "long")}}
AIMS = [Aim("", 1.0, 0.0), Aim("loss", 0.0, 2.0)]


def made(name, aims=AIMS):
    return lambda space, seed: Pareto(space, seed, strategy=name, aims=aims)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", KINDS)
def test_conforms(name, check, monkeypatch):
    for place, value in FEWER.items():
        monkeypatch.setattr(conformance, place, value)
    for place, value in QUICK.get(name.partition(":")[0], {}).items():
        monkeypatch.setattr(f"luthier.search.{place}", value)
    check(made(name))


def carry_out(strategy, order, begun, score, metrics):
    """An order, epoch by epoch, with the same score after each."""
    for epoch in range(begun + 1, order.until + 1):
        strategy.tell(Report(order.trial, epoch, "running", score, metrics, 2.0))
    strategy.tell(Report(order.trial, order.until, "completed", score, metrics))


class Recorder(Pareto):
    """Remembers what its searches are told."""

    def __init__(self, space, name="random"):
        super().__init__(space, 0, strategy=name, aims=AIMS)
        self.heard = [[] for _ in self._searches]
        for search, heard in zip(self._searches, self.heard, strict=True):
            search.tell = self._recording(search.tell, heard)

    @staticmethod
    def _recording(tell, heard):
        def told(report):
            heard.append(report)
            tell(report)

        return told


def test_searches_take_turns_and_hear_their_own_scores():
    space = Space.from_dict({"model": "m", "learning_rate": {"low": 1e-5, "high": 1e-3}, "epochs": 2})
    strategy = Recorder(space)
    for at in range(4):
        (order,) = strategy.ask(1)
        assert order.trial == at
        carry_out(strategy, order, 0, 0.5 + at / 10, {"loss": 0.5, "other": 3.0})
    # The centre of the space is what each would try first: trained once, and told to each when it asks.
    assert [len({report.trial for report in heard}) for heard in strategy.heard] == [2, 2, 2]
    for heard, weights in zip(strategy.heard, spread(2), strict=True):
        wanted = scalarise(0.5, {"loss": 0.5}, AIMS, weights)
        assert [(r.epoch, r.status, r.score) for r in heard[:3]] == [
            (1, "running", wanted), (2, "running", wanted), (2, "completed", wanted)
        ]  # fmt: skip
        assert heard[0].seconds == 2.0 and heard[0].metrics == {"loss": 0.5} and heard[2].best_epoch == 1


def test_room_is_shared_evenly():
    strategy = Pareto(LONG, 0, strategy="random", aims=AIMS)
    orders = strategy.ask(8)
    # Three each; that of the second and third search which is the centre is out already, and shared.
    assert [len(shares) for shares in strategy._shares] == [3, 3, 3]
    assert [order.trial for order in orders] == list(range(7))


def test_a_trial_of_two_searches_goes_as_far_as_the_one_that_wants_more():
    class Wants(Recorder):
        def __init__(self, space):
            super().__init__(space)
            for search, until in zip(self._searches, (2, 5, 3), strict=True):
                search.ask = self._once(space.default(), until)

        @staticmethod
        def _once(recipe, until):
            left = [[Order(0, recipe, until)]]
            return lambda room: left.pop() if left else []

    strategy = Wants(
        Space.from_dict({"model": "m", "learning_rate": {"low": 1e-5, "high": 1e-3}, "epochs": 6})
    )
    (order,) = strategy.ask(3)
    assert order.until == 2
    carry_out(strategy, order, 0, 0.5, {"loss": 1.0})
    assert [[r.epoch for r in heard] for heard in strategy.heard] == [[1, 2, 2], [1, 2], [1, 2]]
    assert not strategy.finished
    (order,) = strategy.ask(3)
    assert (order.trial, order.until) == (0, 5)
    carry_out(strategy, order, 2, 0.6, {"loss": 1.0})
    assert [[r.epoch for r in heard] for heard in strategy.heard] == [
        [1, 2, 2], [1, 2, 3, 4, 5, 5], [1, 2, 3, 3]
    ]  # fmt: skip
    assert [heard[-1].status for heard in strategy.heard] == ["completed"] * 3


@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_a_trial_that_goes_wrong_does_so_for_all_that_wait(status):
    strategy = Recorder(LONG)
    orders = strategy.ask(3)
    strategy.tell(Report(0, 1, "running", 0.5, {"loss": 1.0}, 1.0))
    strategy.tell(Report(0, 1, status, math.nan, reason="out of memory"))
    for heard in strategy.heard:
        assert (heard[-1].status, heard[-1].reason, heard[-1].trial) == (status, "out of memory", 0)
        assert math.isnan(heard[-1].score) == (status == "failed")
    assert len(orders) == 3


def test_copies_are_made_by_one_search_with_equal_weights():
    strategy = Pareto(LONG, 0, strategy="population", aims=AIMS)
    assert strategy.inherits and len(strategy._searches) == 1 and strategy._weights == [(0.5, 0.5)]


def test_the_ranges_are_those_it_began_with():
    strategy = Pareto(LONG, 0, strategy="random", aims=AIMS)
    carry_out(strategy, strategy.ask(1)[0], 0, 0.5, {"loss": 1.0})
    other = Pareto(LONG, 0, strategy="random", aims=[Aim("", 1.0, 0.5), Aim("loss", 0.0, 9.0)])
    other.restore(strategy.state())
    assert other.aims == strategy.aims


def test_an_unknown_strategy_is_named():
    with pytest.raises(SettingError, match="unknown"):
        Pareto(LONG, 0, strategy="magic", aims=AIMS)


MODELS = {"small": (0.90, 2.0), "middle": (0.94, 6.0), "large": (0.96, 18.0), "bad": (0.89, 12.0)}
COSTS = [Aim("", 1.0, 0.8), Aim("latency_ms", 2.0, 18.0)]


def found(name, seed, trials=36):
    """Points that a search finds on models of which one is dominated: what counts is model and rate."""
    space = Space.from_dict(
        {
            "model": list(MODELS),
            "learning_rate": {"low": 1e-6, "high": 1e-2, "log": True},
            "epochs": 9,
        }
    )  # fmt: skip
    strategy, ledger, points = Pareto(space, seed, strategy=name, aims=COSTS), Ledger(), {}
    again = rebirth(lambda: Pareto(space, seed, strategy=name, aims=COSTS))
    while len(ledger.recipes) < trials and not strategy.finished:
        for order in strategy.ask(3):
            begun = ledger.reached(order.trial)
            ledger.take(order)
            top, cost = MODELS[order.recipe.model]
            score = top - 0.02 * abs(math.log10(order.recipe.learning_rate) + 4)
            points[order.trial] = (score, -cost)
            carry_out(strategy, order, begun, score, {"latency_ms": cost})
            ledger.hear(Report(order.trial, order.until, "completed", score))
        strategy = again(strategy)
    return points


@pytest.mark.parametrize("name", ["hyperband", "bayesian"])
def test_the_front_has_every_model_that_belongs_to_it(name):
    points = found(name, 1)
    kept = list(points)
    members = [points[kept[at]] for at in front([points[trial] for trial in kept])]
    assert {-cost for _, cost in members} >= {2.0, 6.0, 18.0} and 12.0 not in {-cost for _, cost in members}


def test_each_search_spends_its_trials_where_its_weights_lie():
    """The one that looks at scores alone goes to the large model more often, the one for latency to the small
    one.
    """
    space = Space.from_dict(
        {"model": list(MODELS), "learning_rate": {"low": 1e-6, "high": 1e-2, "log": True}, "epochs": 2}
    )
    strategy = Pareto(space, 0, strategy="bayesian", aims=COSTS)
    for _ in range(45):
        (order,) = strategy.ask(1)
        top, cost = MODELS[order.recipe.model]
        score = top - 0.02 * abs(math.log10(order.recipe.learning_rate) + 4)
        carry_out(strategy, order, 0, score, {"latency_ms": cost})

    def late(at):
        """Models of a search's second half."""
        trials = [strategy._trials[share.trial].recipe.model for share in strategy._shares[at]]
        return trials[len(trials) // 2 :]

    assert late(0).count("large") > late(1).count("large")
    assert late(1).count("small") > late(0).count("small")


def test_options_of_strategies_are_taken():
    assert resolve("hyperband:asha")[1] == "asha"
    strategy = Pareto(LONG, 0, strategy="hyperband:asha", aims=AIMS)
    assert {search.option for search in strategy._searches} == {"asha"}
