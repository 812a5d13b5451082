"""What a run allows for ensembles: time, disk, and what its objectives rule out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from luthier.ensemble import registry
from luthier.ensemble.base import Average, Candidate, Part
from luthier.ensemble.choice import Gain, Weighed
from luthier.ensemble.registry import Entry
from luthier.recipe import Recipe
from luthier.run import combine
from luthier.run.combine import MOST_PARTS, SHARE, TRAINING_SHARE, Combiner, Tried
from luthier.study.budget import Budget
from luthier.study.study import Finished

RECIPE = Recipe(model="m")
BEST = Finished(3, RECIPE, 0, 0.9, 0.1, 1, 1.0)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def make(tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A combiner of a model of 1 MB, of which a row takes a hundredth of a second."""
    weights = tmp_path / "weights"
    weights.write_bytes(b"0" * 2**20)

    def combiner(name: str = "greedy", total: float = 900.0, measured: tuple[str, ...] = ()) -> Combiner:
        study: Any = SimpleNamespace(
            budget=Budget(total, clock=Clock()),
            objectives=SimpleNamespace(measured=[SimpleNamespace(name=one) for one in measured]),
            interrupted=lambda: None,
        )
        engine: Any = SimpleNamespace(
            sources={"m": SimpleNamespace(weights=[weights], fingerprint="f")},
            cost=SimpleNamespace(predict=lambda *given, rows, **also: SimpleNamespace(once=rows / 100)),
            checkpoints=SimpleNamespace(
                remove=lambda trial: (tmp_path / f"{trial}.safetensors").unlink(missing_ok=True)
            ),
        )
        return Combiner(
            study, engine, name=name, groups=None, rest=lambda best: 0.0, rows=200, place=tmp_path, seed=0,
            say=said.append,
        )  # fmt: skip

    monkeypatch.setattr(Combiner, "_seconds", lambda self, recipe: 0.01)
    return combiner


def test_time_is_held_back_where_something_is_to_be_combined(make: Any, monkeypatch: Any) -> None:
    assert make("none").hold_back(BEST) == 0
    assert make(total=100.0).hold_back(BEST) == pytest.approx(SHARE * 100)
    long = make(total=1e6).hold_back(BEST)
    assert long < 100 and long == make(total=1e7).hold_back(BEST)
    monkeypatch.setitem(registry.BUILT_IN, "greedy", Entry("luthier.ensemble.greedy:greedy", trains=True))
    assert make(total=1e6).hold_back(BEST) == pytest.approx(long + TRAINING_SHARE * 1e6)


def test_there_are_as_many_networks_as_time_and_disk_allow(
    make: Any, said: list[str], monkeypatch: Any
) -> None:
    assert make()._plan(BEST, 200.0)[1] == MOST_PARTS
    # Five seconds go to selecting; a network takes about 2.7.
    ways, parts, selecting, _ = make()._plan(BEST, 20.0)
    assert (ways, parts, selecting) == (["greedy"], 5, 5.0)
    ways, parts, _, _ = make()._plan(BEST, 4.0)
    assert ways == [] and parts == 1 and "does not suffice" in said[-1]
    usage = SimpleNamespace(free=8 * 2**20)
    monkeypatch.setattr(combine.shutil, "disk_usage", lambda place: usage)
    assert make()._plan(BEST, 200.0)[1] == 3


def test_what_a_network_takes_rules_out_several(make: Any, said: list[str], monkeypatch: Any) -> None:
    assert make(measured=("latency", "size"))._plan(BEST, 200.0)[0] == []
    assert "latency and size" in said[-1]
    said.clear()
    assert make("soup", measured=("latency",))._plan(BEST, 4.0)[0] == ["soup"]
    assert said == []


def test_without_a_trial_there_is_nothing_to_combine(make: Any) -> None:
    probe = Finished(-1, RECIPE, 0, 0.9, 0.1, 1, 1.0)
    assert make().combine(probe) == Tried()


def test_weights_that_are_not_shipped_go(make: Any, tmp_path: Path) -> None:
    def weighed(*trials: int) -> Weighed:
        parts = [Part(RECIPE, 0, trial) for trial in trials]
        return Weighed(Candidate("x", parts, Average((1.0,)), []), 0.9, Gain())

    for trial in (3, -11, -12, -13):
        (tmp_path / f"{trial}.safetensors").touch()
    shipped = weighed(-12, 3)
    make().discard(Tried([shipped, weighed(-11, -12), weighed(-13)], shipped))
    assert sorted(path.stem for path in tmp_path.glob("*.safetensors")) == ["-12", "3"]
