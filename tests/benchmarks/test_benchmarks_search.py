"""The comparison over pools: means and standard errors, and what other people's searches are told."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import optuna
import pytest

import outsiders
import search
from luthier.recipe import Recipe
from luthier.search.base import Report
from luthier.space import Listed
from outside.environment import Unavailable
from outsiders import Elsewhere, OptunaPool, Process, Settings

RECIPES = [
    Recipe(model="m", learning_rate=rate, clip_norm=clip, epochs=6)
    for rate in (1e-5, 1e-4, 1e-3, 1e-2)
    for clip in (None, 1.0)
]
SPACE = Listed(RECIPES)


def test_the_standard_error_is_over_datasets():
    means, errors = search.summary(
        {"a": [[0.4, 0.2], [0.6, 0.2]], "b": [[0.1, 0.0], [0.1, 0.2]], "c": [[0.3, 0.3], [0.3, 0.3]]}
    )
    assert means == pytest.approx([0.3, 0.2])
    assert errors == pytest.approx([0.2 / math.sqrt(3), 0.1 / math.sqrt(3)])
    assert np.isnan(search.summary({"a": [[0.4, 0.2]]})[1]).all()


def test_a_row_holds_every_multiple():
    found = search.row(
        "random", {"a": [[0.6, 0.5, 0.4, 0.3, 0.2, 0.1]], "b": [[0.6, 0.5, 0.4, 0.1, 0.2, 0.1]]}
    )
    assert found["value"] == pytest.approx(0.2)
    assert found["peer"] == "0.600±0.000 at 0.5x, 0.500±0.000 at 1x, 0.400±0.000 at 2x, 0.200±0.000 at 8x, " \
        "0.100±0.000 at 16x"  # fmt: skip
    assert found["spread"] == "±0.100 over 2 datasets"
    assert "0.264 at 4x" in found["bar"]


def test_an_environment_that_cannot_be_made_is_said_in_the_row():
    def make(pool, seed):
        raise Unavailable("x cannot be installed: no such package")

    class Pool:
        cost, name = 1.0, "a"

    (found,) = search.measure("x", make, [Pool(), Pool()])
    assert math.isnan(found["value"])
    assert found["peer"] == "x cannot be installed: no such package"


def test_datasets_measured_before_stay_in_the_row(monkeypatch):
    before = search.row("x", {"a": [[0.4] * 6], "b": [[0.2] * 6]})
    monkeypatch.setattr(search.table, "load", lambda name: [before])
    monkeypatch.setattr(search, "simulate", lambda strategy, pool, limit: None)
    monkeypatch.setattr(search, "regret", lambda trace, pool: np.zeros(6))

    class Pool:
        cost, name = 1.0, "b"

    (found,) = search.measure("x", lambda pool, seed: None, [Pool()])
    assert found["regrets"] == {"a": [[0.4] * 6], "b": [[0.0] * 6] * search.SEEDS}
    assert found["value"] == pytest.approx(0.2)


def test_the_nearest_recipe_is_taken_once():
    found = Settings(SPACE)
    asked = found.values(RECIPES[2]) | {"learning_rate": 2e-4}
    assert asked["clip_norm"] in {"0", "1"}
    # First the one of its own clip_norm, then others as near as they come.
    taken = [found.take(asked) for _ in RECIPES]
    assert taken[0] == RECIPES[2] and taken[1] == RECIPES[4]
    assert set(taken) == set(RECIPES)
    assert found.take(asked) is None


def drive(strategy, score, asks):
    """Orders carried out to their end."""
    reached = {}
    for _ in range(asks):
        if not (orders := strategy.ask(1)):
            break
        (order,) = orders
        for epoch in range(reached.get(order.trial, 0) + 1, order.until + 1):
            strategy.tell(Report(order.trial, epoch, "running", score(order.recipe) - 1 / epoch, seconds=2.0))
        reached[order.trial] = order.until
        strategy.tell(Report(order.trial, order.until, "completed", score(order.recipe) - 1 / order.until))


def test_optuna_is_told_of_the_run_that_was_trained():
    strategy = OptunaPool(SPACE, 0, lambda seed: optuna.samplers.RandomSampler(seed=seed))
    drive(strategy, lambda recipe: recipe.learning_rate, 20)
    assert strategy.finished
    complete = strategy.study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    rates = [trial.params["learning_rate"] for trial in complete]
    assert sorted(rates) == sorted(recipe.learning_rate for recipe in RECIPES)
    assert [trial.value for trial in complete] == pytest.approx([rate - 1 / 6 for rate in rates])


def test_a_search_with_a_model_begins_with_random_runs_of_the_pool():
    pool = Listed([RECIPES[0].model_copy(update={"l1": at / 100}) for at in range(40)])
    strategy = OptunaPool(pool, 1, lambda seed: optuna.samplers.RandomSampler(seed=seed))
    drive(strategy, lambda recipe: recipe.l1, 12)
    trained = list(strategy.recipes.values())
    assert trained[:10] == strategy.initial and len(set(trained)) == 12
    told = strategy.study.get_trials()
    assert [trial.state.name for trial in told] == ["COMPLETE"] * 10 + ["FAIL", "COMPLETE"] * 2
    first = [strategy.settings.initial(seed)[0] for seed in range(20)]
    assert len(set(first)) > 10


ECHO = """
import json, sys
heard = []
print("a library's greeting", flush=True)
for line in sys.stdin:
    said = json.loads(line)
    if "ask" in said:
        count = sum("ask" in each for each in heard)
        answers = [{"trial": 0, "until": 2, "index": 3}, {"trial": 0, "until": 9}, {"finished": True}]
        print(json.dumps(answers[count]), flush=True)
    heard.append(said)
open(sys.argv[0] + ".heard", "w").write(json.dumps(heard))
"""


@pytest.fixture
def process(monkeypatch, tmp_path):
    monkeypatch.setattr(outsiders, "interpreter", lambda requirements: sys.executable)
    monkeypatch.setattr(outsiders, "HERE", tmp_path)
    (tmp_path / "echo.py").write_text(ECHO)
    return Process("echo.py", [])


def test_a_search_elsewhere_is_asked_and_told(process, tmp_path):
    strategy = Elsewhere(SPACE, 5, process, {"facade": "hpo"})
    drive(strategy, lambda recipe: 2.0, 5)
    assert strategy.finished
    assert strategy.recipes == {0: RECIPES[3]}
    process._process.stdin.close()
    process._process.wait(10)
    heard = json.loads((tmp_path / "echo.py.heard").read_text())
    start = heard[0]["start"]
    assert (start["seed"], start["size"], start["epochs"], start["facade"]) == (5, 8, 6, "hpo")
    assert {each["name"] for each in start["dimensions"]} == {"learning_rate", "clip_norm"}
    told = [each["tell"] for each in heard if "tell" in each]
    assert [each["epoch"] for each in told] == [1, 2, 2, 3, 4, 5, 6, 6]
    assert told[-1]["status"] == "completed" and told[-1]["seconds"] == 8.0
    assert told[-1]["score"] == pytest.approx(2 - 1 / 6)


def test_a_process_that_ends_is_an_error(process, tmp_path):
    (tmp_path / "dead.py").write_text("import sys; sys.exit(3)")
    strategy = Elsewhere(SPACE, 0, process, {})
    strategy.process = Process("dead.py", [])
    strategy.process._process.wait(10)
    with pytest.raises(Unavailable, match=r"dead\.py ended with code 3"):
        strategy.ask(1)
    process._process.stdin.close()
