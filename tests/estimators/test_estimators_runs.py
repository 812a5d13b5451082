"""Both estimators over runs: on texts and images, with tiny models."""

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import luthier
import made
from luthier import FineTunedClassifier, FineTunedRegressor
from luthier.errors import DataError, ModelError, RunError, SettingError
from luthier.estimators import runs

Tiny = Callable[[str], Path]
DATA = made.sentences(120)
TEXTS = list(DATA["text"])


def options(model: Path, **more: Any) -> dict[str, Any]:
    """A run of about a second that learns which of two words is there."""
    space = {"epochs": 4, "batch_size": 16, "learning_rate": 1e-2, "head": "linear", "pooling": "mean"}
    return {
        "model": str(model), "budget": "10m", "trials": 1, "repeats": 1, "strategy": "random", "space": space,
        "threads": 1, "stack": 1, "random_state": 0,
    } | more  # fmt: skip


@pytest.fixture(scope="module")
def fitted(tiny_model: Tiny) -> FineTunedClassifier:
    return FineTunedClassifier(**options(tiny_model("bert"))).fit(TEXTS, DATA["label"])


def test_it_learns(fitted: FineTunedClassifier) -> None:
    assert fitted.score(TEXTS, DATA["label"]) > 0.9
    assert list(fitted.classes_) == ["no", "yes"] and fitted.n_features_in_ == 1
    shares = fitted.predict_proba(TEXTS[:5])
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(np.log(shares), fitted.predict_log_proba(TEXTS[:5]))
    decided = fitted.decision_function(TEXTS[:5])
    assert decided.shape == (5,)
    np.testing.assert_allclose(1 / (1 + np.exp(-decided)), shares[:, 1])
    assert (fitted.predict(TEXTS[:5]) == fitted.classes_[(decided > 0).astype(int)]).all()


def test_the_run_says_the_same(fitted: FineTunedClassifier) -> None:
    run = fitted.result_
    assert run is not None and run.evaluation.metric == "accuracy"
    assert len(run.trials) == 1 and run.report.is_file()
    answers = run.predict(TEXTS[:5])
    assert [answer["label"] for answer in answers] == list(fitted.predict(TEXTS[:5]))
    shares = [[answer["probabilities"][name] for name in ("no", "yes")] for answer in answers]
    np.testing.assert_allclose(fitted.predict_proba(TEXTS[:5]), shares)


def test_texts_come_in_many_forms(fitted: FineTunedClassifier) -> None:
    expected = fitted.predict_proba(TEXTS)
    forms = [np.array(TEXTS), np.array(TEXTS, dtype=object)[:, None], DATA["text"], DATA[["text"]]]
    for form in forms:
        np.testing.assert_array_equal(fitted.predict_proba(form), expected)


def test_predicting_changes_nothing(fitted: FineTunedClassifier) -> None:
    before = dict(vars(fitted))
    fitted.predict(TEXTS[:3])
    assert vars(fitted) == before


@pytest.mark.parametrize("through", [pickle, joblib])
def test_a_pickle_takes_the_model_along(fitted: FineTunedClassifier, through: Any) -> None:
    file = io.BytesIO()
    through.dump(fitted, file)
    file.seek(0)
    again = through.load(file)
    np.testing.assert_array_equal(again.predict_proba(TEXTS), fitted.predict_proba(TEXTS))
    assert again.result_ is None and again.get_params() == fitted.get_params()
    twice = pickle.loads(pickle.dumps(again))
    np.testing.assert_array_equal(twice.predict_proba(TEXTS), fitted.predict_proba(TEXTS))


def test_a_pickle_holds_the_files_as_they_are(fitted: FineTunedClassifier) -> None:
    """No object of ours but the estimator and its model, no weights but those of safetensors."""
    files = fitted.model_.__getstate__()["files"]
    folder = fitted.result_.paths.model
    assert files["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert {type(content) for content in files.values()} == {bytes}


def test_a_clone_is_unfitted(fitted: FineTunedClassifier) -> None:
    again = clone(fitted)
    assert again.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        again.predict(TEXTS)
    assert not hasattr(again, "result_")


def test_it_is_quiet_and_equal_seeds_are_equal(
    fitted: FineTunedClassifier, capfd: pytest.CaptureFixture[str]
) -> None:
    again = clone(fitted).fit(TEXTS, DATA["label"])
    assert capfd.readouterr() == ("", "")
    np.testing.assert_array_equal(again.predict_proba(TEXTS), fitted.predict_proba(TEXTS))


def test_a_folder_keeps_every_fit(
    tiny_model: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier = FineTunedClassifier(**options(tiny_model("bert"), folder=tmp_path / "kept", verbose=True))
    classifier.fit(TEXTS, DATA["label"])
    assert "[luthier] Searching\n" in capsys.readouterr().out
    first = classifier.result_.folder
    classifier.set_params(verbose=False).fit(TEXTS[:60], DATA["label"][:60])
    folders = {classifier.result_.folder, first}
    assert set((tmp_path / "kept").iterdir()) == folders and len(folders) == 2
    del classifier
    gc.collect()
    assert luthier.load(first).predict(TEXTS[0])
    assert luthier.resume(first, budget="+1s").folder.resolve() == first


def test_nothing_stays_behind(tiny_model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    classifier = FineTunedClassifier(**options(tiny_model("bert"))).fit(TEXTS[:60], DATA["label"][:60])
    again, expected = copy.deepcopy(classifier), classifier.predict_proba(TEXTS[:4])
    assert len(list(tmp_path.glob("luthier-*"))) == 2
    # A fork of this process that ends must not take the folders along.
    if not (child := os.fork()):
        del classifier, again
        os._exit(0)
    os.waitpid(child, 0)
    assert len(list(tmp_path.glob("luthier-*"))) == 2
    del classifier
    gc.collect()
    assert len(list(tmp_path.glob("luthier-*"))) == 1
    np.testing.assert_array_equal(again.predict_proba(TEXTS[:4]), expected)
    del again
    gc.collect()
    assert not list(tmp_path.glob("luthier-*"))

    def fail(*settings: Any, **more: Any) -> Any:
        raise RunError("It ended.", "Continue it with: luthier resume")

    monkeypatch.setattr(runs, "tune", fail)
    with pytest.raises(RunError, match=r"It ended\.\nGive a larger budget"):
        FineTunedClassifier(**options(tiny_model("bert"))).fit(TEXTS, DATA["label"])
    assert not list(tmp_path.glob("luthier-*"))


def test_a_lost_folder_is_said(tiny_model: Tiny, tmp_path: Path) -> None:
    classifier = FineTunedClassifier(**options(tiny_model("bert"), folder=tmp_path))
    classifier.fit(TEXTS[:60], DATA["label"][:60])
    shutil.rmtree(classifier.result_.folder)
    with pytest.raises(RunError, match="folder is gone"):
        pickle.dumps(classifier)
    with pytest.raises(ModelError):
        classifier.set_params(model=str(tmp_path / "none")).fit(TEXTS[:60], DATA["label"][:60])
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match="cannot be used"):
        classifier.set_params(folder=tmp_path / "file").fit(TEXTS[:60], DATA["label"][:60])


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        (["10", "9"], ["10", "9"]),
        (["a", "a "], ["0", "1"]),
    ],
)
def test_classes_of_every_kind(tiny_model: Tiny, labels: list[Any], named: list[str]) -> None:
    y = np.array(labels)[(DATA["label"] == "yes").to_numpy().astype(int)]
    classifier = FineTunedClassifier(**options(tiny_model("bert"))).fit(TEXTS, y)
    assert list(classifier.classes_) == sorted(labels)
    assert classifier.score(TEXTS, y) > 0.9
    assert set(classifier.model_.labels) == set(named)


def test_regression(tiny_model: Tiny) -> None:
    data = made.ratings(120)
    space = {"epochs": 8, "batch_size": 16, "learning_rate": 1e-2, "head": "linear", "pooling": "mean"}
    regressor = FineTunedRegressor(**options(tiny_model("bert"), space=space))
    regressor.fit(data[["text"]], data["rating"])
    assert regressor.score(data[["text"]], data["rating"]) > 0.5
    values = [answer["value"] for answer in regressor.result_.predict(list(data["text"]))]
    np.testing.assert_array_equal(regressor.predict(data["text"]), values)
    assert not hasattr(regressor, "decision_function")


def test_images(tiny_model: Tiny, tmp_path: Path) -> None:
    made.pictures(tmp_path, 40)
    files = sorted((tmp_path / "train").rglob("*.png"))
    y = [file.parent.name for file in files]
    space = {"adaptation": "probe", "epochs": 20, "batch_size": 8, "learning_rate": 3e-2}
    classifier = FineTunedClassifier(**options(tiny_model("vit"), space=space, folder=tmp_path / "runs"))
    # Some rows twice: both of them must lie in one split.
    classifier.fit(files, y, sample_weight=[1 + (row % 3 == 0) for row in range(len(files))])
    assert classifier.score([str(file) for file in files], y) > 0.9
    assert classifier.result_.evaluation.groups is not None
    assert luthier.resume(classifier.result_.folder, budget="+1s").predict([files[0]])
    with pytest.raises(DataError, match="reads images, and X holds texts"):
        classifier.predict(TEXTS)


def test_adaptations_are_a_part_of_the_default_space(tiny_model: Tiny) -> None:
    told = options(tiny_model("bert"), space=None, adaptation=["probe", "full"], trials=2)
    classifier = FineTunedClassifier(**told).fit(TEXTS[:60], DATA["label"][:60])
    assert set(classifier.result_.trials["adaptation"]) <= {"probe", "full"}
    space = classifier.result_.manifest["searched"]
    assert space["learning_rate"] and space["model"] == told["model"]


def test_adaptations_that_mean_nothing_are_refused(tiny_model: Tiny) -> None:
    told = options(tiny_model("bert"))
    with pytest.raises(SettingError, match="both given"):
        FineTunedClassifier(**told, adaptation="full").fit(TEXTS, DATA["label"])
    with pytest.raises(SettingError, match="no adaptation 'bias'"):
        FineTunedClassifier(**told | {"space": None}, adaptation="bias").fit(TEXTS, DATA["label"])
    with pytest.raises(SettingError, match="no default one for images"):
        FineTunedClassifier(adaptation="full").fit(["a.png", "b.png"], [0, 1])


def test_weights_are_rows(tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of the wrong label have no weight, and are not seen."""
    given: list[pd.DataFrame] = []

    def watched(settings: Any, *, data: Any, progress: Any) -> Any:
        given.append(data.splits["train"])
        return original(settings, data=data, progress=progress)

    original = runs.tune
    monkeypatch.setattr(runs, "tune", watched)
    wrong = DATA["label"].to_numpy()[::-1]
    y = np.concatenate([DATA["label"], wrong, ["never"]])
    weight = np.concatenate([np.full(120, 2.0), np.zeros(121)])
    weight[:10] = 4.0
    X = [*TEXTS, *TEXTS, "a cat"]
    classifier = FineTunedClassifier(**options(tiny_model("bert"))).fit(X, y, sample_weight=weight)
    assert list(classifier.classes_) == ["no", "yes"]
    assert list(given[0]["text"]) == [*np.repeat(TEXTS[:10], 2), *TEXTS[10:]]
    assert classifier.score(TEXTS, DATA["label"]) > 0.9


def test_groups_stay_together(tiny_model: Tiny) -> None:
    groups = [f"p{row // 4}" for row in range(120)]
    classifier = FineTunedClassifier(**options(tiny_model("bert")))
    classifier.fit(TEXTS, DATA["label"], groups=groups)
    assert classifier.result_.evaluation.groups is not None


def test_a_class_that_no_training_row_has_is_never_said(tiny_model: Tiny) -> None:
    """Where every group has a class of its own, the groups that are held out take theirs along."""
    groups = np.arange(120) // 30
    y = [f"own {groups[row]}" if row % 30 < 5 else label for row, label in enumerate(DATA["label"])]
    classifier = FineTunedClassifier(**options(tiny_model("bert"))).fit(TEXTS, y, groups=groups)
    shares = classifier.predict_proba(TEXTS)
    assert shares.shape == (120, 6)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    absent = [name not in classifier.model_.labels for name in classifier.classes_]
    assert sum(absent) == 2 and (shares[:, absent] == 0).all()
    kept = [place for place, gone in enumerate(absent) if not gone]
    said = [answer["label"] for answer in classifier.result_.predict(TEXTS)]
    assert list(classifier.classes_[kept][shares[:, kept].argmax(axis=1)]) == said


def test_what_cannot_be_learnt_from_is_refused(fitted: FineTunedClassifier) -> None:
    again = clone(fitted)
    with pytest.raises(DataError, match="one class only, 'no'"):
        again.fit(TEXTS[:10], ["no"] * 10)
    with pytest.raises(DataError, match="the target y is None"):
        again.fit(TEXTS, None)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        again.fit(TEXTS, ["no", "yes"])
    with pytest.raises(ValueError, match="zero"):
        again.fit(TEXTS, DATA["label"], sample_weight=np.zeros(120))
    with pytest.raises(ValueError, match="NaN"):
        FineTunedRegressor().fit(TEXTS[:2], [1.0, np.nan])
    with pytest.raises(SettingError, match="'soon'"):
        clone(fitted).set_params(budget="soon").fit(TEXTS, DATA["label"])
    with pytest.raises(DataError, match="reads texts, and X holds features"):
        fitted.predict(np.zeros((3, 1)))
    with pytest.raises(DataError, match="reads texts, and X holds images"):
        fitted.predict(["a.png"])


def test_features_after_texts_and_texts_after_features(tiny_model: Tiny) -> None:
    table = pd.DataFrame(np.arange(240.0).reshape(120, 2), columns=["a", "b"])
    classifier = FineTunedClassifier(**options(tiny_model("bert"))).fit(table, DATA["label"])
    assert classifier.n_features_in_ == 2
    classifier.fit(TEXTS, DATA["label"])
    assert classifier.n_features_in_ == 1 and not hasattr(classifier, "feature_names_in_")
    classifier.fit(table, DATA["label"])
    assert list(classifier.feature_names_in_) == ["a", "b"] and classifier.result_ is None


def test_a_model_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name.startswith("gt_all") else real(name, *more),
    )
    with pytest.raises(ModelError, match=r"luthier\[minilm\]"):
        FineTunedClassifier(budget="1s").fit(TEXTS, DATA["label"])
