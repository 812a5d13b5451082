"""What trials are judged by, and what a study does about it, with an engine that answers at once."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
from study_engine import Engine, Quiet, make, nothing_held_back

from luthier.errors import RunError, SettingError
from luthier.recipe import Recipe
from luthier.search.pareto import Pareto
from luthier.search.scalarisation import Aim
from luthier.space import Space
from luthier.study import study as loop
from luthier.study.constraints import parse_constraint
from luthier.study.objectives import Objectives
from luthier.study.study import Finished
from luthier.trial import Order, Report

MODELS = {"small": (0.90, 2.0), "large": (0.96, 31.0)}
MIXED = Space.from_dict(
    {"model": list(MODELS), "learning_rate": {"low": 1e-5, "high": 1e-3, "log": True}, "epochs": 3}
)


def measure(recipe: Recipe) -> Mapping[str, float]:
    """Longer inputs take longer, and a model that is not known cannot be measured."""
    if recipe.model not in MODELS and recipe.model != "m":
        return {}
    latency = MODELS.get(recipe.model, (0.0, 10.0))[1] * (recipe.max_length or 100) / 100
    return {"latency_ms": latency, "memory_mb": 10 * latency, "size_mb": 90.0}


def resolved(*names: str, limits: tuple[str, ...] = (), maximize: bool = True) -> Objectives:
    metric = "accuracy" if maximize else "rmse"
    return Objectives.resolve(
        names, map(parse_constraint, limits), metric=metric, maximize=maximize, measure=measure
    )


def ended(trial: int, score: float, model: str = "small", loss: float = 1.0) -> Finished:
    return Finished(trial, Recipe(model=model), 0, score, loss, 1, 1.0)


# -- names ---------------------------------------------------------------------------------------------


def test_score_stands_for_the_metric() -> None:
    assert resolved("score", "Latency").names == ("accuracy", "latency")
    assert resolved("accuracy").names == resolved().names == ("accuracy",)
    assert resolved(limits=("score >= 0.9",)).constraints[0].name == "accuracy"


@pytest.mark.parametrize(
    ("names", "limits", "words"),
    [
        (["speed"], [], ["'speed'", "accuracy (or score), latency, memory, size"]),
        (["accuracy", "score"], [], ["'accuracy'", "twice"]),
        ([], ["f1 > 0.9"], ["constraint 'f1'", "accuracy"]),
        ([], ["accuracy < 0.9"], ["of which more is better", "accuracy >= 0.9"]),
    ],
)
def test_what_is_not_there_is_named(names: list[str], limits: list[str], words: list[str]) -> None:
    with pytest.raises(SettingError) as caught:
        resolved(*names, limits=tuple(limits))
    assert all(word in str(caught.value) for word in words)


def test_an_error_is_limited_from_above() -> None:
    objectives = resolved(limits=("rmse < 0.5",), maximize=False)
    assert objectives.missed(-0.4) == "" and "0.6, more than the 0.5" in objectives.missed(-0.6)
    with pytest.raises(SettingError, match="of which less is better"):
        resolved(limits=("rmse > 0.5",), maximize=False)


# -- judging -------------------------------------------------------------------------------------------


def test_without_objectives_the_best_score_wins_and_nothing_is_measured() -> None:
    def never(recipe: Recipe) -> Mapping[str, float]:
        raise AssertionError("was measured")

    for objectives in (
        Objectives(measure=never),
        Objectives.resolve([], [], metric="f1", maximize=True, measure=never),
    ):
        trials = [ended(0, 0.8), ended(1, 0.9, loss=0.3), ended(2, 0.9, loss=0.2), ended(3, 0.9, loss=0.2)]
        best = objectives.best(trials)
        assert best is not None and best.trial == 2
        assert [found.trial for found in objectives.ranked(trials)] == [2, 3, 1, 0]
        assert objectives.refusal(Recipe(model="m")) == "" and not objectives.several
    assert objectives.best([]) is None


def test_the_first_objective_chooses_among_what_keeps_to_the_limits() -> None:
    trials = [ended(0, 0.96, "large"), ended(1, 0.85), ended(2, 0.91), ended(3, 0.90, loss=0.1)]
    assert [f.trial for f in resolved("accuracy", "latency").ranked(trials)] == [0, 2, 3, 1]
    assert [f.trial for f in resolved("latency", "accuracy").ranked(trials)] == [2, 3, 1, 0]
    limited = resolved("latency", limits=("accuracy >= 0.95",))
    assert [f.trial for f in limited.ranked(trials)] == [0, 2, 3, 1]
    nothing = resolved("latency", limits=("accuracy >= 0.99",))
    assert [f.trial for f in nothing.ranked(trials)] == [0, 2, 3, 1]
    assert not any(nothing.feasible(found) for found in trials)


def test_the_front_has_one_trial_of_equals_and_only_feasible_ones() -> None:
    trials = [
        ended(0, 0.96, "large"), ended(1, 0.91, loss=0.4), ended(2, 0.91, loss=0.3), ended(3, 0.90),
        ended(4, 0.90, "large"),
    ]  # fmt: skip
    assert resolved("accuracy", "latency").front(trials) == [0, 2]
    assert resolved("latency").front(trials) == [0, 2]
    assert resolved(limits=("accuracy > 0.95", "size < 1 GB")).front(trials) == [0]


def test_reasons_are_told_in_plain_words() -> None:
    objectives = resolved(limits=("latency < 20 ms", "memory < 0.2 GB", "accuracy > 0.5"))
    assert objectives.refusal(Recipe(model="small")) == ""
    assert objectives.refusal(Recipe(model="large")) == (
        "latency 31 ms, more than the 20 ms allowed; memory 0.31 GB, more than the 0.2 GB allowed"
    )
    assert objectives.refusal(Recipe(model="unknown")) == ""


# -- in a study ----------------------------------------------------------------------------------------


class Scored(Engine):
    """Scores a recipe by its model and rate."""

    def _epoch(self, order: Order, epoch: int, halted: str | None):  # type: ignore[no-untyped-def]
        for report in super()._epoch(order, epoch, halted):
            top = MODELS[order.recipe.model][0]
            score = top - 0.01 * abs(math.log10(order.recipe.learning_rate) + 4)
            yield report if math.isnan(report.score) else type(report)(**vars(report) | {"score": score})


def searched(space: Space) -> type:
    """A `Random` over another space than that of these tests."""
    from luthier.search.random import Random

    return lambda _, seed: Random(space, seed)  # type: ignore[return-value]


def test_what_breaks_a_limit_is_a_failure_that_costs_nothing(tmp_path: Path) -> None:
    engine = Scored([0.0])
    study = make(
        tmp_path, engine, trials=12, room=4, strategy=searched(MIXED),
        objectives=resolved(limits=("latency < 20 ms",)),
    )  # fmt: skip
    told = []
    tell = study.strategy.tell

    def hear(report: Report) -> None:
        told.append(report)
        tell(report)

    study.strategy.tell = hear  # type: ignore[method-assign]
    study.run(nothing_held_back)
    table, recipes = study.store.trials(study.run_id), study.store.recipes(study.run_id)
    large = [number for number, recipe in recipes.items() if recipe.model == "large"]
    assert 2 < len(large) < 10 and len(table) == 12
    refused = table.set_index("number").loc[large]
    assert set(refused["status"]) == {"failed"}
    assert set(refused["reason"]) == {"latency 31 ms, more than the 20 ms allowed"}
    assert refused["seconds"].sum() == 0 and refused["epochs"].sum() == 0
    assert {order.recipe.model for order in engine.trained} == {"small"}
    assert engine.clock[0] == 3 * (12 - len(large))
    assert {report.trial for report in told if report.status == "failed"} == set(large)
    assert all(report.metrics["latency_ms"] in {2.0, 31.0} for report in told)
    assert set(study.store.epochs(study.run_id)["latency_ms"]) == {2.0}


def test_refused_trials_are_no_sign_that_nothing_works(tmp_path: Path) -> None:
    """The first five are refused, and the sixth trains."""
    rates = [1e-4 * (1 + at) for at in range(6)]
    recipes = [{"model": "large", "learning_rate": rate, "epochs": 3} for rate in rates[:5]]
    space = Space.from_dict({"recipes": [*recipes, {"model": "small", "epochs": 3}]})
    for room in (1, 8):
        engine = Scored([0.0])
        study = make(
            tmp_path / str(room), engine, room=room, strategy=searched(space),
            objectives=resolved(limits=("latency < 20 ms",)),
        )  # fmt: skip
        study.run(nothing_held_back)
        assert [order.recipe.model for order in engine.trained] == ["small"]
        assert list(study.store.trials(study.run_id)["status"]).count("failed") == 5
        assert study.best is not None


def test_failures_of_another_kind_still_end_it(tmp_path: Path) -> None:
    study = make(
        tmp_path, Scored([0.0], fails=lambda trial: True), trials=100, room=2, strategy=searched(MIXED),
        objectives=resolved(limits=("latency < 20 ms",)),
    )  # fmt: skip
    with pytest.raises(RunError, match=r"first [34] trials all failed.*made to fail"):
        study.run(nothing_held_back)


def test_a_search_that_finds_nothing_allowed_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "BARREN", 10)
    notes: list[str] = []

    class Listener(Quiet):
        def note(self, message: str) -> None:
            notes.append(message)

    engine = Engine([0.0])
    study = make(
        tmp_path, engine, room=4, listener=Listener(), objectives=resolved(limits=("latency < 5 ms",))
    )
    study.run(nothing_held_back)
    assert engine.trained == [] and study.best is None
    assert 10 <= len(study.store.trials(study.run_id)) < 14
    assert "none kept to the constraints" in notes[-1]


def test_trials_on_the_front_keep_their_weights(tmp_path: Path) -> None:
    engine = Scored([0.0])
    study = make(
        tmp_path, engine, trials=16, keep=2, room=4, strategy=searched(MIXED),
        objectives=resolved("accuracy", "latency"),
    )  # fmt: skip
    study.run(nothing_held_back)
    members = study.objectives.front(study.finished)
    recipes = study.store.recipes(study.run_id)
    assert {recipes[trial].model for trial in members} == {"small", "large"}
    assert set(members) <= engine.keeping and len(engine.keeping) <= 3
    assert study.best is not None and study.best.recipe.model == "large"


def test_a_metric_that_is_missed_is_trained_and_not_chosen(tmp_path: Path) -> None:
    study = make(
        tmp_path, Scored([0.0]), trials=12, room=4, strategy=searched(MIXED),
        objectives=resolved("latency", limits=("accuracy >= 0.95",)),
    )  # fmt: skip
    study.run(nothing_held_back)
    table = study.store.trials(study.run_id)
    assert set(table["status"]) == {"completed"}
    assert study.best is not None and study.best.recipe.model == "large"


def weighing(space: Space, strategy: str) -> type:
    aims = [Aim("", 1.0, 0.9), Aim("latency_ms", 2.0, 31.0)]
    return lambda _, seed: Pareto(space, seed, strategy=strategy, aims=aims)  # type: ignore[return-value]


LONG = Space.from_dict(MIXED.to_dict() | {"epochs": 9})


@pytest.mark.parametrize("strategy", ["random", "hyperband"])
def test_a_search_of_several_objectives_is_continued_as_if_nothing_had_happened(
    tmp_path: Path, strategy: str
) -> None:
    options = {"trials": 14, "room": 3, "strategy": weighing(LONG, strategy)}
    limits = ("latency < 40 ms",)
    calm = make(
        tmp_path / "calm", Scored([0.0]), objectives=resolved("accuracy", "latency", limits=limits), **options
    )
    calm.run(nothing_held_back)
    wanted = calm.store.trials(calm.run_id)[
        ["number", "status", "score", "epochs", "seed", "learning_rate", "model"]
    ]
    run = None
    for stop in (5.0, 17.0, 29.0, math.inf):
        engine = Scored([0.0])
        study = make(
            tmp_path / "killed", engine, run=run,
            objectives=resolved("accuracy", "latency", limits=limits), **options,
        )  # fmt: skip
        run = study.run_id
        listener = Killing(engine, stop)
        study.listener = listener
        with contextlib.suppress(Killed):
            study.run(nothing_held_back)
    found = study.store.trials(study.run_id)[list(wanted.columns)]
    assert json.loads(found.to_json()) == json.loads(wanted.to_json())


class Killed(BaseException):
    pass


class Killing(Quiet):
    """Dies when the made clock comes to a moment."""

    def __init__(self, engine: Engine, at: float) -> None:
        self.engine, self.at = engine, at

    def report(self, report: object, metric: str) -> None:
        if self.engine.clock[0] >= self.at:
            raise Killed
