"""Telling texts and images from features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import made
from luthier.errors import DataError
from luthier.estimators.inputs import read

TEXTS = ["a cat", "1.5", ""]


@pytest.mark.parametrize(
    "X",
    [
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        np.array(TEXTS, dtype=object)[:, None],
        pd.Series(TEXTS),
        pd.Series(TEXTS, dtype=object, index=[5, 6, 7]),
        pd.DataFrame({"said": TEXTS}),
    ],
)
def test_texts(X: Any) -> None:
    found = read(X)
    assert found is not None and found.kind == "text"
    assert found.cells == TEXTS and {type(cell) for cell in found.cells} == {str}


@pytest.mark.parametrize(
    "X",
    [[[1.0, 2.0]], np.zeros((3, 1)), np.zeros((3, 2), dtype=object), pd.DataFrame({"a": [1]}), [1, 2], []],
)
def test_features_are_left_to_scikit_learn(X: Any) -> None:
    assert read(X) is None


def test_images(tmp_path: Path) -> None:
    made.pictures(tmp_path, 4)
    files = sorted(tmp_path.rglob("*.png"))
    for X in (files, [str(file) for file in files], np.array(files, dtype=object)):
        found = read(X)
        assert found is not None and found.kind == "image"
        dataset = found.dataset(["a"] * len(files), None)
        assert dataset.root == tmp_path
        assert [dataset.root / name for name in dataset.splits["train"]["image"]] == files


def test_images_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made.pictures(tmp_path, 2)
    file = next(tmp_path.rglob("*.png"))
    found = read([Image.new("RGB", (3, 3)), file])
    assert found is not None and found.kind == "image"
    dataset = found.dataset(["a", "b"], None)
    names = dataset.splits["train"]["image"]
    assert (dataset.root / names[1]).read_bytes() == file.read_bytes()
    with Image.open(dataset.root / names[0]) as image:
        assert image.size == (3, 3)
    with pytest.raises(DataError, match=r"'gone\.png' cannot be read"):
        (found := read([Image.new("RGB", (3, 3)), "gone.png"])) and found.dataset(["a", "b"], None)


@pytest.mark.parametrize(
    ("X", "said"),
    [
        ("a cat", "'a cat', not a list"),
        (["a", None], "the one at 1 is missing"),
        (["a", 3], "the one at 1 is 3"),
        (["a.png", "a cat", Path("b.png")], "mixes texts and images: the one at 2"),
        (pd.DataFrame({"n": [1.0], "t": ["a"]}), "2 columns, and 't' holds texts"),
        (pd.DataFrame([["a", 1.0], [2.0, 1.0]], columns=["t", "t"]), "2 columns, and 't' holds texts"),
        (pd.DataFrame({"t": [None, "a"]}), "the one at 0 is missing"),
    ],
)
def test_what_is_neither_is_refused(X: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(X)
