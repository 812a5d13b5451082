from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deploy_models
import numpy as np
import pytest
import serve_live
from PIL import Image

from luthier.deploy.predictor import Predictor
from luthier.deploy.serve.backend import Backend, Encoded, Limits
from luthier.deploy.serve.base import Refused

TEXTS = ["the cat sat", "a dog", "the red house on the tree walks fast", "", "zebra zebra"]


def encoded(backend: Backend, inputs: list[Any]) -> list[Encoded]:
    found = backend.encode(inputs)
    assert all(isinstance(one, Encoded) for one in found)
    return [one for one in found if isinstance(one, Encoded)]


def png(side: int = 40, shade: int = 90) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, 2 * side), (shade, 20, 200)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "task", "inputs"),
    [
        ("bert", "text-classification", TEXTS),
        ("roberta", "text-regression", TEXTS),
        ("distilbert", "multi-label-classification", TEXTS),
        ("modernbert", "token-classification", [["the", "cat"], ["a"], [], ["Xyz", "ran", "on", "mat"]]),
    ],
)
def test_answers_are_the_predictors(
    finished: Callable[..., deploy_models.Finished], kind: str, task: str, inputs: list[Any]
) -> None:
    model = finished(kind, task)
    backend = serve_live.opened(model.folder)
    outputs = backend.compute(encoded(backend, inputs), features=True)
    expected = Predictor.load(model.folder, "cpu").predict(inputs)
    for said, meant in zip(backend.decode(outputs.outputs, inputs), expected, strict=True):
        assert said.keys() == meant.keys()
        assert said.get("label") == meant.get("label")
        assert said.get("tags") == meant.get("tags")
        assert said.get("value", 0.0) == pytest.approx(meant.get("value", 0.0), abs=1e-4)
    assert outputs.features is not None
    assert outputs.features.shape == (len(inputs), 32)
    assert np.isfinite(outputs.features).all()


def test_pictures_are_read_from_bytes(finished: Callable[..., deploy_models.Finished]) -> None:
    model = finished("vit")
    backend = serve_live.opened(model.folder)
    files = sorted((model.root).rglob("*.png"))[:4]
    given = [file.read_bytes() for file in files]
    items = encoded(backend, given)
    answers = backend.decode(backend.compute(items).outputs, given)
    expected = Predictor.load(model.folder, "cpu").predict(files)
    assert [one["label"] for one in answers] == [one["label"] for one in expected]
    found = backend.statistics(encoded(backend, [png(40)])[0])
    assert (found["width"], found["height"]) == (40, 80)
    assert 0 < found["brightness"] < 255


def test_padding_changes_nothing(backend: Backend) -> None:
    together = backend.compute(encoded(backend, TEXTS)).outputs
    alone = [backend.compute(encoded(backend, [text])).outputs[0] for text in TEXTS]
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("bad", [3, None, ["a"], {"text": "a"}, b"a", "\ud800", "x" * 101, True])
def test_a_bad_input_is_refused_alone(backend: Backend, bad: Any) -> None:
    backend.limits = Limits(characters=100)
    first, refused, last = backend.encode(["the cat", bad, "a dog"])
    assert isinstance(refused, Refused)
    assert refused.status == 422
    assert isinstance(first, Encoded)
    assert isinstance(last, Encoded)
    np.testing.assert_allclose(
        backend.compute([first, last]).outputs,
        backend.compute(encoded(backend, ["the cat", "a dog"])).outputs,
        atol=1e-6,
    )


def test_what_makes_the_tokenizer_fail_is_that_inputs_fault_alone(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = backend.task.encode

    def fails(frame: Any, *arguments: Any, **options: Any) -> Any:
        if "poison" in list(frame[backend.task.input]):
            raise RuntimeError("inside of the tokenizer, with poison")
        return whole(frame, *arguments, **options)

    monkeypatch.setattr(backend.task, "encode", fails)
    first, refused, last = backend.encode(["the cat", "poison", "a dog"])
    assert isinstance(refused, Refused)
    assert "poison" not in refused.message
    assert isinstance(first, Encoded)
    assert isinstance(last, Encoded)


@pytest.mark.parametrize(
    ("bad", "status"),
    [(b"", 422), (b"GIF89a", 422), (png()[:60], 422), ("text", 422), (png(600), 413)],
)
def test_bad_pictures(finished: Callable[..., deploy_models.Finished], bad: Any, status: int) -> None:
    backend = serve_live.opened(finished("vit").folder)
    backend.limits = Limits(pixels=500_000)
    good, refused = backend.encode([png(), bad])
    assert isinstance(good, Encoded)
    assert isinstance(refused, Refused)
    assert refused.status == status


def test_statistics_of_a_text(backend: Backend) -> None:
    plain, strange = (backend.statistics(one) for one in encoded(backend, ["the cat", "the qqq"]))
    assert plain == {"length": 4.0, "unknown": 0.0}
    assert strange == {"length": 4.0, "unknown": 0.5}


def test_an_ensemble_answers_as_its_predictor(
    finished: Callable[..., deploy_models.Finished], tmp_path: Path
) -> None:
    """Three networks, two of which share their body and one of which reads other tokens."""
    folders = [finished(kind).folder for kind in ("bert", "bert", "roberta")]
    for place, folder in enumerate(folders):
        shutil.copytree(folder, tmp_path / "model" / "parts" / str(place))
    first = json.loads((folders[0] / "luthier.json").read_text())
    parts = [
        {
            "directory": f"parts/{place}",
            "trial": place,
            "seed": 0,
            "sha256": hashlib.sha256((folder / "luthier.json").read_bytes()).hexdigest(),
        }
        for place, folder in enumerate(folders)
    ]
    manifest = {
        "format": 1, "name": "greedy", "combination": {"kind": "average", "weights": [0.5, 0.25, 0.25]},
        "parts": parts, "labels": first["labels"], "task_state": first["task_state"], "temperature": 1.3,
    }  # fmt: skip
    (tmp_path / "model" / "ensemble.json").write_text(json.dumps(manifest))
    backend = serve_live.opened(tmp_path / "model")
    assert len(backend.passes) == 2
    assert len(backend.readings) == 2
    computed = backend.compute(encoded(backend, TEXTS), features=True)
    predictor = Predictor.load(tmp_path / "model", "cpu")
    np.testing.assert_allclose(computed.outputs, predictor.outputs(predictor.frame(TEXTS)), atol=1e-5)
    assert computed.features is not None
    assert computed.features.shape == (len(TEXTS), 32)
