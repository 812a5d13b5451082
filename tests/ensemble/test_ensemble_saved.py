"""Ensembles on disk, of networks that were really trained; and every built-in way held to the conformance
suite."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models_tiny
import numpy as np
import pytest
import torch
import transformers

import made
from luthier.deploy.predictor import Predictor
from luthier.engine.cache import FeatureCache
from luthier.engine.checkpoint import Checkpoints
from luthier.engine.engine import Engine
from luthier.engine.inputs import Inputs
from luthier.engine.kept import KeptOutputs
from luthier.ensemble import registry, saved
from luthier.ensemble.base import Average, Candidate
from luthier.ensemble.conformance import CHECKS
from luthier.ensemble.greedy import greedy
from luthier.ensemble.shared import SharedBody, alike
from luthier.ensemble.stacking import stacking
from luthier.ensemble.ways import Context
from luthier.errors import ModelError, RunError
from luthier.models import network, processor, source
from luthier.models import saved as models
from luthier.recipe import Recipe
from luthier.study.study import Finished
from luthier.tasks import registry as tasks
from luthier.trial import Order

# Two probes share their body; the third reads other features of it.
RECIPES = [
    Recipe(model="tiny", adaptation="probe", learning_rate=1e-2, epochs=3, batch_size=8),
    Recipe(model="tiny", adaptation="full", learning_rate=2e-3, epochs=2, batch_size=8),
    Recipe(model="tiny", adaptation="probe", learning_rate=3e-2, epochs=3, batch_size=8),
    Recipe(model="tiny", adaptation="probe", head="linear", pooling="mean", learning_rate=3e-2, epochs=3),
]
Make = Callable[[int], Context]


@pytest.fixture(scope="module")
def make(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Contexts of an engine that has trained `RECIPES`, of which each sees the first few."""
    folder = tmp_path_factory.mktemp("search")
    train = made.sentences(64)
    columns = tasks.get("text-classification").claim(train, "text", {})
    assert columns is not None
    task = tasks.get("text-classification")(columns)
    task.fit(train)
    inputs = Inputs(task, {"train": train, "validation": made.sentences(40, 1)}, folder)
    engine = Engine(
        inputs, {"tiny": source.find(str(tiny_model("bert")), "text")}, Checkpoints(folder / "checkpoints"),
        "cpu", store=FeatureCache(None), auto="fp32", kept=KeptOutputs(folder / "outputs"), stack=1,
    )  # fmt: skip
    orders = [Order(trial, recipe, recipe.epochs, trial + 5) for trial, recipe in enumerate(RECIPES)]
    found = [
        Finished(
            end.trial, RECIPES[end.trial], end.trial + 5, end.score, end.metrics["loss"], end.best_epoch, 1.0
        )
        for end in engine.run(orders)
        if end.status == "completed"
    ]
    assert len(found) == len(RECIPES)

    def context(trials: int) -> Context:
        kept = [one for one in found if one.trial < trials]
        return Context(engine, sorted(kept, key=lambda one: (-one.score, one.loss)), seed=1)

    return context


def average(context: Context, *trials: int) -> Candidate:
    said = {one.trial: outputs for one, outputs in context.pool}
    parts = [context.part(next(one for one in context.ranked if one.trial == trial)) for trial in trials]
    combination = Average(tuple([1 / len(parts)] * len(parts)))
    return Candidate("mean", parts, combination, combination.outputs(context.task, [said[t] for t in trials]))


@pytest.fixture(scope="module")
def shipped(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    context = make(4)
    place = tmp_path_factory.mktemp("shipped") / "model"
    saved.save(context.engine, average(context, 0, 1, 2, 3), place, made.sentences(6, 2))
    return place


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["greedy", "stacking"])
def test_ways_that_join_outputs_conform(name: str, check: Any, make: Make, tmp_path: Path) -> None:
    check(registry.get(name), make, tmp_path)


def test_the_suite_notices_what_does_not_conform(make: Make, tmp_path: Path) -> None:
    calls = 0

    def unsteady(context: Context) -> Candidate | None:
        nonlocal calls
        calls += 1
        return average(context, 0, calls % 2 + 1)

    def heavy(context: Context) -> Candidate | None:
        candidate = average(context, 0, 1)
        candidate.combination = Average((0.9, 0.9))
        return candidate

    def mute(context: Context) -> Candidate | None:
        return None

    for way, name in (
        (unsteady, "is_deterministic"),
        (heavy, "weighs_to_one"),
        (mute, "takes_one_trial"),
        (lambda context: average(context, 0, 1, 2), "keeps_to_its_parts"),
    ):
        (check,) = (each for each in CHECKS if each.__name__ == name)
        with pytest.raises(AssertionError):
            check(way, make, tmp_path)


@pytest.mark.parametrize("way", [greedy, stacking])
def test_validation_outputs_are_those_of_the_saved_networks(way: Any, make: Make, tmp_path: Path) -> None:
    context = make(4)
    candidate = way(context)
    rows = context.engine.inputs.frames["validation"]
    saved.save(context.engine, candidate, tmp_path / "model", rows.head(4))
    said = Predictor.load(tmp_path / "model", "cpu").outputs(rows)
    if way is greedy:
        np.testing.assert_allclose(said, candidate.validation, atol=1e-4)
    else:
        # Those of cross-fitting are by other weights, and say nearly the same.
        assert np.mean(np.argmax(said, 1) == np.argmax(candidate.validation, 1)) > 0.8


def test_each_part_loads_without_luthier(shipped: Path) -> None:
    for place in (shipped / "parts" / "0", shipped / "parts" / "1"):
        model = transformers.AutoModelForSequenceClassification.from_pretrained(place)
        assert model.config.id2label == {0: "no", 1: "yes"}
        assert transformers.AutoTokenizer.from_pretrained(place)


def test_probes_of_one_model_run_its_body_once(shipped: Path, make: Make) -> None:
    ensemble = saved.load(shipped)
    # The full one has its own; the mean over tokens is read off a body that is saved in another form.
    assert ensemble._groups == [[0, 2], [1], [3]] and ensemble.bodies == 3
    runs = 0

    def count(*_: Any) -> None:
        nonlocal runs
        runs += 1

    embeddings = [
        m for part in ensemble.parts for m in part.modules() if type(m).__name__ == "BertEmbeddings"
    ]
    assert len(embeddings) == 3
    for module in embeddings:
        module.register_forward_hook(count)
    context = make(4)
    rows = made.sentences(5, 3)
    together = ensemble.part_outputs(context.task, rows, torch.device("cpu"))
    assert runs == 3
    for at in range(4):
        alone = Predictor(models.load(shipped / "parts" / str(at)), context.task, "cpu").outputs(rows)
        np.testing.assert_allclose(together[at], alone, atol=1e-5)


@pytest.mark.parametrize("kind", ["distilbert", "modernbert", "vit", "dinov2", "convnext", "mobilenet_v2"])
def test_bodies_are_shared_in_every_kind_of_model(
    tiny_model: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    modality = "image" if kind in models_tiny.IMAGE else "text"
    src, recipe = source.find(str(tiny_model(kind)), modality), Recipe(model=kind, adaptation="probe")
    auto = "AutoModelForImageClassification" if modality == "image" else "AutoModelForSequenceClassification"
    for seed in (1, 2):
        net = network.build(src, recipe, level="example", num_outputs=2, seed=seed)
        models.save(
            net, src, processor.load(src, modality), recipe, tmp_path / str(seed), task_state={},
            auto_class=auto, problem_type=None, labels=["no", "yes"], peft_type=None,
        )  # fmt: skip
    batch = models_tiny.inputs(kind)
    with torch.no_grad():
        alone = [models.load(tmp_path / str(seed))(**batch) for seed in (1, 2)]
        parts = [models.load(tmp_path / str(seed)) for seed in (1, 2)]
        assert alike(parts) == [[0, 1]]
        together = SharedBody(parts)(**batch)
    assert not torch.allclose(alone[0], alone[1])
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other)


def test_what_differs_in_its_body_does_not_share_it(make: Make, tmp_path: Path) -> None:
    context = make(4)
    for at, trial in enumerate((0, 1)):
        saved.write(context.engine, average(context, trial).parts[0], tmp_path / str(at))
    parts = [models.load(tmp_path / str(at)) for at in (0, 1)]
    assert alike(parts) == [[0], [1]]


def changed(place: Path, values: dict[str, Any]) -> None:
    path = place / saved.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_parts_of_other_labels_are_refused(shipped: Path, tmp_path: Path) -> None:
    place = shutil.copytree(shipped, tmp_path / "model")
    changed(place, {"labels": ["yes", "no"]})
    with pytest.raises(
        ModelError, match="has other labels: text-classification with no, yes instead of"
    ) as e:
        Predictor.load(place, "cpu")
    assert "same labels in the same order" in str(e.value.hint)


def test_parts_that_were_exchanged_or_changed_are_refused(shipped: Path, tmp_path: Path) -> None:
    place = shutil.copytree(shipped, tmp_path / "exchanged")
    (place / "parts" / "0").rename(place / "parts" / "x")
    (place / "parts" / "1").rename(place / "parts" / "0")
    (place / "parts" / "x").rename(place / "parts" / "1")
    with pytest.raises(ModelError, match="not the network that was saved there"):
        saved.load(place)
    place = shutil.copytree(shipped, tmp_path / "changed")
    with (place / "parts" / "1" / "model.safetensors").open("ab") as file:
        file.write(b"0")
    with pytest.raises(ModelError, match="was changed after"):
        saved.load(place)
    place = shutil.copytree(shipped, tmp_path / "missing")
    shutil.rmtree(place / "parts" / "2")
    with pytest.raises(ModelError, match="is missing from the ensemble"):
        saved.load(place)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"format": 2}, "Upgrade|does not read"),
        ({"temperature": -1.0}, "does not read"),
        ({"combination": {"kind": "os:system"}}, "does not read"),
        ({"parts": [{"directory": "../../x", "sha256": "0", "trial": 0}]}, "not its own"),
        ({"parts": []}, "not its own"),
        ({"parts": 3}, "damaged"),
    ],
)
def test_a_file_that_is_not_ours_is_refused(
    shipped: Path, tmp_path: Path, values: dict[str, Any], words: str
) -> None:
    place = shutil.copytree(shipped, tmp_path / "model")
    changed(place, values)
    with pytest.raises(ModelError, match=words):
        saved.load(place)


def test_what_does_not_repeat_its_networks_is_never_put_in_place(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make(4)
    before = saved.SavedEnsemble.outputs
    monkeypatch.setattr(saved.SavedEnsemble, "outputs", lambda *given: [row + 0.01 for row in before(*given)])
    with pytest.raises(RunError, match="was not saved"):
        saved.save(context.engine, average(context, 0, 1), tmp_path / "model", made.sentences(4))
    assert list(tmp_path.iterdir()) == []


def test_the_snippet_of_the_card_predicts(shipped: Path, make: Make) -> None:
    context = make(4)
    form = saved.save(context.engine, average(context, 0, 1), shipped.parent / "again", made.sentences(4))
    scope: dict[str, Any] = {"inputs": ["a good cat", "a bad cat"]}
    exec(form.snippet(shipped.parent / "again"), scope)
    assert [set(answer) for answer in scope["answers"]] == [{"label", "confidence", "probabilities"}] * 2
