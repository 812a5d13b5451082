"""The datasets library: its objects, hub ids, and what is said without it."""

from __future__ import annotations

import importlib.util

import pandas as pd
import pytest
from PIL import Image

from luthier.data import read
from luthier.data.hub import is_hub_id
from luthier.errors import DataError, MissingExtra

datasets = pytest.importorskip("datasets")


def test_dataset_dict_with_class_names():
    features = datasets.Features(
        {
            "tokens": datasets.Sequence(datasets.Value("string")),
            "tags": datasets.Sequence(datasets.ClassLabel(names=["O", "B-x"])),
        }
    )
    part = datasets.Dataset.from_dict({"tokens": [["a", "b"]], "tags": [[0, 1]]}, features=features)
    dataset = read(datasets.DatasetDict({"train": part, "validation": part, "unsupervised": part}))
    assert list(dataset.splits) == ["train", "validation"]
    assert dataset.splits["train"].tags.tolist() == [["O", "B-x"]]
    assert dataset.splits["train"].tokens.tolist() == [["a", "b"]]
    assert any("unsupervised" in note for note in dataset.notes)


def test_single_object_and_hidden_labels():
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["n", "y"])}
    )
    dataset = read(datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, -1]}, features=features))
    assert dataset.splits["train"].label.map(pd.isna).tolist() == [False, True]


def test_images(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pictures = [Image.new("RGB", (3, 2), (shade, 0, 0)) for shade in (5, 6)]
    features = datasets.Features({"img": datasets.Image(), "label": datasets.Value("string")})
    dataset = read(datasets.Dataset.from_dict({"img": pictures, "label": ["a", "b"]}, features=features))
    assert dataset.modality == "image"
    assert [
        Image.open(dataset.root / name).getpixel((0, 0))[0] for name in dataset.splits["train"].image
    ] == [5, 6]


def test_streaming_and_empty_are_refused():
    part = datasets.Dataset.from_dict({"text": ["a"]})
    with pytest.raises(DataError, match="streaming"):
        read(part.to_iterable_dataset())
    with pytest.raises(DataError, match="no rows"):
        read(part.select([]))


@pytest.mark.parametrize(
    ("source", "is_id"),
    [
        ("user/name", True),
        ("user/na-me.v2:config", True),
        ("name", False),
        ("../up/name", False),
        ("/abs/name", False),
        ("a/b/c", False),
    ],
)
def test_form_of_hub_ids(source, is_id):
    assert is_hub_id(source) == is_id


def test_without_the_library_the_extra_is_named(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "datasets" else found(name, *rest)
    )
    with pytest.raises(MissingExtra, match=r"luthier\[hub\]"):
        read("user/name")


def test_hub_id_with_config_and_its_failure(monkeypatch):
    def load(name, config):
        assert (name, config) == ("user/name", "small")
        raise RuntimeError("no network\nlong trace")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"no network\n") as raised:
        read("user/name:small")
    assert "long trace" not in str(raised.value)
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name, config: datasets.Dataset.from_dict({"text": ["a"]})
    )
    assert read("user/name").name == "name"
