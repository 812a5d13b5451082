"""What is exported repeats the model and is whole, or is not there."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import deploy_models
import numpy as np
import pytest
import torch
from deploy_models import Finish, held_out
from safetensors.torch import load_file, save_file

from luthier.deploy.export import export as exporting
from luthier.deploy.export import networks, registry
from luthier.deploy.export import sample as samples
from luthier.deploy.export.check import Change, compare
from luthier.deploy.export.export import HeldOut, export, same_answer, verify
from luthier.deploy.export.plain import Safetensors
from luthier.deploy.predictor import Predictor
from luthier.deploy.runtime import Exported
from luthier.ensemble.base import Average
from luthier.errors import MissingExtra, ModelError, Refused, RunError, SettingError

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


TASKS = [
    ("distilbert", ""),
    ("electra", "token-classification"),
    ("bert", "text-regression"),
    ("roberta", "multi-label-classification"),
    ("vit", ""),
]


@pytest.mark.parametrize(("kind", "task"), TASKS, ids=str)
def test_every_task_predicts_from_the_export_alone(
    finished: Finish, tmp_path: Path, kind: str, task: str
) -> None:
    made = finished(kind, task)
    expected = Predictor.load(made.folder, "cpu").predict(made.frame[:9], made.root)
    done = export(made.folder, tmp_path / "here", held_out=held_out(made))
    assert done.check.passed and done.check.relative < 1e-5 and done.check.rows == 70
    assert done.check.change is not None and done.check.change.fall == 0 == done.check.change.flips
    assert done.stored == samples.STORED and done.check.made >= 2
    place = shutil.move(tmp_path / "here", tmp_path / "there")
    answers = Exported.load(place).predict(made.frame[:9], made.root)
    assert [next(iter(row)) for row in answers] == [next(iter(row)) for row in expected]
    for one, other in zip(answers, expected, strict=True):
        first = next(iter(one))
        if isinstance(one[first], float):
            assert one[first] == pytest.approx(other[first], abs=1e-5)
        else:
            assert str(one[first])[:40] == str(other[first])[:40]
    assert verify(Path(place)).check.rows == samples.STORED
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize("kind", ["distilbert", "resnet"])
def test_onnx_in_int8_loses_little_and_is_smaller(finished: Finish, tmp_path: Path, kind: str) -> None:
    made = finished(kind)
    done = export(made.folder, tmp_path / "x", target="onnx", precision="int8", held_out=held_out(made))
    assert 0 < done.check.relative < 0.5
    assert done.check.change is not None and done.check.change.flips < 0.2
    again = verify(tmp_path / "x")
    assert again.check.relative <= done.check.relative
    graph = {node.op_type for node in _onnx(tmp_path / "x" / "model.onnx").graph.node}
    assert ("DynamicQuantizeLinear" in graph) == (kind == "distilbert")


def test_the_sample_can_be_left_out(finished: Finish, tmp_path: Path) -> None:
    made = finished("distilbert")
    done = export(made.folder, tmp_path / "x", held_out=held_out(made), keep_rows=False)
    assert done.check.rows == 70 and done.stored == 0
    kept = samples.load(tmp_path / "x" / samples.FILE)
    assert kept.rows == 0 == len(kept.truths) and kept.made == done.check.made
    again = verify(tmp_path / "x")
    assert again.check.rows == 0 and again.check.change is None and again.check.passed


def test_without_rows_made_inputs_are_compared(finished: Finish, tmp_path: Path) -> None:
    done = export(finished("distilbert").folder, tmp_path / "x", precision="fp16")
    assert done.check.rows == 0 and done.check.made == 4 and 0 < done.check.relative < 5e-3


def test_several_networks_become_one(
    finished: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ensembles will go through: each network in a folder of its own, their outputs joined."""
    made = finished("distilbert")
    other = tmp_path / "other"
    shutil.copytree(made.folder, other)
    both = networks.Networks((made.folder, other), Average((0.25, 0.75)))
    monkeypatch.setattr(networks, "networks", lambda directory: both)
    done = export(made.folder, tmp_path / "x", held_out=held_out(made))
    assert {path.name for path in (tmp_path / "x" / "parts").iterdir()} == {"0", "1"}
    outputs = [Predictor.load(folder, "cpu").outputs(made.frame[:5]) for folder in both.folders]
    found = Exported.load(tmp_path / "x").outputs(made.frame[:5])
    np.testing.assert_allclose(found, made.task.blend(outputs, (0.25, 0.75)), atol=1e-5)
    assert done.check.change is not None and verify(tmp_path / "x").check.passed
    assert export(made.folder, tmp_path / "y").check.rows == 0


# -- refused ---------------------------------------------------------------------------------


class Wrong(Safetensors):
    """Writes a network whose classifier is a little off."""

    by = 0.01

    def write(self, job: Any) -> None:
        super().write(job)
        path = job.directory / "model.safetensors"
        tensors = load_file(path)
        tensors["classifier.weight"] += self.by
        save_file(tensors, path, metadata={"format": "pt"})


def test_what_does_not_repeat_the_model_is_not_there(
    finished: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = finished("distilbert")
    monkeypatch.setattr(registry, "get", lambda name: Wrong())
    with pytest.raises(Refused, match="its logits differ from the evaluated model's") as caught:
        export(made.folder, tmp_path / "x", held_out=held_out(made))
    assert caught.value.exit_code == 1
    assert not list(tmp_path.iterdir())


def test_a_worse_metric_is_refused_beyond_noise() -> None:
    def change(interval: tuple[float, float], fall: float = 0.03) -> Change:
        return Change("accuracy", 0.9, 0.87, fall, interval, 0.01, 0.05)

    assert change((-0.01, 0.07)).holds
    assert not change((0.015, 0.05)).holds
    assert not change((float("nan"), float("nan"))).holds
    assert change((float("nan"), float("nan")), 0.005).holds


def test_logits_of_tokens_that_are_padding_do_not_count() -> None:
    expected, mask = torch.zeros(1, 3, 2), torch.tensor([[1, 1, 0]])
    actual = expected.clone()
    actual[0, 2] = 5
    assert compare(expected, actual, mask) == (0, 0)
    assert compare(expected, actual) == (5, 5)
    assert compare(10 * expected + 10, actual + 9, None)[1] == pytest.approx(0.4)
    assert np.isinf(compare(expected, actual[:, :2])[1])


def test_a_model_other_than_the_one_on_record_is_refused(finished: Finish, tmp_path: Path) -> None:
    made = finished("distilbert")
    frame = made.frame[:70]
    answers = [row["label"] for row in Predictor.load(made.folder, "cpu").predict(frame)]
    about = HeldOut(frame, made.root, "made rows", recorded=answers)
    export(made.folder, tmp_path / "good", held_out=about)
    swapped = ["yes" if answer == "no" else "no" for answer in answers[:3]] + answers[3:]
    about = HeldOut(frame, made.root, "made rows", recorded=swapped)
    with pytest.raises(Refused, match="3 of 70 test rows"):
        export(made.folder, tmp_path / "bad", held_out=about)
    assert not (tmp_path / "bad").exists()


SPAN = {"type": "X", "start": 0, "end": 1}
SPANS = "[{'text': 't', 'type': 'X', 'start': 0, 'end': 1, 'confidence': 0.5}]"


@pytest.mark.parametrize(
    ("answer", "recorded", "same"),
    [
        ("yes", "yes", True),
        ("yes", "no", False),
        (1.5, "1.5004", True),
        (1.5, "1.6", False),
        (1.5, "many", False),
        (["a", "b"], "['a', 'b']", True),
        ([], "[]", True),
        ([], "['a']", False),
        ([SPAN], SPANS, True),
        ([SPAN | {"end": 2}], SPANS, False),
        ([], SPANS, False),
        ([SPAN], SPANS[:-1] + ", {'type': 'X', 'start': 2, 'end': 3}]", False),
    ],
)  # fmt: skip
def test_answers_and_their_record(answer: Any, recorded: str, same: bool) -> None:
    assert same_answer(answer, recorded) is same


@pytest.mark.parametrize(
    ("target", "precision", "merge", "words"),
    [
        ("onnx", "bf16", True, "'bf16' does not go with the format 'onnx'"),
        ("torch", "int8", True, "'int8' does not go with the format 'torch'"),
        ("torch", "fp32", False, "--no-merge"),
        ("gguf", "fp32", True, "no export format 'gguf'"),
        ("onnx", "fp8", True, "'fp8' is no precision that is known"),
    ],
)
def test_what_does_not_go_together(
    finished: Finish, tmp_path: Path, target: str, precision: str, merge: bool, words: str
) -> None:
    with pytest.raises(SettingError, match=words) as caught:
        export(finished("distilbert").folder, tmp_path / "x", target=target, precision=precision, merge=merge)
    assert "onnx with fp32, fp16, int8; torch with fp32, bf16" in str(caught.value)


def test_int8_wants_rows(finished: Finish, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="only labelled rows"):
        export(finished("distilbert").folder, tmp_path / "x", target="onnx", precision="int8")
    made = finished("convnext")
    with pytest.raises(SettingError, match="measure ranges on"):
        about = HeldOut(made.frame[:20], made.root, "made rows")
        export(made.folder, tmp_path / "x", target="onnx", precision="int8", held_out=about)


def test_a_package_that_is_missing_is_named(
    finished: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luthier.deploy.export.graph.Onnx.packages", ("onnx", "no_such_runtime"))
    with pytest.raises(MissingExtra, match="no_such_runtime") as caught:
        export(finished("distilbert").folder, tmp_path / "x", target="onnx")
    assert "luthier[export]" in str(caught.value)


def test_without_an_adapter_there_is_nothing_to_keep_apart(finished: Finish, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no adapter"):
        export(finished("distilbert").folder, tmp_path / "x", merge=False)


def test_a_base_that_changed_is_refused(tmp_path: Path) -> None:
    made = deploy_models.finish(tmp_path, "bert", adaptation="lora", lora_rank=2)
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "base" / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-6}))
    with pytest.raises(ModelError, match="changed since the adapter was trained"):
        export(made.folder, tmp_path / "x", merge=False)


@pytest.mark.parametrize("there", ["file", "full", "link"])
def test_an_existing_folder_is_left_alone(finished: Finish, tmp_path: Path, there: str) -> None:
    place = tmp_path / "x"
    if there == "file":
        place.write_text("mine")
    elif there == "full":
        place.mkdir()
        (place / "mine").write_text("mine")
    else:
        place.symlink_to(tmp_path)
    with pytest.raises(RunError, match="not empty"):
        export(finished("distilbert").folder, place)
    mine = {"file": place, "full": place / "mine"}.get(there)
    assert place.is_symlink() if mine is None else mine.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_an_empty_folder_is_filled(finished: Finish, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    export(finished("distilbert").folder, tmp_path / "x")
    assert (tmp_path / "x" / "export.json").is_file()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_what_is_broken_off_leaves_nothing(
    finished: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise error("no room")

    monkeypatch.setattr(exporting, "_compare", stop)
    with pytest.raises((KeyboardInterrupt, RunError)):
        export(finished("distilbert").folder, tmp_path / "x")
    assert not list(tmp_path.iterdir())


SLOW = """
import sys, time
from pathlib import Path
from luthier.deploy.export import export as exporting
def wait(*_, **__):
    print("waiting", flush=True)
    time.sleep(60)
exporting._compare = wait
exporting.export(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_kill_leaves_no_export_and_the_next_one_cleans_up(finished: Finish, tmp_path: Path) -> None:
    source, place = finished("distilbert").folder, tmp_path / "x"
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(source), str(place)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None and process.stdout.readline() == b"waiting\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not place.exists() and len(list(tmp_path.iterdir())) == 1
    export(source, place)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def _onnx(path: Path) -> Any:
    import onnx

    return onnx.load(path)
