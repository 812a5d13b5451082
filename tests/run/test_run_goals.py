"""Which models and structures are measured before a run, which are left out, and what the search is told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from luthier.errors import ModelError, SettingError
from luthier.recipe import Recipe
from luthier.run import goals as module
from luthier.run.goals import Goals, screen, structures
from luthier.run.rank import Candidate
from luthier.run.settings import Settings
from luthier.search.pareto import Pareto
from luthier.search.random import Random
from luthier.search.scalarisation import Aim
from luthier.space import Space
from luthier.study.constraints import parse_constraint
from luthier.study.objectives import Objectives
from luthier.study.study import Finished

LATENCY = {"small": 2.0, "middle": 8.0, "large": 31.0}


class Measured:
    """Stands in for `Footprints`: latency grows with the inputs."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, float]] = {}

    def of(self, recipe: Recipe) -> Mapping[str, float]:
        if recipe.model == "broken":
            raise ModelError("It has no such head.")
        latency = LATENCY[recipe.model] * (recipe.max_length or 128) / 128
        found = {"latency_ms": latency, "memory_mb": 10 * latency, "size_mb": 3 * LATENCY[recipe.model]}
        return self.known.setdefault(f"{recipe.model} {recipe.max_length} {recipe.head}", found)


def made(*objectives: str, limits: tuple[str, ...] = (), models: tuple[str, ...] = tuple(LATENCY)) -> Goals:
    measured = Measured()
    resolved = Objectives.resolve(
        objectives, map(parse_constraint, limits), metric="accuracy", maximize=True, measure=measured.of
    )
    return Goals(resolved, measured, list(models))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _default_space(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's space over a model, or one of two lengths."""

    def search_space(prepared: Any, given: Space | None, names: list[str]) -> Space:
        space = given or Space.from_dict({"max_length": [None, 64], "epochs": 3})
        return space.with_models(names)

    monkeypatch.setattr(module, "search_space", search_space)


def screened(goals: Goals, space: Space | None = None) -> list[str]:
    said: list[str] = []
    screen(goals, None, space, said.append)  # type: ignore[arg-type]
    return said


# -- which models can -----------------------------------------------------------------------------------


def test_without_goals_nothing_is_measured() -> None:
    goals = made(limits=("accuracy > 0.5",))
    assert screened(goals) == [] and goals.models == list(LATENCY) and not goals.footprints.known


def test_what_cannot_be_met_is_left_out_and_said() -> None:
    goals = made(limits=("latency < 5 ms",))
    assert screened(goals) == ["Left out: large: latency 15.5 ms, more than the 5 ms allowed."]
    # The middle one can with short inputs, though not with long ones.
    assert goals.models == ["small", "middle"]
    assert set(goals.footprints.known) == {f"{name} 64 native" for name in LATENCY}


def test_what_none_can_meet_is_an_error_with_the_best_that_could_be_had() -> None:
    with pytest.raises(SettingError) as caught:
        screened(made(limits=("latency < 0.5 ms", "size < 1 GB", "accuracy > 0.5")))
    assert caught.value.message == (
        'No model given can meet "latency < 0.5 ms" and "size < 1 GB": '
        "small has latency 1 ms, more than the 0.5 ms allowed; "
        "middle has latency 4 ms, more than the 0.5 ms allowed; "
        "large has latency 15.5 ms, more than the 0.5 ms allowed."
    )
    assert "max_length" in str(caught.value.hint)


def test_ranges_are_seen_before_the_search() -> None:
    goals = made("accuracy", "latency", limits=("latency < 20 ms",))
    screened(goals)
    assert {found["latency_ms"] for found in goals.footprints.known.values()} == {
        1.0,
        2.0,
        4.0,
        8.0,
        15.5,
        31.0,
    }


@pytest.mark.parametrize(
    ("space", "largest", "wanted"),
    [
        ({"epochs": 3}, False, [("native", None)]),
        ({"max_length": [128, 32, 64]}, False, [("native", 32)]),
        ({"max_length": {"low": 16, "high": 99}}, True, [("native", 16), ("native", 99)]),
        ({"max_length": {"value": 32, "when": {"adaptation": "full"}}, "adaptation": ["full", "bias"]},
         True, [("native", 32), ("native", None)]),
        ({"head": ["linear", "mlp"], "max_length": 64}, False, [("linear", 64), ("mlp", 64)]),
        ({"recipes": [{"model": "m", "max_length": 64}, {"model": "n"}, {"model": "m", "max_length": 32}]},
         False, [("native", 32), ("native", 64)]),
    ],
)  # fmt: skip
def test_structures_are_those_of_the_space_smallest_inputs_first(
    space: dict[str, Any], largest: bool, wanted: list[Any]
) -> None:
    found = structures(Space.from_dict(space).with_models(["m"]), "m", largest=largest)
    assert [(recipe.head, recipe.max_length) for recipe in found] == wanted
    assert {recipe.model for recipe in found} == {"m"}


# -- which models go on -----------------------------------------------------------------------------------


def candidates(**probes: float) -> list[Candidate]:
    ranked = sorted(probes, key=lambda name: -probes[name])
    return [Candidate(name, 1, probes[name], 0.0, 1.0, None) for name in ranked]


def test_with_one_objective_the_two_best_probes_go_on() -> None:
    ranked = candidates(large=0.9, middle=0.85, small=0.8)
    assert made().kept(ranked) == made(limits=("latency < 1 s",)).kept(ranked) == ["large", "middle"]


def test_with_several_objectives_those_that_nobody_beats_go_on_too() -> None:
    assert made("score", "latency").kept(candidates(large=0.9, middle=0.85, small=0.8)) == [
        "large",
        "middle",
        "small",
    ]
    assert made("score", "latency").kept(candidates(large=0.9, small=0.85, middle=0.8)) == ["large", "small"]
    several = {f"m{at}": 0.9 - at / 100 for at in range(9)}
    LATENCY.update({name: 30.0 - at for at, name in enumerate(several)})
    assert made("score", "latency").kept(candidates(**several)) == ["m0", "m1", "m2", "m3"]


# -- what the search is told ---------------------------------------------------------------------------


SPACE = Space.from_dict({"model": "small", "learning_rate": {"low": 1e-5, "high": 1e-3}})


def aims(goals: Goals, trivial: float = 0.5, probe: float | None = 0.8) -> list[Aim]:
    strategy = goals.strategy(Settings(), SPACE, trivial, probe)
    assert isinstance(strategy, Pareto)
    return list(strategy.aims)


def test_a_search_for_scores_is_the_strategy_itself() -> None:
    for goals in (made(), made("accuracy"), made(limits=("latency < 9 s",))):
        assert isinstance(goals.strategy(Settings(strategy="random"), SPACE, 0.5, 0.8), Random)


def test_ranges_come_from_what_was_measured_and_what_the_probe_leaves() -> None:
    goals = made("accuracy", "latency", "size")
    screened(goals)
    assert aims(goals) == [Aim("", 1.0, 0.8), Aim("latency_ms", 1.0, 31.0), Aim("size_mb", 6.0, 93.0)]
    assert aims(goals, probe=None)[0] == Aim("", 1.0, 0.5)
    # Where the probe leaves next to nothing, scores would be all that counted.
    assert aims(goals, probe=0.9999)[0] == Aim("", 1.0, 0.975)


def test_the_metric_is_always_weighed() -> None:
    goals = made("latency")
    screened(goals)
    assert [aim.name for aim in aims(goals)] == ["latency_ms", ""]


def test_an_error_is_weighed_from_nothing_to_the_probe() -> None:
    goals = made("latency")
    goals.objectives = Objectives(("rmse", "latency"), (), "rmse", False, goals.objectives.measure)
    goals.objectives.measures(Recipe(model="small"))
    assert aims(goals, trivial=-2.0, probe=-0.5)[0] == Aim("", 0.0, -0.5)


# -- the table --------------------------------------------------------------------------------------------


def test_the_table_says_what_each_takes_and_which_are_on_the_front() -> None:
    trials = pd.DataFrame({"number": [0, 1, 2, 3], "score": [0.9, 0.8, 0.7, math.nan]})
    recipes = {at: Recipe(model=name) for at, name in enumerate(["middle", "small", "middle", "large"])}
    finished = [Finished(at, recipes[at], 0, trials["score"][at], 0.1, 1, 1.0) for at in range(3)]
    table = made("accuracy", "latency").table(trials, recipes, finished)
    assert list(table["pareto"]) == [True, True, False, False]
    assert list(table["latency_ms"]) == [8.0, 2.0, 8.0, 31.0] and list(table["size_mb"]) == [
        24.0,
        6.0,
        24.0,
        93.0,
    ]
    assert made().table(trials, recipes, finished) is trials


def test_axes_carry_the_least_that_is_allowed() -> None:
    found = made("score", "size", limits=("latency < 1 s", "latency <= 20 ms")).axes
    assert [(axis.column, axis.name, axis.limit) for axis in found] == [
        ("latency_ms", "latency, ms", 20.0), ("size_mb", "size, MB", None)
    ]  # fmt: skip


def test_what_cannot_be_measured_is_left_to_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Footprints", lambda *given: Measured())
    monkeypatch.setattr(module, "search_splits", lambda dataset: {})
    task = SimpleNamespace(metric="accuracy", maximize=True)
    prepared = SimpleNamespace(
        task=task, dataset=SimpleNamespace(root=""), known={}, sources={"small": 1, "broken": 2}
    )
    settings = Settings.parse({"constraints": ["latency < 1 ms"]})
    goals = module.gather(settings, prepared, "cpu", {})  # type: ignore[arg-type]
    assert goals.objectives.refusal(Recipe(model="broken")) == ""
    assert "more than the 1 ms" in goals.objectives.refusal(Recipe(model="small"))
    assert screened(goals) != [] and goals.models == ["broken"]
