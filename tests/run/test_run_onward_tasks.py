"""Runs of every kind of task are continued: heads, scales, files and words go along."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import luthier
import made

Tiny = Callable[[str], Path]
OPTIONS: dict[str, Any] = {
    "budget": "20m", "trials": 1, "repeats": 1, "folds": 0, "strategy": "random", "threads": 1,
    "baselines": ["majority"], "ensemble": "none",
}  # fmt: skip
SPACE = {"learning_rate": 3e-3, "adaptation": "full", "epochs": 1, "batch_size": 16}


def continued(data: Any, new: Any, model: Path, folder: Path, **more: Any) -> luthier.Result:
    given = {**OPTIONS, "space": SPACE, **more}
    before = luthier.tune(data, model=str(model), out=folder / "before", **given)
    after = luthier.tune(from_=before.folder, add=new, out=folder / "after", **OPTIONS)
    found = after.evaluation.continued
    assert found is not None and not found.refused
    assert found.old is not None and found.old.before == pytest.approx(before.evaluation.value)
    assert after.trials["status"].tolist() == ["completed"]
    assert after.trials["head_init"].tolist() == ["model"]
    assert after.predict(
        pd.read_parquet(after.folder / "data" / "test.parquet").head(2), after.folder / "data"
    )
    return after


def test_numbers(tiny_model: Tiny, tmp_path: Path) -> None:
    new = made.ratings(40, seed=5)
    new["rating"] = 10 * new["rating"] + 3
    after = continued(made.ratings(60), new, tiny_model("bert"), tmp_path, target="rating")
    assert after.manifest["from"]["labels"] == []


def test_any_number_of_labels(tiny_model: Tiny, tmp_path: Path) -> None:
    new = made.topics(40, seed=5)
    new.loc[::2, "labels"] += ";late"
    given = {"target": "labels", "task": "multi-label-classification"}
    after = continued(made.topics(80), new, tiny_model("bert"), tmp_path, **given)
    assert after.manifest["from"]["labels"] == ["late"]


def test_words(tiny_model: Tiny, tmp_path: Path) -> None:
    made.conll(tmp_path / "old.conll", 60)
    made.conll(tmp_path / "new.conll", 30, seed=5)
    continued(tmp_path / "old.conll", tmp_path / "new.conll", tiny_model("bert"), tmp_path)


def test_images(tiny_model: Tiny, tmp_path: Path) -> None:
    made.pictures(tmp_path / "old", 32)
    made.pictures(tmp_path / "new", 20, seed=5)
    after = continued(tmp_path / "old", tmp_path / "new", tiny_model("vit"), tmp_path)
    assert (after.folder / "data" / "new" / "train" / "bright").is_dir()
    assert after.manifest["from"]["added"]["test"] == 5
