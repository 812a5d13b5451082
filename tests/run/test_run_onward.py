"""Continuing finished runs in Python: rows, weights, recipes, lineage, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import luthier
import made
from luthier.errors import DataError, LuthierError, RunError, SettingError
from luthier.recipe import Recipe
from luthier.run.folder import RunFolder
from luthier.run.forgetting import forgetting
from luthier.run.onward import onward
from luthier.run.origin import open_origin, origin, studies
from luthier.run.prepare import search_space
from luthier.run.settings import Settings
from luthier.run.tune import take_up

Tiny = Callable[[str], Path]
SPACE = {
    "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
    "adaptation": "last_k", "last_k": 1, "head": "linear", "pooling": "mean", "epochs": 2, "batch_size": 16,
}  # fmt: skip
OPTIONS: dict[str, Any] = {
    "budget": "20m", "trials": 2, "repeats": 1, "folds": 0, "strategy": "random", "threads": 1,
    "baselines": ["majority"], "ensemble": "none",
}  # fmt: skip


@pytest.fixture(scope="module")
def before(tiny_model: Tiny, tmp_path_factory: pytest.TempPathFactory) -> luthier.Result:
    folder = tmp_path_factory.mktemp("before")
    made.sentences(120).to_csv(folder / "data.csv", index=False)
    given = {**OPTIONS, "space": SPACE, "seed": 3}
    return luthier.tune(folder / "data.csv", model=str(tiny_model("bert")), out=folder / "run", **given)


@pytest.fixture
def copied(before: luthier.Result, tmp_path: Path) -> Path:
    """A run that a test may change, with data of its own."""
    shutil.copytree(before.folder, tmp_path / "run")
    data = tmp_path / "data.csv"
    shutil.copyfile(before.settings.data or "", data)
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    manifest["settings"]["data"] = str(data)
    (tmp_path / "run" / "run.json").write_text(json.dumps(manifest))
    return tmp_path / "run"


def more(rows: int = 60) -> pd.DataFrame:
    """New rows, a third of them of a class that is new."""
    frame = made.sentences(rows, seed=9)
    frame.loc[::3, "label"] = "maybe"
    frame.loc[::3, "text"] = [f"{text} blue" for text in frame["text"][::3]]
    return frame


@pytest.fixture(scope="module")
def after(before: luthier.Result, tmp_path_factory: pytest.TempPathFactory) -> luthier.Result:
    folder = tmp_path_factory.mktemp("after")
    return luthier.tune(from_=before.folder, add=more(), out=folder / "run", **OPTIONS)


def prepared(place: Path, **given: Any) -> Any:
    return onward(Settings.parse({"from": place, **given}))


def test_old_rows_keep_their_splits(before: luthier.Result, after: luthier.Result) -> None:
    old = open_origin(before.folder).prepared.dataset.splits
    for name, frame in old.items():
        new = pd.read_parquet(after.folder / "data" / f"{name}.parquet")
        assert new["text"].head(len(frame)).tolist() == frame["text"].tolist()
        assert after.manifest["from"]["rows"][name] == len(frame)
        assert after.manifest["from"]["added"][name] == len(new) - len(frame) > 0
    said = pd.read_csv(after.paths.predictions)
    recorded = pd.read_csv(before.paths.predictions)
    assert said["input"].head(len(recorded)).tolist() == recorded["input"].tolist()


def test_the_winning_recipe_comes_first_on_its_own_weights_then_anew(
    before: luthier.Result, after: luthier.Result
) -> None:
    first, second = (after.trials.set_index("number").loc[number] for number in (0, 1))
    won = Recipe.parse(before.manifest["best"]["recipe"])
    assert first["learning_rate"] == second["learning_rate"] == won.learning_rate
    assert Path(first["model"]) == before.paths.model and second["model"] == won.model
    assert first["head_init"] == "model"


def test_it_tells_what_was_kept_and_what_is_new(before: luthier.Result, after: luthier.Result) -> None:
    found = after.evaluation.continued
    assert found is not None and found.old is not None and found.new is not None
    assert found.old.before == pytest.approx(before.evaluation.value), "the old model on its own test rows"
    assert found.old.n == before.evaluation.n and found.labels == ["maybe"]
    assert found.new.n == after.manifest["from"]["added"]["test"]
    right = pd.read_csv(after.paths.predictions)
    hits = (right["truth"] == right.iloc[:, 3]).to_numpy()
    assert found.old.after == pytest.approx(hits[: found.old.n].mean())
    assert found.new.after == pytest.approx(hits[found.old.n :].mean())
    assert {one.name for one in found.classes} == {"no", "yes"}
    report, card = after.report.read_text(), (after.paths.model / "README.md").read_text()
    for text in (report, card):
        assert "Against the model that was continued" in text and "old test rows" in text


def test_its_lineage_is_kept(before: luthier.Result, after: luthier.Result) -> None:
    parent = after.parent
    assert parent is not None
    assert Path(parent["folder"]) == before.folder.resolve() and parent["labels"] == ["maybe"]
    assert after.manifest["from"]["run"] == before.manifest["run"]
    assert before.parent is None and before.summary()["from"] is None
    json.dumps(after.summary())


def test_a_continued_run_is_continued_in_turn(before: luthier.Result, after: luthier.Result) -> None:
    found = prepared(after.folder)
    assert found.about["model"] == str(after.paths.model)
    assert [Path(name) for name in found.about["anew"]] == [Path(before.manifest["best"]["recipe"]["model"])]
    assert found.prepared.known == {name: len(frame) for name, frame in found.prepared.dataset.splits.items()}
    assert found.prepared.task.label_names == ["maybe", "no", "yes"]


def test_the_deployed_head_goes_on_and_the_default_space_lets_it(
    before: luthier.Result, tmp_path: Path
) -> None:
    more().to_csv(tmp_path / "new.csv", index=False)
    found = prepared(before.folder, add=tmp_path / "new.csv").prepared
    deployed = str(before.paths.model)
    head = found.sources[deployed].head
    assert head is not None and head.outputs == (-1, 0, 1)
    space = search_space(found, None, list(found.sources))
    points = np.random.default_rng(0).random((60, len(space.dimensions)))
    recipes = [space.sample(point) for point in points]
    own = [recipe for recipe in recipes if recipe.model == deployed]
    assert {recipe.head_init for recipe in own} == {"model", "probe"}
    assert {(recipe.head, recipe.pooling) for recipe in own} == {("linear", "mean")}
    assert all(recipe.head_init != "model" for recipe in recipes if recipe.model != deployed)


def test_the_old_study_is_read_where_it_lies(after: luthier.Result, before: luthier.Result) -> None:
    (study,) = studies(after.manifest["from"])
    assert len(study.recipes) == len(before.trials)
    assert {recipe.model for recipe in study.recipes} == set(after.manifest["from"]["models"].values())


def test_a_model_that_does_not_say_what_it_said_is_not_compared_with(
    copied: Path, after: luthier.Result
) -> None:
    record = copied / "predictions.csv"
    table = pd.read_csv(record, dtype=str)
    answer = table.columns[3]
    about = after.manifest["from"] | {"folder": str(copied)}
    found = prepared(copied)
    outputs = [np.zeros(2) for _ in table.index]
    rows = {"rows": {"test": len(table)}, "labels": []}
    assert forgetting(found.prepared, about | rows, outputs, "cpu").refused == ""
    table[answer] = table[answer].map({"yes": "no", "no": "yes"})
    table.to_csv(record, index=False)
    refused = forgetting(found.prepared, about | rows, outputs, "cpu")
    assert "otherwise than" in refused.refused and refused.old is None
    shutil.rmtree(copied / "model")
    assert forgetting(found.prepared, about | rows, outputs, "cpu").refused


def test_a_resumed_run_goes_on_from_the_weights_that_it_began_with() -> None:
    prepared: Any = SimpleNamespace(
        known={}, notes=["Task."], sources={"old/model": SimpleNamespace(fingerprint="a")}
    )
    about = {"rows": {"train": 3}, "notes": ["Continues old."], "model": "old/model", "fingerprint": "a"}
    take_up(prepared, about)
    assert prepared.known == {"train": 3} and prepared.notes == ["Continues old.", "Task."]
    with pytest.raises(RunError, match="changed since"):
        take_up(prepared, about | {"fingerprint": "b"})


def write(path: Path, frame: pd.DataFrame) -> Path:
    frame.to_csv(path, index=False)
    return path


def test_what_cannot_be_added_is_refused_and_nothing_is_written(
    before: luthier.Result, tmp_path: Path
) -> None:
    ratings = made.ratings(40).rename(columns={"rating": "label"})
    (tmp_path / "nothing.csv").touch()
    cases: list[tuple[Path, type[LuthierError], str]] = [
        (tmp_path / "nowhere.csv", DataError, "nowhere.csv"),
        (tmp_path / "nothing.csv", DataError, "nothing.csv"),
        (write(tmp_path / "header.csv", more().head(0)), DataError, "header.csv"),
        (write(tmp_path / "columns.csv", more().rename(columns={"label": "lable"})), DataError, "'label'"),
        (write(tmp_path / "ratings.csv", ratings), DataError, "text-regression"),
    ]
    for file, kind, words in cases:
        with pytest.raises(kind) as error:
            luthier.tune(from_=before.folder, add=file, out=tmp_path / "out", **OPTIONS)
        assert words in f"{error.value.message} {error.value.hint}", error.value
        assert not (tmp_path / "out").exists()


def test_settings_that_contradict_the_run_are_refused(before: luthier.Result, tmp_path: Path) -> None:
    cases: list[dict[str, Any]] = [
        {"data": "data.csv"}, {"task": "text-regression"}, {"target": "text"}, {"group": "text"},
    ]  # fmt: skip
    for given in cases:
        with pytest.raises(SettingError):
            prepared(before.folder, **given)
    with pytest.raises(SettingError, match="no run that these rows"):
        Settings.parse({"add": "new.csv"})
    with pytest.raises(SettingError, match="a table was given"):
        luthier.tune(made.sentences(20), from_=before.folder, out=tmp_path / "out")


def test_a_run_that_cannot_be_continued_is_refused(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run"):
        open_origin(tmp_path / "nowhere")
    with pytest.raises(RunError) as error:
        open_origin(copied / "model")
    assert f"--from {copied}" in str(error.value.hint)
    data = tmp_path / "data.csv"
    text = data.read_text()
    data.write_text(text.replace("good", "bad", 1))
    with pytest.raises(RunError, match="changed since"):
        open_origin(copied)
    data.unlink()
    with pytest.raises(RunError, match="cannot be read again"):
        open_origin(copied)
    data.write_text(text)
    folder = RunFolder(copied)
    folder.write_manifest(folder.read_manifest() | {"status": "running"})
    with pytest.raises(RunError, match="is not finished"):
        open_origin(copied)
    shutil.rmtree(folder.model)
    with pytest.raises(RunError, match="no finished model"):
        open_origin(copied)


def test_a_deployment_stands_for_the_run_of_its_version_in_charge(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUTHIER_REGISTRY", str(tmp_path / "deployments"))
    with pytest.raises(RunError, match="no run 'reviews'"):
        origin("reviews")
    luthier.deploy_model(copied, "reviews")
    assert origin("reviews") == copied.resolve()
    assert open_origin("reviews").name == "data"
    card = copied / "model" / "README.md"
    card.write_text(card.read_text() + "Corrected.")
    assert origin("reviews") == copied.resolve()
    (copied / "model" / "luthier.json").write_text("{}")
    with pytest.raises(RunError, match="another model by now"):
        origin("reviews")
    copied.rename(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="is not there"):
        origin("reviews")


def test_a_run_is_found_from_another_folder(
    before: luthier.Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(before.folder.parent)
    assert origin("run") == Path("run")
    monkeypatch.chdir(tmp_path)
    assert origin(before.folder) == before.folder
