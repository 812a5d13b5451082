"""Evolution of whole trainings: its laws, and that a hundred trials take it far beyond random search."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from search_studies import listing

from luthier.search import registry
from luthier.search.base import Report
from luthier.search.conformance import SPACES
from luthier.search.generations import FRESH, SMALLEST_STEP, STEP, Generations
from luthier.search.random import Random
from luthier.search.workers import Workers, rebirth, reports
from luthier.space import Space

NAMES = ("weight_decay", "l1", "l2_start", "lora_dropout", "head_dropout", "dropout")


def _cube(dimensions: int) -> Space:
    return Space.from_dict({"model": "m"} | {name: {"low": 0.0, "high": 0.9} for name in NAMES[:dimensions]})


def _sphere(u: np.ndarray) -> float:
    return float(((u - np.array([0.31, 0.77, 0.62, 0.18])) ** 2).sum())


def _ackley(u: np.ndarray) -> float:
    x = 32 * (u - np.array([0.67, 0.39, 0.73, 0.31]))
    return float(
        20
        - 20 * math.exp(-0.2 * math.sqrt((x**2).mean()))
        + math.e
        - math.exp(np.cos(2 * math.pi * x).mean())
    )


def _rosenbrock(u: np.ndarray) -> float:
    x = 4 * u - 1.7
    return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())


def _lowest(strategy, loss, trials: int) -> float:
    lowest = math.inf
    for _ in range(trials):
        (order,) = strategy.ask(1)
        value = loss(order.recipe)
        lowest = min(lowest, value)
        strategy.tell(Report(order.trial, order.until, "completed", -value))
    return lowest


@pytest.mark.parametrize(("function", "times"), [(_sphere, 100), (_ackley, 5), (_rosenbrock, 5)])
def test_a_hundred_trials_come_many_times_closer_than_random_ones(function, times) -> None:
    def loss(recipe) -> float:
        return function(np.array([getattr(recipe, name) for name in NAMES[:4]]) / 0.9)

    space = _cube(4)
    ratios = [
        _lowest(Random(space, seed), loss, 100) / _lowest(Generations(space, seed), loss, 100)
        for seed in range(3)
    ]
    assert min(ratios) > times


def _mixed(recipe) -> float:
    """The best category has the narrowest basin, and a condition decides which setting counts."""
    loss = {"full": 0.3, "last_k": 0.0, "probe": 0.5}[recipe.adaptation]
    loss += {"adamw": 0.1, "sgd": 0.3, "lion": 0.0, "adam": 0.2}[recipe.optimizer]
    loss += abs(math.log10(recipe.learning_rate) + (4.2 if recipe.adaptation == "full" else 3.3)) / 2
    return loss + (abs(recipe.last_k - 9) / 20 if recipe.adaptation == "last_k" else 0.0)


MIXED = Space.from_dict(
    {
        "model": "m",
        "adaptation": {"values": ["full", "last_k", "probe"], "weights": [0.6, 0.2, 0.2]},
        "last_k": {"low": 1, "high": 12, "when": {"adaptation": "last_k"}},
        "optimizer": ["adamw", "sgd", "lion", "adam"],
        "learning_rate": {"low": 1e-6, "high": 1e-1, "log": True, "prior": 1e-4},
        "batch_size": [8, 16, 32],
    }
)


def test_it_finds_categories_integers_and_what_depends_on_them() -> None:
    for seed in range(3):
        found = _lowest(Generations(MIXED, seed), _mixed, 60)
        assert found < 0.02 < 0.05 < _lowest(Random(MIXED, seed), _mixed, 60)


def test_in_a_list_of_recipes_it_finds_the_best_in_a_fraction_of_the_trials() -> None:
    space = listing(_cube(4), 300)

    def loss(recipe) -> float:
        return _sphere(np.array([getattr(recipe, name) for name in NAMES[:4]]) / 0.9)

    best = min(map(loss, space.recipes))
    for seed in range(3):
        assert _lowest(Generations(space, seed), loss, 40) == best
    random = [_lowest(Random(space, seed), loss, 40) for seed in range(3)]
    assert random.count(best) < 2


def test_it_begins_as_random_search_does() -> None:
    for space in SPACES.values():
        assert [o.recipe for o in Generations(space, 3).ask(6)] == [o.recipe for o in Random(space, 3).ask(6)]


@pytest.mark.parametrize("seed", range(3))
def test_children_of_one_round_keep_apart_and_do_not_wait_for_each_other(seed) -> None:
    space = _cube(4)
    strategy = Generations(space, seed)
    for order in strategy.ask(12):
        strategy.tell(Report(order.trial, 4, "completed", order.recipe.l1))
    out = strategy.ask(8)
    places = np.array([space.encode(order.recipe) for order in out])
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)[np.triu_indices(8, 1)]
    assert len(out) == 8 and apart.min() > 0.11
    assert len(strategy.ask(3)) == 3, "it breeds from what is known while all of these are out"


@given(scores=st.lists(st.one_of(st.floats(-9, 9), st.just(math.nan), st.none()), min_size=12, max_size=25))
def test_the_best_is_always_a_parent_and_failures_never_are(scores) -> None:
    strategy = Generations(_cube(2), 0)
    done: dict[int, float] = {}
    for score in scores:
        (order,) = strategy.ask(1)
        status = "failed" if score is None else "completed"
        strategy.tell(Report(order.trial, 4, status, math.nan if score is None else score))
        if score is not None and math.isfinite(score):
            done[order.trial] = score
    parents = strategy.parents()
    assert set(parents) <= set(done)
    if done:
        assert done[parents[0]] == max(done.values())


def test_steps_shrink_without_improvement_and_a_restart_brings_diversity_back() -> None:
    space = _cube(3)
    strategy = Generations(space, 0)
    places, steps = [], []
    while len(places) < 90:
        (order,) = strategy.ask(1)
        places.append(space.encode(order.recipe))
        # One peak, and nothing else to be found.
        strategy.tell(Report(order.trial, 4, "completed", 1.0 if order.trial == 3 else 0.0))
        steps.append(strategy.step)
    assert min(steps) == SMALLEST_STEP and all(b in (a, a / 2, STEP) for a, b in pairwise(steps))
    restart = next(at for at in range(1, 90) if steps[at] == STEP and steps[at - 1] < STEP)
    fresh = np.array(places[restart + 1 : restart + 1 + FRESH])
    spread = np.linalg.norm(fresh[:, None] - fresh[None], axis=2)[np.triu_indices(FRESH, 1)]
    assert spread.min() > 0.1, "fresh points lie all over the space"
    assert 3 not in strategy.parents(), "after a restart, only trials since then are parents"


def test_improvements_in_a_row_double_the_step() -> None:
    strategy = Generations(_cube(2), 0)
    for trial in range(30):
        (order,) = strategy.ask(1)
        strategy.tell(Report(order.trial, 4, "completed", 0.0 if trial < 20 else float(trial)))
        if trial == 19:
            small = strategy.step
    assert small < strategy.step <= STEP


@pytest.mark.parametrize("name", ["evolution", "evolution:dehb"])
@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 999), space=st.sampled_from(["conditional", "believed", "wide"]))
def test_with_workers_on_their_own_it_keeps_the_contract_and_can_be_restored(name, seed, space) -> None:
    def make():
        return registry.create(name, SPACES[space], seed)

    def score(order, epoch):
        return None if order.trial % 7 == 3 else -abs(math.log10(order.recipe.learning_rate) + 4) - 1 / epoch

    def pace(trial):
        return np.random.default_rng([seed, trial]).uniform(1.0, 5.0)

    def fate(order, begun):
        return reports(order, begun, score)

    alone = Workers(make(), 4, fate, pace).run(trials=18)
    restored = Workers(make(), 4, fate, pace, rebirth(make)).run(trials=18)
    assert alone.orders == restored.orders
    recipes = {order.trial: order.recipe for order in alone.orders}
    assert len(set(recipes.values())) == len(recipes) and sorted(recipes) == list(range(len(recipes)))
    assert all(SPACES[space].contains(recipe) for recipe in recipes.values())


def test_a_small_space_is_used_up_and_then_it_is_finished() -> None:
    space = Space.from_dict({"model": "m", "batch_size": [8, 16, 32], "optimizer": ["sgd", "lion"]})
    for name in ("evolution", "evolution:dehb"):
        strategy = registry.create(name, space, 0)
        workers = Workers(
            strategy, 4, lambda order, begun: reports(order, begun, lambda o, e: o.recipe.batch_size / e)
        ).run()
        assert set(workers.recipes.values()) == set(space.grid())
        assert all(workers.reached(trial) == 4 for trial in workers.recipes), "and all are trained to the end"
