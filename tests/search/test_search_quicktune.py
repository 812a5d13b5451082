"""Reading QuickTune runs: made files for the mapping and its errors, the real ones where they are at hand."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from luthier.errors import SettingError
from luthier.search.quicktune import read
from luthier.space import Listed

SHARED = Path(os.environ.get("SHARED", Path(__file__).resolve().parents[3] / "shared")) / "data" / "quicktune"
ROW = {
    "amp": 0, "batch_size": 16, "cat:data_augmentation:None": 1, "cat:data_augmentation:random_augment": 0,
    "cat:model:a": 1, "cat:model:b": 0, "cat:opt:adamp": 1, "cat:opt:momentum": 0, "cat:sched:cosine": 1,
    "cat:sched:step": 0, "clip_grad": -1.0, "drop": 0.2, "layer_decay": -1.0, "linear_probing": 0, "lr": 5e-4,
    "momentum": 0.8, "pct_to_freeze": 0.4, "smoothing": 0.1, "sp_reg": 0.001, "warmup_epochs": 5,
    "weight_decay": 0.01,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    rows = {
        "11": ROW,
        "12": ROW | {"amp": 1},
        "13": ROW | {"cat:model:a": 0, "cat:model:b": 1, "linear_probing": 1, "cat:opt:adamp": 0,
                     "cat:opt:momentum": 1, "cat:sched:cosine": 0, "cat:sched:step": 1, "clip_grad": 10.0},
    }  # fmt: skip
    with (tmp_path / "configurations.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["configuration", *ROW])
        writer.writeheader()
        writer.writerows({"configuration": name} | row for name, row in rows.items())
    (tmp_path / "accuracy.json").write_text(json.dumps({"D": {"11": [50, 60], "13": [70], "12": [10, 20]}}))
    (tmp_path / "seconds.json").write_text(json.dumps({"D": {"11": [3, 3], "13": [4], "12": [5, 6]}}))
    (tmp_path / "datasets.json").write_text("{}")
    return tmp_path


def test_rows_become_recipes_and_the_rest_features(folder) -> None:
    (study,) = read(folder)
    first, second, third = study.recipes
    assert study.name == "quicktune:D"
    assert study.scores == [[0.5, 0.6], [0.7], [0.1, 0.2]] and study.seconds == [[3, 3], [4], [5, 6]]
    assert (first.model, first.adaptation, first.last_k, first.optimizer) == ("a", "last_k", 6, "adamw")
    assert (first.schedule, first.warmup, first.clip_norm, first.layer_decay) == ("cosine", 0.1, None, 1.0)
    assert (first.head_dropout, first.weight_decay, first.l2_start, first.epochs) == (0.2, 0.01, 0.001, 50)
    assert (second.model, second.adaptation, second.optimizer, second.momentum) == ("b", "probe", "sgd", 0.8)
    assert (second.schedule, second.clip_norm) == ("constant", 10.0)
    # Equal in all that a recipe says, so its model has a number; a feature tells them apart.
    assert third == first.model_copy(update={"model": "a#2"})
    assert study.features[:, 0].tolist() == [0.4, 1.0, 0.4] and study.feature_names[0] == "frozen"
    assert study.features[:, list(study.feature_names).index("quicktune:amp")].tolist() == [0, 0, 1]
    assert not any("configuration" in name or ":lr" in name for name in study.feature_names)


def test_a_folder_without_its_files_is_an_error(folder) -> None:
    (folder / "seconds.json").unlink()
    with pytest.raises(SettingError, match=r"seconds.json.* is missing"):
        read(folder)


def test_files_of_another_form_are_an_error(folder) -> None:
    (folder / "accuracy.json").write_text('{"D": {"99": [1]}}')
    with pytest.raises(SettingError, match="cannot be read"):
        read(folder)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the QuickTune runs are not beside this checkout")
def test_the_real_runs_are_lists_to_choose_from() -> None:
    studies = read(SHARED)
    assert len(studies) == 18 and sum(len(study.recipes) for study in studies) > 3000
    for study in studies:
        assert len(Listed(study.recipes, study.features, study.feature_names).recipes) == len(study.scores)
        assert all(len(a) == len(b) for a, b in zip(study.scores, study.seconds, strict=True))
        assert max(max(scores) for scores in study.scores) <= 1.0
        assert np.isfinite(study.features).all()
