"""What a run, an export or a model folder brings to a deployment."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

import luthier
from luthier.deploy.opening import Proof
from luthier.errors import ModelError, Refused, RunError, SettingError
from luthier.run import deployments as verbs
from luthier.run.deployments import candidate


def run_folder(folder: Path, text: str = "weights", accuracy: float = 0.9, finished: bool = True) -> Path:
    manifest = {
        "run": "0123", "name": "reviews", "status": "finished", "task": "text-classification",
        "metric": "accuracy", "score": accuracy, "data_fingerprint": "same data",
        "settings": {"store": "postgresql://somebody:secret@host/db"},
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(manifest))
    if finished:
        model_folder(folder / "model", text)
        values = {"accuracy": accuracy}, {"accuracy": [accuracy - 0.05, accuracy + 0.05]}
        told = {
            "metric": "accuracy",
            "maximize": True,
            "metrics": values[0],
            "intervals": values[1],
            "n": 100,
        }
        (folder / "evaluation.json").write_text(json.dumps(told))
    return folder


def model_folder(folder: Path, text: str = "weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "luthier.json").write_text("{}")
    (folder / "model.safetensors").write_text(text)
    return folder


@pytest.fixture(autouse=True)
def trusting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Models that are not opened, and a registry of the test's own."""
    proof = Proof("model", "text-classification", ("no", "yes"))
    monkeypatch.setattr(verbs, "prove", lambda folder: proof)
    monkeypatch.setenv("LUTHIER_REGISTRY", str(tmp_path / "registry"))


def test_a_run_brings_its_evaluation_fingerprint_and_reference(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    (run / "reference").mkdir()
    (run / "reference" / "reference.json").write_text("{}")
    found = candidate(run)
    assert found.model == run / "model" and found.reference == run / "reference"
    assert found.data_fingerprint == "same data" and found.evaluation is not None
    assert found.run is not None and found.run["name"] == "reviews"


def test_a_runs_settings_stay_where_they_are(tmp_path: Path) -> None:
    done = luthier.deploy_model(run_folder(tmp_path / "run"), "reviews")
    place = tmp_path / "registry" / "reviews"
    assert done.changed and not any(
        b"secret" in path.read_bytes() for path in place.rglob("*") if path.is_file()
    )


def test_a_model_folder_brings_itself_alone(tmp_path: Path) -> None:
    found = candidate(model_folder(tmp_path / "m"))
    assert (found.evaluation, found.data_fingerprint, found.reference) == (None, "", None)


def test_a_runs_model_is_the_same_content_as_the_run(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    assert luthier.deploy_model(run, "reviews").changed
    assert not luthier.deploy_model(run / "model", "reviews").changed


def test_a_run_that_continued_the_one_in_charge_is_held_against_it(tmp_path: Path) -> None:
    assert luthier.deploy_model(run_folder(tmp_path / "run"), "reviews").changed
    later = run_folder(tmp_path / "later", "other weights")
    manifest = json.loads((later / "run.json").read_text())
    manifest |= {"run": "4567", "data_fingerprint": "more data", "from": {"run": "0123", "name": "reviews"}}
    (later / "run.json").write_text(json.dumps(manifest))
    told = json.loads((later / "evaluation.json").read_text())
    told["continued"] = {"old": {"n": 100, "gain": -0.1, "interval": [-0.15, -0.05]}}
    (later / "evaluation.json").write_text(json.dumps(told))
    with pytest.raises(Refused, match="100 test rows of that one"):
        luthier.deploy_model(later, "reviews", role="full")
    done = luthier.deploy_model(later, "reviews", role="full", force=True)
    assert done.state.full == 2 and "worse beyond chance" in done.state.history[-1].reason


def test_an_export_of_it_beside_the_run_comes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_folder(tmp_path / "runs" / "run")
    digest = hashlib.sha256((run / "model" / "luthier.json").read_bytes()).hexdigest()
    for name, precision, of in (
        ("int8", "int8", digest),
        ("other", "fp32", "0" * 64),
        ("x-fp32", "fp32", digest),
    ):
        export = tmp_path / "runs" / name
        export.mkdir()
        values = {"target": "onnx", "precision": precision, "networks": [{"model": of}]}
        (export / "export.json").write_text(json.dumps(values))
    assert candidate(run).graph == candidate(run / "model").graph == tmp_path / "runs" / "x-fp32"
    monkeypatch.setattr("luthier.run.export.export", lambda *_, **__: pytest.fail("there is one already"))
    assert luthier.deploy_model(run, "reviews", onnx=True).changed
    assert (tmp_path / "registry" / "reviews" / "versions" / "1" / "onnx" / "export.json").is_file()
    with pytest.raises(SettingError, match="an export already"):
        luthier.deploy_model(tmp_path / "runs" / "other", "reviews", onnx=True)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no run, no export and no finished model"):
        candidate(tmp_path)
    with pytest.raises(RunError, match="no finished model yet"):
        candidate(run_folder(tmp_path / "unfinished", finished=False))
    with pytest.raises(SettingError, match="'half'"):
        luthier.deploy_model(model_folder(tmp_path / "m"), "reviews", role="half")


def test_the_verbs_in_python(tmp_path: Path) -> None:
    for number, accuracy in enumerate((0.9, 0.92, 0.5), 1):
        luthier.deploy_model(run_folder(tmp_path / f"run{number}", f"weights {number}", accuracy), "reviews")
    assert luthier.promote("reviews", 2, "canary:10%").state.canary.percent == 10
    assert luthier.promote("reviews", 2).state.full == 2
    with pytest.raises(Refused, match="worse beyond chance"):
        luthier.promote("reviews", 3)
    assert luthier.rollback("reviews", reason="just so").version.number == 1
    (told,) = luthier.deployments()
    assert told == luthier.deployments("reviews")[0]
    assert told["full"] == 1 and [row["value"] for row in told["versions"]] == [0.5, 0.92, 0.9]
    assert told["history"][-1]["reason"] == "just so"
