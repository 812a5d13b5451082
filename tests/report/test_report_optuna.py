"""A run written as an Optuna study, read back with Optuna."""

from __future__ import annotations

import math
import sys

import optuna
import pytest

from luthier.errors import MissingExtra, RunError
from luthier.recipe import Recipe
from luthier.report.optuna import export
from luthier.space import Space
from luthier.study.store import Store
from luthier.trial import Order, Report

SPACE = Space.from_dict(
    {
        "model": "m",
        "adaptation": ["full", "last_k", "probe"],
        "last_k": {"low": 1, "high": 4, "when": {"adaptation": "last_k"}},
        "learning_rate": [
            {"low": 1e-3, "high": 3e-2, "log": True, "when": {"adaptation": "probe"}},
            {"low": 2e-5, "high": 3e-4, "log": True},
        ],
        "epochs": [{"value": 30, "when": {"adaptation": "probe"}}, {"low": 3, "high": 6}],
        "dropout": {"values": [None, 0.0, 0.2]},
    }
)
RECIPES = [
    Recipe(model="m", adaptation="probe", learning_rate=1e-2, epochs=30),
    Recipe(model="m", adaptation="last_k", last_k=2, learning_rate=1e-4, epochs=4, dropout=0.2),
    # Beyond the space: epochs were cut to those that fitted, and what came first was the study's own idea.
    Recipe(model="m", adaptation="full", learning_rate=1e-3, epochs=2, pooling="mean"),
    Recipe(model="m", adaptation="full", learning_rate=3e-4, epochs=4),
]


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "study.sqlite") as store:
        run = store.create_run(name="r")
        store.start_trials(run, [Order(at, recipe, recipe.epochs, at) for at, recipe in enumerate(RECIPES)])
        for epoch, score in enumerate([0.5, math.nan, 0.7], 1):
            store.report(run, Report(1, epoch, "running", score, {"loss": 1.0}, 2.0, 100))
        store.report(run, Report(2, 1, "running", 0.9, {"loss": 0.5}, 2.0))
        store.finish_trial(run, Report(0, 30, "completed", 0.6))
        store.finish_trial(run, Report(1, 3, "completed", 0.7, best_epoch=3, trainable=10, parameters=90))
        store.finish_trial(run, Report(2, 1, "stopped", 0.9, reason="the budget ended", best_epoch=1))
        store.finish_trial(run, Report(3, 0, "failed", reason="out of memory"))
        yield store, run


def write(store, run, url, name="r"):
    return export(
        store.trials(run), store.epochs(run), store.recipes(run), SPACE, url, name=name, metric="accuracy"
    )


def test_optuna_reads_what_was_written(store, tmp_path):
    url = write(*store, str(tmp_path / "optuna.db"))
    assert url == f"sqlite:///{tmp_path}/optuna.db"
    study = optuna.load_study(study_name="r", storage=url)
    probe, middle, best, failed = study.trials
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert study.user_attrs["metric"] == "accuracy"
    assert study.best_trial.number == 2 and study.best_value == 0.9
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "COMPLETE", "FAIL"]
    assert middle.params == {
        "adaptation": "last_k", "last_k": 2, "learning_rate": 1e-4, "epochs": 4, "dropout": 0.2,
        "pooling": "native",
    }  # fmt: skip
    assert "last_k" not in probe.params and probe.params["epochs"] == 30
    assert best.params["learning_rate"] == 1e-3 and best.params["pooling"] == "mean"
    assert middle.intermediate_values == {1: 0.5, 3: 0.7}
    assert middle.user_attrs["seconds"] == 6.0 and middle.user_attrs["peak_memory"] == 100
    assert middle.user_attrs["trainable_parameters"] == 10 and middle.user_attrs["best_epoch"] == 3
    assert failed.user_attrs["reason"] == "out of memory" and failed.value is None
    assert best.user_attrs["status"] == "stopped"
    assert all(trial.datetime_start <= trial.datetime_complete for trial in study.trials)


def test_ranges_cover_all_branches_and_trials(store, tmp_path):
    url = write(*store, f"sqlite:///{tmp_path}/optuna.db")
    distributions = optuna.load_study(study_name="r", storage=url).trials[1].distributions
    Float, Int, Categorical = (
        optuna.distributions.FloatDistribution,
        optuna.distributions.IntDistribution,
        optuna.distributions.CategoricalDistribution,
    )
    assert distributions == {
        "adaptation": Categorical(("full", "last_k", "probe")),
        "last_k": Int(1, 4),
        "learning_rate": Float(2e-5, 3e-2, log=True),
        "epochs": Int(2, 30),
        "dropout": Categorical((None, 0.0, 0.2)),
        "pooling": Categorical(("native", "mean")),
    }


def test_optunas_own_analysis_works(store, tmp_path):
    study = optuna.load_study(study_name="r", storage=write(*store, str(tmp_path / "o.db")))
    assert set(study.trials_dataframe()["state"]) == {"COMPLETE", "FAIL"}
    study.ask()  # the study can be gone on with


def test_a_second_study_of_the_name_and_a_storage_that_is_none_are_refused(store, tmp_path):
    write(*store, str(tmp_path / "o.db"))
    with pytest.raises(RunError, match="already has a study named 'r'"):
        write(*store, str(tmp_path / "o.db"))
    write(*store, str(tmp_path / "o.db"), name="other")
    for bad in ("nosuch://x", str(tmp_path / "no" / "folder" / "o.db")):
        with pytest.raises(RunError, match="cannot be written"):
            write(*store, bad)


def test_without_optuna_the_extra_is_named(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"luthier\[optuna\]"):
        write(*store, "sqlite:///o.db")
