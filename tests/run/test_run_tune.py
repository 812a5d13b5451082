"""Whole runs of every task in Python, on tiny models and made data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
import transformers

import luthier
import made
from luthier.errors import DataError, RunError

Tiny = Callable[[str], Path]
SPACE = {
    "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
    "epochs": 3,
    "batch_size": 8,
    "layer_decay": 0.9,
}


def run(data: Any, model: Path, out: Path, **options: Any) -> luthier.Result:
    given: dict[str, Any] = {
        "budget": "10m",
        "trials": 2,
        "repeats": 1,
        "strategy": "random",
        "space": SPACE,
        "threads": 1,
    } | options
    return luthier.tune(data, model=str(model), out=out, **given)


@pytest.fixture(scope="module")
def text_run(tiny_model: Tiny, tmp_path_factory: pytest.TempPathFactory) -> luthier.Result:
    folder = tmp_path_factory.mktemp("text")
    made.sentences(120).to_csv(folder / "data.csv", index=False)
    return run(str(folder / "data.csv"), tiny_model("bert"), folder / "run")


def test_a_run_leaves_its_files(text_run: luthier.Result) -> None:
    names = {path.name for path in text_run.folder.iterdir()}
    assert {"model", "trials.csv", "report.html", "run.json", "study.sqlite", "predictions.csv"} <= names
    assert {"config.json", "model.safetensors", "README.md", "tokenizer.json"} <= {
        path.name for path in (text_run.folder / "model").iterdir()
    }
    assert text_run.report.read_text().startswith("<!doctype html>")
    assert [name for name in names if "partial" in name] == []


def test_trials_carry_what_they_cost(text_run: luthier.Result) -> None:
    trials = text_run.trials
    assert list(trials["number"]) == [0, 1]
    assert set(trials["status"]) == {"completed"}
    assert (trials["seconds"] > 0).all() and (trials["peak_memory"] > 0).all()
    assert (trials["trainable_parameters"] > 0).all()


def test_the_baselines_stand_beside_the_result(text_run: luthier.Result) -> None:
    evaluation = text_run.evaluation
    kinds = [baseline.kind for baseline in evaluation.baselines]
    assert kinds == ["majority", "classical", "probe", "neighbours", "scratch"]
    assert all(baseline.p is not None and 0 < baseline.p <= 1 for baseline in evaluation.baselines)
    assert evaluation.worth
    low, high = evaluation.interval
    assert low <= evaluation.value <= high
    assert all(baseline.difference is not None for baseline in evaluation.baselines)


def test_what_is_shipped_is_what_was_evaluated(text_run: luthier.Result) -> None:
    """The directory, loaded by transformers alone, repeats the recorded test predictions."""
    folder = text_run.folder / "model"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    recorded = pd.read_csv(text_run.folder / "predictions.csv")
    with torch.no_grad():
        logits = model(**tokenizer(list(recorded["input"]), padding=True, return_tensors="pt")).logits
    labels = [model.config.id2label[int(index)] for index in logits.argmax(-1)]
    assert labels == list(recorded["label"])
    np.testing.assert_allclose(logits.softmax(-1).max(-1).values, recorded["confidence"], atol=1e-4)


def test_predicting_and_evaluating(text_run: luthier.Result) -> None:
    answers = luthier.load(text_run.folder).predict(["a good cat", "a bad cat"])
    assert [set(answer) >= {"label", "confidence"} for answer in answers] == [True, True]
    assert json.dumps(answers)
    again = text_run.evaluate(made.sentences(40, 9))
    assert again.n == 40
    with pytest.raises(DataError, match="no column 'text'"):
        text_run.evaluate(pd.DataFrame({"words": ["a"], "label": ["yes"]}))
    with pytest.raises(DataError, match="nothing to predict"):
        text_run.predict([])


def test_saving_a_copy(text_run: luthier.Result, tmp_path: Path) -> None:
    target = text_run.save(tmp_path / "copy")
    assert (target / "model.safetensors").is_file()
    with pytest.raises(RunError, match="not empty"):
        text_run.save(target)


def test_equal_seeds_give_equal_trials(text_run: luthier.Result, tiny_model: Tiny, tmp_path: Path) -> None:
    data = str(text_run.settings.data)
    first, second = (
        run(data, tiny_model("bert"), tmp_path / name, baselines=baselines, stack=1)
        for name, baselines in (("with", ["majority", "probe"]), ("without", []))
    )
    same = ["number", "status", "score", "loss", "best_epoch", "epochs", "seed", "learning_rate"]
    pd.testing.assert_frame_equal(first.trials[same], second.trials[same], check_exact=True)
    # In a stack they differ by the rounding of float32.
    pd.testing.assert_frame_equal(first.trials[same], text_run.trials[same], rtol=1e-3)


def test_the_model_card_is_read_by_the_hub(text_run: luthier.Result) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard.load(text_run.folder / "model" / "README.md")
    assert card.data.eval_results


@pytest.mark.parametrize("kind", ["roberta", "modernbert", "distilbert", "mpnet"])
def test_other_text_models(tiny_model: Tiny, tmp_path: Path, kind: str) -> None:
    result = run(made.sentences(60), tiny_model(kind), tmp_path / "run", trials=1, baselines=["majority"])
    assert result.predict("a good cat")[0]["label"] in {"yes", "no"}


def test_adaptations_in_one_grid(tiny_model: Tiny, tmp_path: Path) -> None:
    space = {
        "adaptation": ["probe", "last_k", "bias", "lora", "full"],
        "last_k": 1,
        "epochs": 1,
        "batch_size": 8,
    }
    result = run(
        made.sentences(60), tiny_model("bert"), tmp_path / "run", space=space, strategy="grid", trials=None,
        baselines=[],
    )  # fmt: skip
    assert list(result.trials["adaptation"]) == ["probe", "last_k", "bias", "lora", "full"]
    assert set(result.trials["status"]) == {"completed"}
    url = result.to_optuna(str(tmp_path / "optuna.db"))
    (name,) = optuna.get_all_study_names(url)
    study = optuna.load_study(study_name=name, storage=url)
    assert [trial.value for trial in study.trials] == list(result.trials["score"])
    assert [trial.params["adaptation"] for trial in study.trials] == list(result.trials["adaptation"])
    assert study.trials[0].distributions["adaptation"].choices == tuple(space["adaptation"])


def test_tagging(tiny_model: Tiny, tmp_path: Path) -> None:
    made.conll(tmp_path / "train.conll", 80)
    made.conll(tmp_path / "test.conll", 20, seed=5)
    result = run(str(tmp_path), tiny_model("bert"), tmp_path / "run")
    assert result.evaluation.metric == "f1"
    model = transformers.AutoModelForTokenClassification.from_pretrained(result.folder / "model")
    assert "B-animal" in model.config.label2id
    answer = result.predict([["the", "cat", "ran"]])[0]
    assert len(answer["tags"]) == 3


def test_regression(tiny_model: Tiny, tmp_path: Path) -> None:
    result = run(made.ratings(100), tiny_model("bert"), tmp_path / "run", target="rating")
    assert result.evaluation.metric == "rmse"
    value = result.predict("a good cat")[0]["value"]
    assert isinstance(value, float)
    card = (result.folder / "model" / "README.md").read_text()
    formula = card.split("# value = ")[1].split("\n")[0].removesuffix("* logits")
    mean, deviation = (float(part) for part in formula.split(" + "))
    tokenizer = transformers.AutoTokenizer.from_pretrained(result.folder / "model")
    tokens = tokenizer("a good cat", return_tensors="pt")
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(result.folder / "model")
    with torch.no_grad():
        assert value == pytest.approx(mean + deviation * float(plain.eval()(**tokens).logits), abs=1e-4)


def test_many_labels(tiny_model: Tiny, tmp_path: Path) -> None:
    result = run(made.topics(100), tiny_model("bert"), tmp_path / "run", task="multi-label-classification")
    assert result.evaluation.metric == "micro_f1"
    assert result.predict("a cat")


@pytest.mark.parametrize("kind", ["vit", "convnext", "resnet", "mobilenet_v2"])
def test_images(tiny_model: Tiny, tmp_path: Path, kind: str) -> None:
    made.pictures(tmp_path / "data", 24)
    result = run(
        str(tmp_path / "data"),
        tiny_model(kind),
        tmp_path / "run",
        trials=1,
        space={"epochs": 1, "batch_size": 8},
    )
    model = transformers.AutoModelForImageClassification.from_pretrained(result.folder / "model")
    assert set(model.config.id2label.values()) == {"bright", "dark"}
    image = next((tmp_path / "data" / "test").rglob("*.png"))
    assert result.predict([image])[0]["label"] in {"bright", "dark"}


def test_several_models_are_ranked(tiny_model: Tiny, tmp_path: Path) -> None:
    models = [str(tiny_model(kind)) for kind in ("bert", "distilbert", "roberta")]
    result = luthier.tune(
        made.sentences(60), model=models, out=tmp_path / "run", budget="10m", trials=2, threads=1,
        baselines=["probe"], repeats=1,
    )  # fmt: skip
    assert set(result.trials["model"]) <= set(models)
    assert result.trials["adaptation"][0] == "probe"


def test_groups_stay_together(tiny_model: Tiny, tmp_path: Path) -> None:
    frame = made.sentences(120).assign(person=[f"p{row // 4}" for row in range(120)])
    result = run(frame, tiny_model("bert"), tmp_path / "run", group="person", trials=1, baselines=[])
    assert result.evaluation.groups is not None


def test_a_finished_run_is_continued_only_with_more_time(tiny_model: Tiny, tmp_path: Path) -> None:
    result = run(made.sentences(60), tiny_model("bert"), tmp_path / "run", baselines=[])
    with pytest.raises(RunError, match="is finished"):
        luthier.resume(result.folder)


def test_a_run_is_continued_from_anywhere(
    tiny_model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths start where the run was started, and the space is as it was."""
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    made.sentences(60).to_csv("data.csv", index=False)
    Path("space.yaml").write_text("epochs: 1\nbatch_size: [8, 16, 4]\n")
    result = luthier.tune(
        "data.csv", model=str(tiny_model("bert")), out="run", space="space.yaml", budget="10m", trials=3,
        strategy="grid", threads=1, baselines=[], repeats=1,
    )  # fmt: skip
    before = result.trials[["number", "score"]]
    Path("space.yaml").unlink()
    monkeypatch.chdir(tmp_path)
    again = luthier.resume("there/run", budget="+1m")
    pd.testing.assert_frame_equal(again.trials[["number", "score"]], before)


@pytest.mark.parametrize("name", ["predictions.csv", "report.html"])
def test_a_disk_that_fills_leaves_older_files_whole(
    tiny_model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    result = run(made.sentences(60), tiny_model("bert"), tmp_path / "run", trials=1, baselines=[])
    before = (result.folder / name).read_bytes()
    original = Path.write_text

    def full(self: Path, *args: Any, **also: Any) -> int:
        if self.name.startswith(name):
            raise OSError(28, "No space left on device")
        return original(self, *args, **also)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(RunError, match=rf"{name}.*No space left"):
        luthier.resume(result.folder, budget="+1m")
    assert (result.folder / name).read_bytes() == before
    assert not list(result.folder.glob("*.partial"))


def test_data_that_changed_is_noticed(tiny_model: Tiny, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    made.sentences(60).to_csv(data, index=False)
    result = run(str(data), tiny_model("bert"), tmp_path / "run", baselines=[])
    made.sentences(60, seed=4).to_csv(data, index=False)
    with pytest.raises(RunError, match="changed"):
        luthier.resume(result.folder, budget="+1m")


def test_finalists_are_repeated_and_the_choice_is_told(tiny_model: Tiny, tmp_path: Path) -> None:
    frame = made.sentences(120)
    # Half of the answers by chance: no recipe is much better than another.
    frame.loc[::2, "label"] = np.random.default_rng(0).choice(["yes", "no"], 60)
    result = run(frame, tiny_model("bert"), tmp_path / "run", trials=3, repeats=2, keep=1, baselines=[])
    trials = result.trials
    again = trials[trials["repeats"].notna()]
    assert list(trials["number"]) == list(range(len(trials)))
    assert len(trials) - len(again) == 3 and len(again) >= 2
    settings = ["learning_rate", "recipe_epochs", "adaptation"]
    for _, row in again.iterrows():
        first = trials[trials["number"] == row["repeats"]].iloc[0]
        assert (row[settings] == first[settings]).all() and row["seed"] != first["seed"]
    best = result.manifest["best"]
    winner = best["trial"] if best["repeats"] is None else best["repeats"]
    assert f"recipe of trial {winner} has the best mean validation accuracy over its 2 seeds" in best["how"]
    assert [path.stem for path in (result.folder / "checkpoints").glob("trial-*")] == [
        f"trial-{best['trial']:04d}"
    ]
    assert len(list((result.folder / "outputs").glob("*.safetensors"))) == len(trials)
    told = result.evaluation.selection
    assert told is not None and (told.trials, told.left_out) == (len(trials), 0)
    assert told.validation == best["score"]
    low, high = told.interval
    assert low <= told.expected <= high
    card = (result.folder / "model" / "README.md").read_text()
    report = result.report.read_text()
    for text in (card, report):
        assert "expected after choosing the best of" in text and "has the best mean validation" in text


def test_a_run_without_time_ends_with_the_probe(tiny_model: Tiny, tmp_path: Path) -> None:
    result = luthier.tune(
        made.sentences(60), model=str(tiny_model("bert")), out=tmp_path / "run", budget="1s", threads=1
    )
    assert result.predict("a good cat")
