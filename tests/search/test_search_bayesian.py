"""The Bayesian strategy: that it learns from scores, failures, costs and unfinished trials, and keeps to the
contract.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from luthier.recipe import Recipe
from luthier.search import judge as judge_module
from luthier.search import registry
from luthier.search.bayesian import MANY, Bayesian
from luthier.search.candidates import everything
from luthier.search.encoding import Encoding
from luthier.search.judge import Judge
from luthier.search.observations import Observations
from luthier.search.random import Random
from luthier.space import Listed, Space
from luthier.trial import Report

SHARES = ("dropout", "head_dropout", "lora_dropout", "label_smoothing")
CUBE = Space.from_dict({"model": "m", "epochs": 1} | {name: {"low": 0.0, "high": 0.9} for name in SHARES})


def _tell(strategy, order, score: float, seconds: float = 1.0, status="completed") -> None:
    strategy.tell(Report(order.trial, order.until, "running", score, seconds=seconds))
    strategy.tell(Report(order.trial, order.until, status, score))


def _run(strategy, score, trials: int, seconds=lambda recipe: 1.0) -> list[Recipe]:
    """Trials one after another; a score of None is a failure."""
    recipes = []
    while len(recipes) < trials and (orders := strategy.ask(1)):
        value = score(orders[0].recipe)
        if value is None:
            strategy.tell(Report(orders[0].trial, 0, "failed", reason="out of memory"))
        else:
            _tell(strategy, orders[0], value, seconds(orders[0].recipe))
        recipes.append(orders[0].recipe)
    return recipes


def _valley(recipe: Recipe) -> float:
    """A narrow, turned valley with its bottom, 0, away from the centre."""
    a, b, c, d = ((getattr(recipe, name) / 0.9) for name in SHARES)
    return -((a - 0.2) ** 2 + 10 * (b - 0.3 - 0.5 * (a - 0.2)) ** 2 + 5 * (c - 0.8) ** 2 + 0.1 * d)


@pytest.mark.parametrize(("option", "times"), [("gp", 20), ("trees", 2)])
def test_it_comes_closer_to_the_optimum_than_random_search(option, times) -> None:
    def regret(kind) -> float:
        return float(np.mean([-max(map(_valley, _run(kind(seed), _valley, 30))) for seed in range(2)]))

    assert regret(lambda seed: Bayesian(CUBE, seed, option)) * times < regret(lambda seed: Random(CUBE, seed))


def test_it_finds_the_branch_and_the_place_in_it() -> None:
    space = Space.from_dict(
        {
            "model": "m",
            "epochs": 1,
            "adaptation": ["full", "probe", "lora"],
            "learning_rate": [
                {"low": 1e-4, "high": 1e-1, "log": True, "when": {"adaptation": "lora"}},
                {"low": 1e-6, "high": 1e-3, "log": True},
            ],
            "lora_rank": {"values": [4, 8, 16, 32], "when": {"adaptation": "lora"}},
        }
    )

    def score(recipe: Recipe) -> float:
        centre, gain = {"full": (-4, 0.0), "probe": (-3, -0.1), "lora": (-1.5, 0.2)}[recipe.adaptation]
        rank = 0.1 * (recipe.lora_rank == 32) if recipe.adaptation == "lora" else 0.0
        return gain + rank - 0.1 * (math.log10(recipe.learning_rate) - centre) ** 2

    for option in ("gp", "trees"):
        recipes = _run(Bayesian(space, 1, option), score, 30)
        assert max(map(score, recipes)) > 0.28
        assert sum(recipe.adaptation == "lora" for recipe in recipes[10:]) > 10


def test_a_batch_spreads_and_knows_what_runs() -> None:
    for option in ("gp", "trees"):
        strategy = Bayesian(CUBE, 0, option)
        _run(strategy, _valley, 12)
        orders = [*strategy.ask(3), *strategy.ask(3)]
        assert len({order.recipe for order in orders}) == 6
        places = np.array([CUBE.encode(order.recipe) for order in orders])
        apart = np.linalg.norm(places[:, None] - places[None], axis=-1)[np.triu_indices(6, 1)]
        assert apart.min() > 0.01
        _tell(strategy, orders[4], 0.0)
        assert strategy.ask(1)[0].recipe not in {order.recipe for order in orders}


def test_of_equals_it_prefers_the_cheap() -> None:
    space = Space.from_dict(
        {"model": "m", "epochs": 1, "batch_size": [16, 32], "head_dropout": {"low": 0.0, "high": 0.9}}
    )

    def score(recipe: Recipe) -> float:
        return math.sin(5 * recipe.head_dropout)

    def seconds(price: float) -> float:
        """What the modelled trials take."""

        def cost(recipe: Recipe) -> float:
            return price if recipe.batch_size == 16 else 1.0

        runs = [_run(Bayesian(space, seed), score, 14, cost)[4:] for seed in range(3)]
        return sum(100.0 if recipe.batch_size == 16 else 1.0 for run in runs for recipe in run)

    assert seconds(100.0) < 0.6 * seconds(1.0)


def _curves(told: dict[float, float]) -> Judge:
    """Six finished trials whose score after half of the training tells the whole, and some that were stopped
    there.
    """
    space = Space.from_dict({"model": "m", "epochs": 4, "head_dropout": {"low": 0.0, "high": 0.96}})
    seen = Observations()

    def begin(place: float, *reports: tuple[int, float]) -> int:
        trial = seen.add(space.sample(np.array([place])))
        for epoch, score in reports:
            seen.tell(Report(trial, epoch, "running", score))
        return trial

    for place in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5):
        final = 0.5 + place
        trial = begin(place, (1, final - 0.3), (2, final - 0.2), (3, final - 0.1), (4, final))
        seen.tell(Report(trial, 4, "completed", final))
    for place, score in told.items():
        seen.tell(Report(begin(place, (2, score)), 2, "stopped", score))
    return Judge(Encoding(space), seen, "gp", 0)


def test_what_a_stopped_trial_had_reached_foretells_its_end() -> None:
    bad, good, none = _curves({0.8: 0.2}), _curves({0.8: 0.9}), _curves({})
    at = bad._encoding.points([bad._encoding.space.sample(np.array([0.8]))]).rows
    low, high, unknown = (judge._scores.predict(at) for judge in (bad, good, none))
    assert low[0][0] < 0.6 < high[0][0]
    assert high[0][0] > 0.9 + 0.05
    assert low[0][0] < unknown[0][0] - 0.1


def test_a_region_that_fails_is_avoided() -> None:
    space = Space.from_dict(
        {
            "model": "m",
            "epochs": 1,
            "learning_rate": {"low": 1e-6, "high": 1e-1, "log": True},
            "head_dropout": {"low": 0.0, "high": 0.9},
        }
    )

    def score(recipe: Recipe) -> float | None:
        # The best is near the edge of what fails, so that avoiding it is not the same as going elsewhere.
        return None if recipe.learning_rate > 1e-3 else math.log10(recipe.learning_rate) - recipe.head_dropout

    for option in ("gp", "trees"):
        recipes = _run(Bayesian(space, 0, option), score, 30)
        failed = sum(recipe.learning_rate > 1e-3 for recipe in recipes[10:])
        assert failed <= 6, f"{failed} of 20 failed with {option}"
        assert max(score(r) for r in recipes if score(r) is not None) > -3.3


def test_nothing_but_failures_and_nothing_but_ties_are_searched_evenly() -> None:
    for outcome in (lambda recipe: None, lambda recipe: 0.5, lambda recipe: math.nan):
        recipes = _run(Bayesian(CUBE, 0), outcome, 33)
        places = np.array([CUBE.encode(recipe) for recipe in recipes[1:]])
        counts = np.array([np.histogram(column, bins=4, range=(0, 1))[0] for column in places.T])
        assert counts.min() >= 7 and counts.max() <= 9


def _believing(prior: float | None) -> Space:
    beliefs = {} if prior is None else {"prior": prior}
    rates = {
        name: {"low": 1e-4, "high": 1.0, "log": True} | beliefs
        for name in ("learning_rate", "weight_decay", "l1", "l2_start")
    }
    return Space.from_dict({"model": "m", "epochs": 1} | rates)


def test_a_right_belief_helps_and_a_wrong_one_is_overcome() -> None:
    def score(recipe: Recipe) -> float:
        settings = (recipe.learning_rate, recipe.weight_decay, recipe.l1, recipe.l2_start)
        return -sum((math.log10(setting) + 1.2) ** 2 for setting in settings)

    def regret(prior: float | None, trials: int) -> float:
        runs = [_run(Bayesian(_believing(prior), seed), score, trials) for seed in range(2)]
        return float(np.mean([-max(map(score, recipes)) for recipes in runs]))

    assert regret(0.1, 6) < 0.5 * regret(None, 6)
    # The belief is three of the four decades off in every setting.
    assert regret(2e-4, 30) < max(0.05, 3 * regret(None, 30))


def test_a_finite_space_is_used_up_without_a_repeat() -> None:
    space = Space.from_dict(
        {
            "model": "m",
            "epochs": 1,
            "optimizer": {"values": ["sgd", "adamw", "lion"], "weights": [0.98, 0.01, 0.01]},
            "batch_size": [8, 16, 32, 64],
            "forbidden": [{"optimizer": "lion", "batch_size": 64}],
        }
    )
    for option in ("gp", "trees"):
        strategy = Bayesian(space, 0, option)
        recipes = _run(strategy, lambda recipe: float(recipe.batch_size), 20)
        assert set(recipes) == set(space.grid()) and len(recipes) == 11
        assert strategy.finished and strategy.ask(1) == []


def test_a_list_of_recipes_is_searched_for_its_best() -> None:
    listed = [CUBE.sample(point) for point in np.random.default_rng(0).random((200, 4))]
    space = Listed(listed)
    assert everything(space) == listed
    recipes = _run(Bayesian(space, 0), _valley, 25)
    assert set(recipes) <= set(listed) and len(set(recipes)) == 25
    assert max(map(_valley, recipes)) == max(map(_valley, listed))


def test_the_choice_of_surrogate() -> None:
    names = [name for name, field in Recipe.model_fields.items() if field.annotation is float]
    wide = Space.from_dict({"model": "m"} | {name: {"low": 0.1, "high": 0.9} for name in names})
    kinds = ["sgd", "adam", "adamw", "lion", "rmsprop", "adafactor"]
    inner = {
        name: {"low": 0.1, "high": 0.9, "when": {"optimizer": kind}}
        for name, kind in zip(names, kinds * 9, strict=False)
    }
    branched = Space.from_dict({"model": "m", "optimizer": kinds} | inner)
    assert Bayesian(wide).kind == "gp"
    assert Bayesian(branched).kind == "trees"
    assert Bayesian(branched, 0, "gp").kind == "gp"
    assert Bayesian(wide, 0, "trees").kind == "trees"
    assert isinstance(registry.create("bayesian:trees", wide), Bayesian)


def test_many_dimensions_go_to_the_trees(monkeypatch) -> None:
    monkeypatch.setattr("luthier.search.bayesian.MANY", len(CUBE.dimensions) - 1)
    assert Bayesian(CUBE).kind == "trees"
    assert MANY >= 20


def test_saved_in_the_middle_of_a_batch_it_goes_on_the_same() -> None:
    def start() -> Bayesian:
        strategy = Bayesian(CUBE, 5)
        _run(strategy, _valley, 9)
        for order in strategy.ask(3)[:2]:
            strategy.tell(Report(order.trial, 1, "running", np.float64(-0.3), seconds=np.float32(2)))
        return strategy

    alone, restored = start(), Bayesian(CUBE, 5)
    restored.restore(json.loads(json.dumps(start().state())))
    assert [order.recipe for order in alone.ask(2)] == [order.recipe for order in restored.ask(2)]


def test_more_observations_than_a_gaussian_process_holds() -> None:
    seen = Observations()
    for point in np.random.default_rng(0).random((300, 4)):
        trial = seen.add(CUBE.sample(point))
        seen.tell(Report(trial, 1, "completed", _valley(seen.trials[trial].recipe)))
    judge = Judge(Encoding(CUBE), seen, "gp", 0)
    assert len(judge._x) == 256
    best = max(range(300), key=lambda trial: seen.trials[trial].score)
    assert best in judge._trials and 299 in judge._trials


def test_on_a_plateau_it_looks_elsewhere(monkeypatch) -> None:
    def places(margin: float) -> int:
        """Different steps of a staircase that are looked at."""
        monkeypatch.setattr("luthier.search.judge._MARGIN", margin)
        seen: set[tuple[float, ...]] = set()

        def stairs(recipe: Recipe) -> float:
            step = np.floor(CUBE.encode(recipe) * 3)
            seen.add(tuple(step))
            return -float(((step - 1) ** 2).sum())

        _run(Bayesian(CUBE, 0), stairs, 40)
        return len(seen)

    assert places(judge_module._MARGIN) > 1.5 * places(0.0)
