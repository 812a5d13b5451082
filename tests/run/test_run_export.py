"""Exports of whole runs: checked on the run's own test rows, or on rows that are named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import luthier
import made
from luthier.cli.main import app
from luthier.deploy.runtime import Exported
from luthier.errors import DataError, ModelError, Refused, RunError, SettingError

Tiny = Callable[[str], Path]
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
SPACE = {"learning_rate": 3e-3, "epochs": 2, "batch_size": 16, "adaptation": "lora", "lora_rank": 2}


@pytest.fixture(scope="module")
def first(tiny_model: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with an adapter."""
    folder = tmp_path_factory.mktemp("exported")
    made.sentences(260).to_csv(folder / "data.csv", index=False)
    luthier.tune(
        str(folder / "data.csv"), model=str(tiny_model("bert")), out=folder / "run", budget="10m", trials=1,
        repeats=1, strategy="random", space=SPACE, baselines=["majority"], threads=1, test=0.4,
    )  # fmt: skip
    return folder


@pytest.fixture
def place(first: Path, tmp_path: Path) -> Path:
    """The run with its data, to be changed at will."""
    shutil.copytree(first, tmp_path / "work")
    manifest = json.loads((tmp_path / "work" / "run" / "run.json").read_text())
    manifest["settings"]["data"] = str(tmp_path / "work" / "data.csv")
    (tmp_path / "work" / "run" / "run.json").write_text(json.dumps(manifest))
    return tmp_path / "work"


@pytest.mark.parametrize("merge", [True, False])
def test_a_run_is_exported_with_what_is_known_of_it(first: Path, tmp_path: Path, merge: bool) -> None:
    result = luthier.load(first / "run")
    done = result.export(tmp_path / "x", merge=merge)
    assert done.check.rows == 104 and done.check.source == f"test rows of the run {result.manifest['name']}"
    assert done.check.change is not None
    assert done.check.change.before == pytest.approx(result.evaluation.value)
    values = json.loads((tmp_path / "x" / "export.json").read_text())
    assert values["data_fingerprint"] == result.manifest["data_fingerprint"]
    assert values["run"]["id"] == result.manifest["run"]
    assert values["evaluation"]["metrics"]["accuracy"] == result.evaluation.value
    assert (tmp_path / "x" / "adapter").exists() is not merge
    assert luthier.verify(tmp_path / "x").check.passed


def test_a_model_that_is_not_the_evaluated_one_is_refused(place: Path, tmp_path: Path) -> None:
    path = place / "run" / "predictions.csv"
    table = pd.read_csv(path)
    table["label"] = table["label"].map({"yes": "no", "no": "yes"})
    table.to_csv(path, index=False)
    with pytest.raises(Refused, match="104 of 104 test rows"):
        luthier.export(place / "run", tmp_path / "x")
    table[:-1].to_csv(path, index=False)
    with pytest.raises(RunError, match="not of the test rows"):
        luthier.export(place / "run", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_rows_that_are_gone_or_changed_are_said_to_be(place: Path, tmp_path: Path) -> None:
    made.sentences(260, seed=5).to_csv(place / "data.csv", index=False)
    with pytest.raises(RunError, match="changed since") as caught:
        luthier.export(place / "run", tmp_path / "x")
    assert "--data" in str(caught.value)
    (place / "data.csv").unlink()
    with pytest.raises(RunError, match="cannot be read again"):
        luthier.export(place / "run", tmp_path / "x")
    # Other labelled rows do, and the model alone has made inputs.
    done = luthier.export(place / "run", tmp_path / "x", data=made.sentences(80, seed=6), sample=False)
    assert done.check.rows == 80 and done.stored == 0 and done.check.source == "rows of a table"
    assert luthier.export(place / "run" / "model", tmp_path / "y").check.rows == 0


def test_named_rows_in_int8_are_parted_from_those_ranges_are_measured_on() -> None:
    from luthier.run import export as module
    from luthier.tasks import registry

    frame = made.sentences(100)
    kind, columns = registry.infer(frame, "text", {})
    task = kind(columns)
    task.fit(frame)
    given = module._given(frame, task, "int8")
    assert given.calibration is not None
    assert (len(given.calibration), len(given.frame)) == (25, 75)
    assert not set(given.calibration["__row__"]) & set(given.frame["__row__"])
    assert module._given(frame, task, "fp32").calibration is None


def test_what_is_no_finished_model(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="neither a run folder nor a finished model"):
        luthier.export(tmp_path, tmp_path / "x")
    luthier.export(place / "run" / "model", tmp_path / "x")
    with pytest.raises(SettingError, match="an export already"):
        luthier.export(tmp_path / "x", tmp_path / "y")
    with pytest.raises(DataError, match="no column 'text'"):
        luthier.export(place / "run", tmp_path / "y", data=pd.DataFrame({"words": ["a"], "label": ["yes"]}))
    shutil.rmtree(place / "run" / "model")
    with pytest.raises(RunError, match="no finished model"):
        luthier.export(place / "run", tmp_path / "y")


def invoke(*arguments: Any, code: int = 0) -> Any:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done


def test_the_command_line(first: Path, tmp_path: Path) -> None:
    run, place = first / "run", tmp_path / "x"
    said = invoke("export", run, "--to", place, "--format", "onnx", "--precision", "int8").stdout
    assert (
        "onnx, int8" in said
        and "compared on: 104 test rows" in said
        and "kept in it: 64 of these rows" in said
    )
    assert "accuracy: " in said and "(limit 5e-01)" in said
    again = invoke("verify", place).stdout
    assert "verified" in again and "compared on: 64 test rows" in again
    told = json.loads(invoke("verify", place, "--json").stdout)
    assert told["check"]["relative"] <= 0.5 and told["target"] == "onnx"
    one, other = (json.loads(invoke("predict", where, "a good cat").stdout) for where in (run, place))
    assert one["label"] == other["label"] and one["confidence"] == pytest.approx(other["confidence"], abs=0.1)
    assert "not empty" in invoke("export", run, "--to", place, code=2).stderr
    wrong = invoke("export", run, "--to", tmp_path / "y", "--precision", "int8", code=2).stderr
    assert "What goes together: safetensors with fp32, fp16, bf16 (also with --no-merge); onnx with" in wrong


def test_the_command_line_says_no_with_one(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from luthier.deploy.export import check

    place = tmp_path / "x"
    invoke("export", first / "run", "--to", place, "--precision", "bf16", "--no-sample")
    monkeypatch.setitem(check.LIMITS, "bf16", 1e-9)
    assert "is not what was exported" in invoke("verify", place, code=1).stderr
    no = invoke("export", first / "run", "--to", tmp_path / "y", "--precision", "bf16", code=1).stderr
    assert "was not exported" in no and not (tmp_path / "y").exists()
    (place / "model.safetensors").unlink()
    assert "is missing from the export" in invoke("verify", place, code=2).stderr
    assert "is missing from the export" in invoke("predict", place, "a good cat", code=2).stderr


@pytest.mark.parametrize("target", ["safetensors", "onnx"])
def test_an_ensemble_is_exported_whole(tiny_model: Tiny, tmp_path: Path, target: str) -> None:
    frame = made.sentences(240)
    result = luthier.tune(
        frame, model=str(tiny_model("bert")), out=tmp_path / "run", budget="10m", trials=4, repeats=1,
        strategy="random", baselines=["majority"], threads=1, test=0.3, ensemble="greedy",
        space={"learning_rate": {"low": 1e-4, "high": 3e-3, "log": True}, "epochs": 1, "batch_size": 16},
    )  # fmt: skip
    assert (tmp_path / "run" / "model" / "ensemble.json").is_file()
    done = result.export(tmp_path / "x", format=target)
    assert done.check.passed and done.check.change is not None
    assert done.check.change.before == pytest.approx(result.evaluation.value)
    texts = frame["text"].tolist()[:7]
    ours, theirs = result.predict(texts), Exported.load(tmp_path / "x").predict(texts)
    for one, other in zip(ours, theirs, strict=True):
        assert one["label"] == other["label"]
        assert one["confidence"] == pytest.approx(other["confidence"], abs=1e-4)
    assert luthier.verify(tmp_path / "x").check.passed
