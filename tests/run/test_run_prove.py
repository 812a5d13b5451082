"""How the winner is saved: its temperature, also where what it rests on is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import luthier
import made
from luthier.engine.kept import KeptOutputs
from luthier.evaluate.calibration import fit_temperature
from luthier.run import ship
from luthier.run.progress import Silent

Tiny = Callable[[str], Path]


class Told(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def run(data: Any, model: Path, out: Path, told: Told) -> luthier.Result:
    space = {"learning_rate": 5e-3, "epochs": 3, "batch_size": 8}
    return luthier.tune(
        data, model=str(model), out=out, progress=told, budget="10m", trials=1, repeats=1, strategy="random",
        space=space, threads=1, baselines=["neighbours"], validation=0.3,
    )  # fmt: skip


def test_outputs_that_are_not_kept_are_made_again(
    tiny_model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[float] = []

    def fit(task: Any, outputs: Any, targets: Any) -> float:
        assert len(outputs) == len(targets) >= 50
        fitted.append(fit_temperature(task, outputs, targets))
        return fitted[-1]

    monkeypatch.setattr(KeptOutputs, "load", lambda self, trial: None)
    monkeypatch.setattr(ship, "fit_temperature", fit)
    result = run(made.sentences(240), tiny_model("bert"), tmp_path / "run", Told())
    assert result.predictor.temperature == fitted[0]
    assert result.evaluation.suspects is not None and "train" not in result.evaluation.suspects.found
    assert [one.kind for one in result.evaluation.baselines] == ["neighbours"]


def test_a_head_that_takes_no_temperature_is_saved_without(
    tiny_model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ship, "fit_temperature", lambda *_: 2.0)
    monkeypatch.setattr(ship, "last_linear", lambda head: None)
    told = Told()
    result = run(made.sentences(80), tiny_model("bert"), tmp_path / "run", told)
    assert result.predictor.temperature == 1.0
    assert any("ends in no linear layer" in note and "2.00" in note for note in told.notes)


def test_numbers_have_no_temperature(tiny_model: Tiny, tmp_path: Path) -> None:
    result = run(made.ratings(120), tiny_model("bert"), tmp_path / "run", Told())
    manifest = json.loads((result.folder / "model" / "luthier.json").read_text())
    assert manifest["temperature"] == 1.0
    told = result.evaluation
    assert told.calibration is None and told.suspects is None and told.slices
    assert not (result.folder / "suspects.csv").exists()
    assert told.baselines[0].p is None and "in rmse" in told.worth
