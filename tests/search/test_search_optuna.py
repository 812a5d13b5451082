"""Optuna's samplers as strategies: what they are told, what they are asked, and that a restored one goes on
exactly.
"""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import optuna
import pytest

from luthier.errors import MissingExtra
from luthier.search import conformance, registry
from luthier.search.base import Report
from luthier.search.optuna import OptunaSampler
from luthier.space import Listed, Space

SPACE = Space.from_dict(
    {
        "model": "m",
        "adaptation": ["full", "probe"],
        "learning_rate": [
            {"low": 1e-3, "high": 1e-1, "log": True, "when": {"adaptation": "probe"}},
            {"low": 1e-6, "high": 1e-3, "log": True, "prior": 1e-5},
        ],
        "head_dropout": {"low": 0.0, "high": 0.9},
        "batch_size": {"low": 4, "high": 64},
    }
)
RANGES = Space.from_dict(
    {
        "model": "m",
        "learning_rate": {"low": 1e-6, "high": 1e-1, "log": True},
        "head_dropout": {"low": 0.0, "high": 0.9},
    }
)
State = optuna.trial.TrialState


def score(recipe) -> float:
    return -abs(math.log10(recipe.learning_rate) + 4) - recipe.head_dropout


def drive(strategy, trials):
    recipes = []
    for _ in range(trials):
        (order,) = strategy.ask(1)
        recipes.append(order.recipe)
        strategy.tell(Report(order.trial, 1, "running", score(order.recipe) - 1))
        strategy.tell(Report(order.trial, order.until, "completed", score(order.recipe)))
    return recipes


# Long enough for what each keeps: a model after 10 trials, a second generation of 50.
@pytest.mark.parametrize(
    ("option", "trials"),
    [("tpe", 14), ("gp", 12), ("cmaes", 30), ("nsgaii", 55), ("nsgaiii", 55), ("qmc", 10), ("random", 5)],
)
def test_a_restored_one_goes_on_exactly(option, trials):
    strategy = OptunaSampler(SPACE, 3, option)
    drive(strategy, trials)
    waiting = strategy.ask(2)
    strategy.tell(Report(waiting[1].trial, 1, "running", 0.1))
    restored = OptunaSampler(SPACE, 3, option)
    restored.restore(json.loads(json.dumps(strategy.state())))
    rest = []
    for each in (strategy, restored):
        each.tell(Report(waiting[0].trial, 4, "completed", score(waiting[0].recipe)))
        rest.append(drive(each, 3))
    assert rest[0] == rest[1]
    assert len(set(rest[0])) == 3


def test_what_a_sampler_keeps_in_the_study_is_made_anew():
    """Without sampling again, CMA-ES would begin where its first trial began."""
    strategy = OptunaSampler(SPACE, 3, "cmaes")
    drive(strategy, 30)
    restored = OptunaSampler(SPACE, 3, "cmaes")
    restored.restore(strategy.state())
    kept, again = (
        [trial.system_attrs for trial in each._study.get_trials(deepcopy=False)]
        for each in (strategy, restored)
    )
    assert any("cma:optimizer:0" in attributes for attributes in kept)
    assert [a.get("cma:generation") for a in kept] == [a.get("cma:generation") for a in again]


def test_what_optuna_is_told():
    strategy = OptunaSampler(SPACE, 0)
    orders = strategy.ask(5)
    strategy.tell(Report(0, 1, "running", 0.25))
    strategy.tell(Report(0, 2, "running", math.nan))
    strategy.tell(Report(0, 3, "running", 0.5))
    strategy.tell(Report(0, 3, "completed", 0.5))
    strategy.tell(Report(1, 0, "failed", reason="out of memory"))
    strategy.tell(Report(2, 4, "completed", math.nan))
    strategy.tell(Report(3, 1, "running", 0.75))
    strategy.tell(Report(3, 1, "stopped", 0.75))
    told = strategy._study.get_trials(deepcopy=False)
    assert [trial.state for trial in told] == [
        State.COMPLETE, State.FAIL, State.FAIL, State.PRUNED, State.RUNNING
    ]  # fmt: skip
    assert told[0].value == 0.5
    assert told[0].intermediate_values == {1: 0.25, 3: 0.5}
    assert strategy._study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert orders[0].recipe == SPACE.default()


def test_settings_of_other_branches_are_not_suggested():
    space = Space.from_dict(
        {
            "model": "m",
            "adaptation": ["full", "last_k"],
            "last_k": {"low": 1, "high": 9, "when": {"adaptation": "last_k"}},
            "schedule": [
                {"values": ["linear", "cosine"], "when": {"adaptation": "full"}},
                {"values": ["constant", "cosine"]},
            ],
        }
    )
    strategy = OptunaSampler(space, 1)
    orders = strategy.ask(12)
    found = {order.recipe.adaptation: set() for order in orders}
    for order, trial in zip(orders, strategy._study.get_trials(deepcopy=False), strict=True):
        found[order.recipe.adaptation].add(frozenset(trial.params))
    assert found == {
        "full": {frozenset({"adaptation", "schedule.1"})},
        "last_k": {frozenset({"adaptation", "last_k", "schedule.2"})},
    }


@pytest.mark.parametrize(("option", "space"), [("tpe", SPACE), ("cmaes", RANGES)])
def test_it_learns(option, space):
    """Half of the last trials of a sampler with a model beat nine tenths of those of the random one."""
    rest = np.quantile([score(recipe) for recipe in drive(OptunaSampler(space, 0, "random"), 60)], 0.9)
    found = [score(recipe) for recipe in drive(OptunaSampler(space, 0, option), 80)]
    assert np.median(found[-20:]) > rest


def test_a_repeated_recipe_is_told_its_score_and_a_forbidden_one_fails():
    space = Space.from_dict(
        {
            "model": "m",
            "optimizer": ["adamw", "sgd"],
            "batch_size": [8, 16, 32],
            "forbidden": [{"optimizer": "sgd", "batch_size": 8}],
        }
    )
    strategy = OptunaSampler(space, 2, "random")
    recipes = set()
    while orders := strategy.ask(1):
        recipes.add(orders[0].recipe)
        strategy.tell(Report(orders[0].trial, 4, "completed", float(orders[0].recipe.batch_size)))
    assert strategy.finished
    assert len(recipes) == 5
    told = strategy._study.get_trials(deepcopy=False)
    forbidden = [t for t in told if t.params == {"optimizer": "sgd", "batch_size": 8}]
    assert forbidden and all(t.state == State.FAIL for t in forbidden)
    assert all(t.value == t.params["batch_size"] for t in told if t.state == State.COMPLETE)
    assert len([t for t in told if t.state == State.COMPLETE]) > 5


def test_a_recipe_that_it_is_given_is_kept_to_the_last_digit():
    """Values that no quantile leads to, since a drawn one has six digits."""
    space = Space.from_dict({"model": "m", "learning_rate": {"low": 1e-4 / 3, "high": 1e-2 / 3, "log": True}})
    recipes = [space.default(), *(space.default().model_copy(update={"l1": 1 / at}) for at in (3, 7))]
    strategy, restored = OptunaSampler(Listed(recipes), 0), OptunaSampler(Listed(recipes), 0)
    asked = strategy.ask(3)
    assert {order.recipe for order in asked} == set(recipes)
    restored.restore(json.loads(json.dumps(strategy.state())))
    assert list(restored._numbers) == [order.recipe for order in asked]


def test_of_a_list_every_recipe_is_proposed_once():
    recipes = [SPACE.sample(np.random.default_rng(at).random(4)) for at in range(12)]
    strategy = OptunaSampler(Listed(recipes), 0)
    assert len(set(drive(strategy, 12))) == 12
    assert strategy.ask(1) == [] and strategy.finished


def test_priors_decide_until_there_is_a_model():
    space = Space.from_dict({"model": "m", "optimizer": {"values": ["sgd", "lion"], "weights": [0.95, 0.05]},
                             "head_dropout": {"low": 0.0, "high": 0.9}})  # fmt: skip
    chosen = [order.recipe.optimizer for seed in range(10) for order in OptunaSampler(space, seed).ask(10)]
    assert chosen.count("lion") < 20


def test_notes_name_what_a_sampler_does_not_model():
    assert OptunaSampler(SPACE, 0, "tpe").notes() == []
    assert OptunaSampler(SPACE, 0, "gp").notes() == []
    assert OptunaSampler(SPACE, 0, "cmaes").notes() == [
        "Optuna's cmaes sampler draws these at random: adaptation."
    ]
    for option in ("gp", "nsgaii", "qmc"):
        conditional = OptunaSampler(conformance.CONDITIONAL, 0, option).notes()
        assert conditional == [f"Optuna's {option} sampler draws these at random: last_k."]
    assert OptunaSampler(conformance.CONDITIONAL, 0, "random").notes() == []


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr("luthier.search.optuna.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"luthier\[optuna\]"):
        registry.create("optuna:cmaes", SPACE)
    assert registry.create("optuna:tpe", SPACE).kind == "tpe"
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"luthier\[optuna\]"):
        registry.create("optuna", SPACE)
