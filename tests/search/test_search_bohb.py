"""The model of good and bad recipes: its density is one, and it finds what is planted."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from luthier.recipe import Recipe
from luthier.search import registry
from luthier.search.base import Order, Report
from luthier.search.bohb import ModelSource
from luthier.search.density import Density, Kernels
from luthier.search.workers import Workers, reports
from luthier.space import Space

FLAT = Space.from_dict(
    {
        "model": "m",
        "optimizer": {"values": ["adamw", "sgd", "lion"], "weights": [0.6, 0.3, 0.1]},
        "head_dropout": {"low": 0.0, "high": 0.9},
    }
)
BRANCHED = Space.from_dict(
    {
        "model": ["m", "n", "o"],
        "adaptation": ["full", "last_k", "probe"],
        "last_k": {"low": 1, "high": 12, "when": {"adaptation": "last_k"}},
        "optimizer": ["adamw", "sgd", "lion"],
        "learning_rate": {"low": 1e-6, "high": 1e-1, "log": True},
        "weight_decay": {"low": 1e-5, "high": 1.0, "log": True},
        "head_dropout": {"low": 0.0, "high": 0.6},
        "epochs": 9,
    }
)


def quality(recipe: Recipe) -> float:
    """At most 0, and that at one recipe."""
    found = -4 * ((math.log10(recipe.learning_rate) + 3.5) / 5) ** 2
    found -= ((math.log10(recipe.weight_decay) + 3) / 5) ** 2 + ((recipe.head_dropout - 0.2) / 0.6) ** 2
    found -= 0.15 * (recipe.optimizer != "lion") + 0.2 * (recipe.model != "n")
    return found - (((recipe.last_k - 9) / 12) ** 2 if recipe.adaptation == "last_k" else 0.2)


def curve(order: Order, epoch: int) -> float:
    return quality(order.recipe) - math.exp(-epoch / 3) / 2


def regret(name: str, seed: int, epochs: int) -> float:
    """What is missing to the best there is, after so many epochs of training in all."""
    strategy, left, found = registry.create(name, BRANCHED, seed), epochs, -math.inf
    at: dict[int, int] = {}
    while True:
        (order,) = strategy.ask(1)
        for report in reports(order, at.get(order.trial, 0), curve):
            if report.status == "running":
                left, found = left - 1, max(found, report.score)
            strategy.tell(report)
            if not left:
                return -math.exp(-3) / 2 - found
        at[order.trial] = order.until


def test_it_finds_a_planted_optimum_faster_than_random_search_and_than_hyperband_alone() -> None:
    names = ["random", "hyperband", "hyperband:bohb"]
    regrets = np.array([[regret(name, seed, 300) for name in names] for seed in range(8)])
    random, plain, model = regrets.mean(axis=0)
    assert model < 0.5 * random
    assert model < 0.7 * plain
    assert (regrets[:, 2] < regrets[:, 0]).sum() >= 7


def cells(count: int) -> np.ndarray:
    middles = (np.arange(count) + 0.5) / count
    return np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2)


def canonical(points: np.ndarray) -> np.ndarray:
    return np.stack([FLAT.encode(FLAT.sample(point)) for point in points])


def test_a_density_has_mass_one_and_lies_where_the_points_are() -> None:
    observed = canonical(np.array([[0.2, 0.31], [0.3, 0.35], [0.7, 0.33]]))
    density = Density(Kernels(FLAT), observed)
    values = np.exp(density.log(canonical(cells(60))))
    assert values.mean() == pytest.approx(1.0, abs=0.01)
    near, far = density.log(canonical(np.array([[0.2, 0.33], [0.95, 0.95]])))
    assert near > math.log(1.5) and math.log(0.25) - 1e-9 < far < 0


@pytest.mark.parametrize("edge", [[0.2, 0.01], [0.7, 0.99], [math.nan, 0.03], [0.95, math.nan]])
def test_mass_is_one_at_the_edges_and_where_settings_are_inactive(edge) -> None:
    observed = canonical(np.array([[0.2, 0.1], [0.7, 0.9]]))
    observed = np.vstack([observed, np.where(np.isnan(edge), math.nan, canonical(np.nan_to_num([edge]))[0])])
    values = np.exp(Density(Kernels(FLAT), observed).log(canonical(cells(100))))
    assert values.mean() == pytest.approx(1.0, abs=0.01)


def test_draws_follow_the_density() -> None:
    observed = canonical(np.array([[0.2, 0.1], [0.2, 0.12], [0.7, 0.8], [0.7, 0.85]]))
    density = Density(Kernels(FLAT), observed)
    drawn = density.sample(np.random.default_rng(0), 8_000, 1.0)
    assert ((drawn >= 0) & (drawn <= 1)).all()
    categories, grid = canonical(drawn)[:, 0], canonical(cells(60))
    weights = np.exp(density.log(grid))
    for low, high in [(0, 0.25), (0.25, 0.5), (0.5, 1)]:
        for value in (0.3, 0.75, 0.95):
            inside = (grid[:, 1] >= low) & (grid[:, 1] < high) & np.isclose(grid[:, 0], value)
            share = ((categories == grid[inside][0, 0]) & (drawn[:, 1] >= low) & (drawn[:, 1] < high)).mean()
            assert share == pytest.approx(weights[inside].sum() / weights.sum(), abs=0.02)


def test_an_inactive_setting_says_nothing() -> None:
    kernels = Kernels(BRANCHED)
    at = BRANCHED.dimensions.index("last_k")
    points = np.full((3, len(BRANCHED.dimensions)), 0.5)
    points[:, at] = [0.4, 0.6, math.nan]
    here = np.full((2, len(BRANCHED.dimensions)), 0.5)
    here[1, at] = math.nan
    without, active = kernels.widths(points), Density(kernels, points)
    assert np.isfinite(without).all()
    assert np.isfinite(active.log(here)).all()
    moved = here.copy()
    moved[:, at] = [0.42, math.nan]
    assert active.log(moved)[0] != active.log(here)[0]
    hidden = points.copy()
    hidden[:, at] = math.nan
    unaware = Density(kernels, hidden)
    assert unaware.log(moved)[0] == unaware.log(here)[0]
    assert not np.isnan(unaware.sample(np.random.default_rng(0), 20, 3.0)).any()


def observed(source: ModelSource, count: int, score) -> list[Recipe]:
    recipes = []
    for _ in range(count):
        trial, recipe = source.draw()
        recipes.append(recipe)
        source.observe(trial, 0, score(recipe))
    return recipes


def proposed(source: ModelSource) -> list[int]:
    found: list[int] = source.state()["proposed"]
    return found


def test_it_waits_for_observations_and_leaves_a_third_to_chance() -> None:
    source = ModelSource(BRANCHED, 0)
    observed(source, 12, quality)
    assert proposed(source) == []
    observed(source, 200, quality)
    assert 0.58 < len(proposed(source)) / 200 < 0.75


@pytest.mark.parametrize("score", [lambda recipe: -math.inf, lambda recipe: 0.5])
def test_without_scores_it_models_nothing_and_with_equal_ones_it_goes_on(score) -> None:
    source = ModelSource(BRANCHED, 0)
    recipes = observed(source, 60, score)
    assert len(set(recipes)) == 60
    assert bool(proposed(source)) == (score(recipes[0]) == 0.5)


def test_failures_are_bad_recipes() -> None:
    source = ModelSource(BRANCHED, 0)
    recipes = observed(source, 80, lambda recipe: -math.inf if recipe.optimizer == "sgd" else 0.5)
    late = [recipes[trial].optimizer for trial in proposed(source) if trial >= 40]
    assert late.count("sgd") < 0.2 * len(late) and len(late) > 15


def test_the_highest_rung_with_enough_observations_counts() -> None:
    source = ModelSource(FLAT, 0)
    for _ in range(40):
        trial, recipe = source.draw()
        source.observe(trial, 0, recipe.head_dropout)
        if trial < 12:
            source.observe(trial, 1, -recipe.head_dropout)
    rates = [source.draw()[1].head_dropout for _ in range(40)]
    assert np.median(rates) < 0.3


def test_restored_it_proposes_the_same_recipes() -> None:
    source = ModelSource(BRANCHED, 3)
    recipes = observed(source, 60, quality)
    again = ModelSource(BRANCHED, 3)
    assert again.restore(json.loads(json.dumps(source.state()))) == recipes
    assert len(proposed(source)) > 20
    assert observed(again, 30, quality) == observed(source, 30, quality)


def test_a_small_space_is_used_up_without_repeats() -> None:
    space = Space.from_dict({"model": "m", "batch_size": [8, 16, 32, 64], "epochs": {"low": 3, "high": 12}})
    fate = lambda order, begun: reports(order, begun, lambda o, e: -o.recipe.epochs + e / 100)  # noqa: E731
    workers = Workers(registry.create("hyperband:bohb", space, 0), 2, fate).run(1000)
    assert workers.strategy.finished
    assert len(set(workers.recipes.values())) == len(workers.recipes) == 40


def test_the_model_learns_from_trials_that_reach_rungs() -> None:
    strategy = registry.create("hyperband:bohb", BRANCHED, 0)
    for _ in range(12):
        for order in strategy.ask(9):
            strategy.tell(Report(order.trial, order.until, "completed", quality(order.recipe)))
    seen = strategy.state()["source"]["observed"]
    assert len(seen) == 3 and len(seen[0]["trials"]) > len(seen[2]["trials"]) > 0
    assert set(seen[2]["trials"]) & set(seen[0]["trials"])
