"""Population-based training: its laws, its lines of trials, and a case in which no fixed rate is as good."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from search_studies import listing

from luthier.engine.optim import rate_factor
from luthier.errors import SettingError
from luthier.recipe import Recipe
from luthier.search.base import Report
from luthier.search.conformance import SPACES
from luthier.search.perturb import FACTOR, SHIFT, carried_rate, continued
from luthier.search.population import QUARTER, SIZE, STEPS, Population
from luthier.search.workers import STRUCTURE, Workers, rebirth, reports
from luthier.space import Space

RATES = Space.from_dict(
    {
        "model": "m",
        "schedule": {"value": "constant"},
        "learning_rate": {"low": 1e-3, "high": 1.0, "log": True},
        "epochs": 64,
    }
)
VARIED = Space.from_dict(
    {
        "model": ["m", "n"],
        "adaptation": ["full", "lora", "last_k"],
        "lora_rank": {"values": [4, 8, 16], "when": {"adaptation": "lora"}},
        "lora_dropout": {"low": 0.0, "high": 0.5, "when": {"adaptation": "lora"}},
        "last_k": {"low": 1, "high": 6, "when": {"adaptation": "last_k"}},
        "head": ["native", "linear"],
        "dropout": [None, 0.0, 0.1],
        "learning_rate": {"low": 1e-6, "high": 1e-2, "log": True, "prior": 1e-4},
        "weight_decay": {"low": 0.0, "high": 0.3},
        "epochs": {"low": 2, "high": 9},
    }
)


class NoisySteps:
    """Gradient descent on a parabola with noisy gradients, in expectation.

    After a step at rate r a squared distance d from the optimum is (1 - r)^2 d + r^2: high rates get near
    soon, and only low ones get nearer. The best rate at each step is d / (d + 1).
    """

    def __init__(self) -> None:
        self.distance: dict[int, float] = {}

    def train(self, order, epochs: int) -> list[float]:
        if order.trial not in self.distance:
            self.distance[order.trial] = 100.0 if order.parent is None else self.distance[order.parent]
        scores = []
        for _ in range(epochs):
            rate, distance = order.recipe.learning_rate, self.distance[order.trial]
            self.distance[order.trial] = (1 - rate) ** 2 * distance + rate**2
            scores.append(-self.distance[order.trial])
        return scores


def _rounds(strategy, world, room: int, trials: int) -> dict[int, list]:
    """What a study without an engine does; each trial's orders."""
    orders, reached = {}, {}
    while len(orders) < trials and (given_ := strategy.ask(room)):
        for order in given_:
            orders.setdefault(order.trial, []).append(order)
            begun = reached.get(order.trial, 0)
            scores = world.train(order, order.until - begun)
            for at, score in enumerate(scores):
                strategy.tell(Report(order.trial, begun + at + 1, "running", score))
            strategy.tell(Report(order.trial, order.until, "completed", max(scores)))
            reached[order.trial] = order.until
    return orders


@pytest.mark.parametrize("seed", range(4))
def test_a_schedule_that_it_finds_beats_every_fixed_rate(seed) -> None:
    fixed = math.inf
    for rate in np.geomspace(1e-3, 1.0, 400):
        distance = 100.0
        for _ in range(64):
            distance = (1 - rate) ** 2 * distance + rate**2
        fixed = min(fixed, distance)
    world = NoisySteps()
    orders = _rounds(Population(RATES, seed), world, SIZE, SIZE + (STEPS - 1) * (SIZE // QUARTER))
    best = min(world.distance[t] for t in orders)
    assert best < 0.9 * fixed


def test_after_a_step_the_worst_quarter_starts_from_the_weights_of_the_best() -> None:
    strategy = Population(RATES, 0)
    first = strategy.ask(SIZE)
    assert [order.trial for order in first] == list(range(8)) and {order.until for order in first} == {8}
    for order in first:
        strategy.tell(Report(order.trial, 8, "running", float(order.trial)))
        strategy.tell(Report(order.trial, 8, "completed", 99.0))
    copies = strategy.ask(2)
    assert [order.trial for order in copies] == [8, 9]
    assert {order.parent for order in copies} <= {6, 7}
    assert all(order.until == 8 and order.recipe.epochs == 56 for order in copies)
    for order in copies:
        before = first[order.parent].recipe.learning_rate
        ratio = order.recipe.learning_rate / before
        assert 0.49 < math.log(FACTOR) ** -1 * abs(math.log(ratio)) < 1.01
    rest = strategy.ask(8)
    others = set(range(2, 8)) - {order.parent for order in copies}
    assert {order.trial for order in rest} == others, "those being copied wait, and the worst two are gone"
    strategy.tell(Report(8, 1, "running", 1.0))
    strategy.tell(Report(9, 0, "failed"))
    waited = strategy.ask(8)
    assert {order.trial for order in waited} == {order.parent for order in copies}
    assert all(order.until == 16 and order.parent is None for order in [*rest, *waited])
    assert strategy.lineage(8) == [copies[0].parent, 8] and strategy.lineage(3) == [3]
    with pytest.raises(KeyError):
        strategy.lineage(10)


def test_all_that_failed_is_replaced_and_without_a_survivor_another_population_begins() -> None:
    strategy = Population(RATES, 0)
    for order in strategy.ask(SIZE):
        done = order.trial == 5
        strategy.tell(
            Report(
                order.trial, 8 if done else 0, "completed" if done else "failed", 1.0 if done else math.nan
            )
        )
    assert [order.parent for order in strategy.ask(SIZE)] == [5] * 7
    strategy = Population(RATES, 0)
    for order in strategy.ask(SIZE):
        strategy.tell(Report(order.trial, 0, "failed"))
    again = strategy.ask(SIZE)
    assert [order.trial for order in again] == list(range(8, 16)) and {order.parent for order in again} == {
        None
    }


def test_what_ran_out_of_patience_rests_and_may_be_copied_and_what_diverged_may_not() -> None:
    strategy = Population(RATES, 0)
    for order in strategy.ask(SIZE):
        score = math.nan if order.trial == 7 else float(order.trial)
        strategy.tell(Report(order.trial, 8, "running", score))
        reason = "no better score for 3 epochs" if order.trial == 6 else ""
        strategy.tell(Report(order.trial, 8, "completed", 99.0, reason=reason))
    copies = strategy.ask(2)
    assert {order.parent for order in copies} <= {5, 6}
    for order in copies:
        strategy.tell(Report(order.trial, 1, "running", 0.0))
    assert {order.trial for order in strategy.ask(9)} == {1, 2, 3, 4, 5}


def test_equal_scores_are_no_reason_to_copy() -> None:
    strategy = Population(RATES, 0)
    for order in strategy.ask(SIZE):
        strategy.tell(Report(order.trial, 8, "completed", 0.5))
    assert [(order.trial, order.until) for order in strategy.ask(9)] == [(trial, 16) for trial in range(8)]


@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 9999), count=st.integers(1, 9), space=st.sampled_from([VARIED, SPACES["conditional"]])
)
def test_lines_train_as_long_as_their_first_recipe_says_and_keep_its_structure(seed, count, space) -> None:
    def make():
        return Population(space, seed)

    def score(order, epoch):
        noise = np.random.default_rng([seed, order.trial, epoch]).random()
        return None if noise < 0.03 else noise + math.log10(order.recipe.learning_rate)

    def pace(trial):
        return np.random.default_rng([seed, trial]).uniform(1.0, 5.0)

    def fate(order, begun):
        return reports(order, begun, score)

    workers = Workers(make(), count, fate, pace).run(trials=30)
    restored = Workers(make(), count, fate, pace, rebirth(make)).run(trials=30)
    assert workers.orders == restored.orders
    strategy, first = workers.strategy, {}
    for order in workers.orders:
        first.setdefault(order.trial, order)
    for trial, order in first.items():
        line = strategy.lineage(trial)
        root = first[line[0]].recipe
        assert [first[one].parent for one in line] == [None, *line[:-1]]
        assert all(getattr(order.recipe, name) == getattr(root, name) for name in STRUCTURE)
        assert space.contains(order.recipe.model_copy(update={"epochs": root.epochs}))
        if order.parent is not None:
            before = first[order.parent].recipe
            trained = before.epochs - order.recipe.epochs
            assert 1 <= trained < before.epochs, "what the parent trained is not trained again"
            assert any(o.trial == order.parent and o.until == trained for o in workers.orders)
    assert len({order.recipe for order in first.values()}) == len(first)


def test_a_copy_starts_while_its_parent_stands_at_the_end_of_a_step() -> None:
    started: dict[int, int] = {}

    class Recorded(Workers):
        def take(self, order):
            if order.parent is not None:
                started[order.trial] = self.reached(order.parent)
            super().take(order)

    def score(order, epoch):
        return math.log10(order.recipe.learning_rate) + epoch

    workers = Recorded(Population(RATES, 0), 5, lambda order, begun: reports(order, begun, score))
    recipes = workers.run(trials=20).recipes
    assert len(started) >= 6
    assert all(
        recipes[workers.parents[t]].epochs - recipes[t].epochs == epochs for t, epochs in started.items()
    )


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.1])
def test_the_rate_that_is_carried_over_is_the_one_the_engine_has_come_to(schedule, warmup) -> None:
    recipe = Recipe(model="m", schedule=schedule, warmup=warmup, learning_rate=2e-4, epochs=10)
    for epochs in range(1, 10):
        factor = rate_factor(schedule, 100 * epochs, 1000, warmup)
        assert carried_rate(recipe, epochs) == pytest.approx(2e-4 * factor, rel=1e-9)


def test_a_linear_schedule_goes_on_as_if_nothing_had_happened() -> None:
    recipe = Recipe(model="m", warmup=0.0, learning_rate=2e-4, epochs=10)
    rate = carried_rate(recipe, 4)
    after = [rate * rate_factor("linear", step, 600, 0.0) for step in range(600)]
    alone = [2e-4 * rate_factor("linear", step, 1000, 0.0) for step in range(400, 1000)]
    assert after == pytest.approx(alone)


@given(seed=st.integers(0, 999))
def test_only_what_may_change_changes_and_not_by_more_than_it_should(seed) -> None:
    rng = np.random.default_rng(seed)
    parent = VARIED.sample(rng.random(len(VARIED.dimensions)))
    copy = continued(VARIED, parent, 1, parent.epochs - 1, rng)
    changed = {name for name in Recipe.model_fields if getattr(copy, name) != getattr(parent, name)}
    assert changed <= {"epochs", "learning_rate", "weight_decay", "dropout", "lora_dropout"}
    assert abs(copy.weight_decay - parent.weight_decay) <= SHIFT * 0.3 + 1e-6
    carried = carried_rate(parent, 1)
    assert (
        carried / FACTOR * 0.999 <= copy.learning_rate <= carried * FACTOR * 1.001
        or copy.learning_rate == 1e-6
    )
    assert "lora_dropout" not in changed or parent.adaptation == "lora"


def test_a_space_in_which_nothing_may_change_is_refused_with_what_could() -> None:
    space = Space.from_dict({"model": ["m", "n"], "last_k": {"low": 1, "high": 4}, "learning_rate": 1e-4})
    with pytest.raises(SettingError, match=r"varies none(.|\n)*learning_rate"):
        Population(space)


def test_a_list_of_recipes_in_which_no_copy_lies_is_refused() -> None:
    with pytest.raises(SettingError, match="varies none"):
        Population(listing(RATES, 50))
