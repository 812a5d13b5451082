"""A store's runs as past studies: which trials count, and which belong together."""

from __future__ import annotations

import math

import pytest

from luthier.recipe import Recipe
from luthier.study.past import past_studies
from luthier.study.store import Store
from luthier.trial import Order, Report


def add_run(store: Store, data: str, scores: list[list[float]], task: str = "text-classification") -> None:
    run = store.create_run(
        name="r", settings={}, seed=0, budget=60.0, task=task, data_fingerprint=data, folder="f", versions={}
    )
    for number, curve in enumerate(scores):
        recipe = Recipe(model="m", epochs=5, learning_rate=1e-4 * (number + 1))
        store.start_trial(run, Order(number, recipe, 5))
        for epoch, score in enumerate(curve, 1):
            store.report(run, Report(number, epoch, "running", score, {"loss": 1.0}, 2.5), spent=1.0)
        status = "completed" if curve else "failed"
        store.finish_trial(
            run, Report(number, len(curve), status, reason="" if curve else "out of memory"), spent=2.0
        )


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "study.sqlite") as opened:
        yield opened


def test_trials_with_epochs_count_with_all_of_them(store) -> None:
    add_run(store, "abc", [[0.1, 0.4], [], [0.3, math.nan, 0.5]])
    (study,) = past_studies(store)
    assert study.name == "text-classification:abc"
    assert [recipe.learning_rate for recipe in study.recipes] == pytest.approx([1e-4, 3e-4])
    assert study.scores[0] == [0.1, 0.4]
    assert study.scores[1][0] == 0.3 and math.isnan(study.scores[1][1]) and study.scores[1][2] == 0.5
    assert study.seconds == [[2.5, 2.5], [2.5, 2.5, 2.5]]


def test_runs_on_the_same_data_for_one_task_are_one_study(store) -> None:
    add_run(store, "abc", [[0.1], [0.2]])
    add_run(store, "abc", [[0.3]])
    add_run(store, "other", [[0.4]])
    add_run(store, "abc", [[-0.4]], task="text-regression")
    add_run(store, "empty", [[]])
    assert sorted(len(study.recipes) for study in past_studies(store)) == [1, 1, 3]


def test_what_started_from_another_trials_weights_does_not_count(store) -> None:
    add_run(store, "abc", [[0.1, 0.4], [0.2]])
    (run,) = store.runs()
    store.start_trial(run.id, Order(2, Recipe(model="m", epochs=3), 3, parent=0))
    store.report(run.id, Report(2, 1, "running", 0.8, {"loss": 1.0}, 2.5), spent=1.0)
    (study,) = past_studies(store)
    assert study.scores == [[0.1, 0.4], [0.2]]


def test_an_empty_store_has_none(store) -> None:
    assert past_studies(store) == []
