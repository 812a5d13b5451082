"""References: gathered of a model of every kind, small enough, read as written, refused when damaged."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from deploy_models import finish
from records_made import CLASSES, classifier, logits
from records_made import reference as made_reference

from luthier.deploy.predictor import Predictor
from luthier.errors import ModelError
from luthier.monitor import features, reference, statistics
from luthier.tasks.base import Columns
from luthier.tasks.text_classification import TextClassification

TASKS = {
    "class": ("bert", "text-classification"),
    "multi": ("bert", "multi-label-classification"),
    "tags": ("bert", "token-classification"),
    "number": ("bert", "text-regression"),
    "picture": ("vit", "image-classification"),
}


def same(one, other) -> None:
    assert (one.kind, one.classes) == (other.kind, other.classes)
    assert len(one.outputs) == len(other.outputs)
    for mine, theirs in zip(one.outputs, other.outputs, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for name in ("counts", "confidence", "right", "example", "confusion", "errors"):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert (mine is None) == (theirs is None), name
        if mine is not None:
            np.testing.assert_allclose(mine, theirs, rtol=1e-6, err_msg=name)
    if one.features is not None:
        np.testing.assert_allclose(one.features, other.features, rtol=2e-3, atol=1e-4)
    assert one.statistics.keys() == other.statistics.keys()
    for name in one.statistics:
        np.testing.assert_array_equal(one.statistics[name], other.statistics[name])


@pytest.mark.parametrize("kind", TASKS)
def test_a_models_reference_is_written_and_read(kind, tmp_path) -> None:
    (tmp_path / "made").mkdir()
    finished = finish(tmp_path / "made", *TASKS[kind])
    predictor = Predictor.load(finished.folder, "cpu")
    frame, task = finished.frame, finished.task
    with features.sampled(predictor.saved, len(frame), 20) as read:
        outputs = predictor.outputs(frame, finished.root)
    assert len(read) == min(20, len(frame))
    targets = task.targets(frame)
    saved = predictor.saved
    found = reference.gather(
        task, outputs, targets, frame, processor=saved.processor, max_length=saved.recipe.max_length,
        root=finished.root, features=read,
    )  # fmt: skip
    reference.write(tmp_path / "reference", found, task, {"n": len(frame), "metric": task.metric})
    assert sorted(path.name for path in (tmp_path / "reference").iterdir()) == [
        reference.MANIFEST, reference.ARRAYS,
    ]  # fmt: skip
    kept = reference.read(tmp_path / "reference")
    same(found, kept.reference)
    assert kept.about == {"n": len(frame), "metric": task.metric}
    assert kept.task.state() == task.state()
    names = {"brightness", "width", "height"} if kind == "picture" else {"length", "unknown"}
    assert set(kept.reference.statistics) == names
    right = kept.reference.right
    if kind == "number":
        values = [one["value"] for one in task.decode(outputs)]
        errors = np.abs(values - frame[task.target])
        np.testing.assert_allclose(np.sort(kept.reference.errors), np.sort(errors), rtol=1e-3)
    else:
        assert right.mean() == pytest.approx(task.decisions(outputs, targets).right.mean())
    if kind in ("class", "picture"):
        assert kept.reference.confusion.sum() == len(frame) == kept.reference.counts.sum()
        assert np.trace(kept.reference.confusion) == right.sum()


def test_what_serving_measures_is_what_the_reference_holds(tmp_path) -> None:
    """Encoded one by one, as a server does, an input has the numbers it has in a table."""
    from luthier.deploy.serve.opening import find, open_backend

    for kind in ("class", "tags", "picture"):
        (tmp_path / kind).mkdir()
        finished = finish(tmp_path / kind, *TASKS[kind])
        frame, task = finished.frame.head(6), finished.task
        saved = Predictor.load(finished.folder, "cpu").saved
        expected = statistics.of_rows(
            task, frame, saved.processor, max_length=saved.recipe.max_length, root=str(finished.root)
        )
        inputs = list(frame[task.input])
        if kind == "picture":
            inputs = [(finished.root / name).read_bytes() for name in inputs]
        backend = open_backend(find(finished.folder, "torch"))
        encoded = backend.encode(inputs)
        for at, one in enumerate(encoded):
            assert backend.statistics(one) == {name: values[at] for name, values in expected.items()}
        with features.sampled(saved, len(frame), len(frame)) as read:
            Predictor(saved, task, "cpu").outputs(frame, finished.root)
        served = backend.compute(encoded, features=True).features
        order = np.lexsort(np.round(served, 3).T)
        other = np.lexsort(np.round(read, 3).T)
        np.testing.assert_allclose(served[order], np.stack(read)[other], atol=2e-3)


def test_tags_are_averaged_over_tokens_that_are_no_padding() -> None:
    import torch

    values = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    expected = [[1.0, 2.0], [8.0, 9.0]]
    np.testing.assert_allclose(features.pooled(values, mask), expected)


def test_it_is_small_however_large_the_test_split_is(tmp_path) -> None:
    rows, classes = 30_000, 150
    names = [f"class {at:03}" for at in range(classes)]
    task = TextClassification(Columns({"input": "text", "target": "label"}))
    task.fit(pd.DataFrame({"text": names, "label": names}))
    draw = np.random.default_rng(0)
    outputs = list(draw.normal(size=(rows, classes)).astype(np.float32))
    frame = pd.DataFrame({"text": ["x"] * rows, "label": draw.choice(names, rows)})
    wide = list(draw.normal(size=(500, 1024)).astype(np.float32))
    found = reference.gather(task, outputs, task.targets(frame), frame, features=wide)
    reference.write(tmp_path / "r", found, task, {})
    assert sum(path.stat().st_size for path in (tmp_path / "r").iterdir()) < 2_000_000
    assert found.counts.sum() == found.confusion.sum() == rows
    assert len(found.confidence) == reference.DECISIONS and len(found.features) >= 200
    same(found, reference.read(tmp_path / "r").reference)


def test_a_label_that_training_never_saw_is_wrong_and_a_missing_one_nothing() -> None:
    task, outputs = classifier(), list(logits(4))
    labels = [CLASSES[int(np.argmax(outputs[0]))], "fish", None, CLASSES[int(np.argmin(outputs[3]))]]
    frame = pd.DataFrame({"text": ["a"] * 4, "label": labels})
    found = reference.gather(task, outputs, task.targets(frame), frame)
    judged = dict(zip(found.example.tolist(), found.right.tolist(), strict=True))
    assert judged == {0: True, 1: False, 3: False}


def test_one_that_is_damaged_or_of_another_version_is_refused(tmp_path) -> None:
    folder = tmp_path / "reference"
    with pytest.raises(ModelError, match=r"no reference\.json"):
        reference.read(folder)
    reference.write(folder, made_reference(), classifier(), {})
    reference.write(folder, made_reference(), classifier(), {"again": True})
    assert reference.read(folder).about == {"again": True}
    arrays, manifest = folder / reference.ARRAYS, folder / reference.MANIFEST
    good = arrays.read_bytes()
    arrays.write_bytes(good[:-1] + b"\xff")
    with pytest.raises(ModelError, match="sha256 differs"):
        reference.read(folder)
    arrays.write_bytes(good)
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(values | {"format": 99}))
    with pytest.raises(ModelError, match="Upgrade"):
        reference.read(folder)
    manifest.write_text(json.dumps(values | {"classes": ["a", "b"]}))
    with pytest.raises(ModelError, match="damaged"):
        reference.read(folder)
    manifest.write_text("{")
    with pytest.raises(ModelError, match="damaged"):
        reference.read(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["reference"], "nothing half-written is left"
