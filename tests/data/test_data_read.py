"""Where a source goes to, and how given splits are recognised."""

from __future__ import annotations

import pandas as pd
import pytest

from luthier.data import Dataset, read
from luthier.errors import DataError

TABLE = "text,label\nhello there,a\nbye now,b\n"


def test_folder_with_a_file_a_split_in_any_spelling(tmp_path):
    for name in ("training.csv", "dev.csv", "test.csv", "README.csv.bak", "SOURCE.txt"):
        (tmp_path / name).write_text(TABLE)
    dataset = read(tmp_path)
    assert list(dataset.splits) == ["train", "validation", "test"]
    assert dataset.name == tmp_path.name


def test_single_file_beside_others_stays_single(tmp_path):
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text(TABLE)
    assert list(read(tmp_path / "train.csv").splits) == ["train"]


def test_shards_of_a_split_are_joined_and_two_spellings_refused(tmp_path):
    for name in ("train-00000-of-00002.csv", "train-00001-of-00002.csv"):
        (tmp_path / name).write_text(TABLE)
    dataset = read(tmp_path)
    assert dataset.splits["train"]["__row__"].is_unique and len(dataset.splits["train"]) == 4
    (tmp_path / "train.csv").write_text(TABLE)
    with pytest.raises(DataError, match="two train splits"):
        read(tmp_path)


def test_folder_with_one_table_and_with_several(tmp_path):
    (tmp_path / "only.csv").write_text(TABLE)
    assert len(read(tmp_path).splits["train"]) == 2
    (tmp_path / "second.csv").write_text(TABLE)
    with pytest.raises(DataError, match=r"only\.csv, second\.csv"):
        read(tmp_path)


def test_empty_folder(tmp_path):
    with pytest.raises(DataError, match="no data set"):
        read(tmp_path)


def test_list_of_files(tmp_path):
    for name in ("one.csv", "two.csv", "odd.csv"):
        (tmp_path / name).write_text(TABLE if name != "odd.csv" else "other\nx\n")
    dataset = read([tmp_path / "one.csv", tmp_path / "two.csv"])
    assert dataset.splits["train"]["__row__"].tolist() == [2, 3, 5, 6]
    with pytest.raises(DataError, match="other columns"):
        read([tmp_path / "one.csv", tmp_path / "odd.csv"])
    with pytest.raises(DataError, match="no file"):
        read([])


def test_split_column_is_taken_only_when_it_holds_nothing_else():
    frame = pd.DataFrame({"text": list("abc"), "split": ["train", "val", "test"]})
    dataset = read(frame)
    assert {name: part.text.tolist() for name, part in dataset.splits.items()} == {
        "train": ["a"], "validation": ["b"], "test": ["c"]
    }  # fmt: skip
    assert dataset.splits["test"]["__row__"].tolist() == [3]
    assert "split" not in dataset.splits["train"]
    assert list(read(frame.assign(split=["train", "val", "banana"])).splits) == ["train"]


def test_named_split_column_must_hold_split_names():
    frame = pd.DataFrame({"text": list("ab"), "part": ["train", "banana"]})
    with pytest.raises(DataError, match="'banana' in row 2"):
        read(frame, split_column="part")
    with pytest.raises(DataError, match="'nope'") as raised:
        read(frame, split_column="nope")
    assert "text, part" in str(raised.value)


def test_dict_of_frames_and_frames():
    frame = pd.DataFrame({"text": ["a"], "label": ["b"]}, index=[17])
    dataset = read({"train": frame, "dev": frame})
    assert list(dataset.splits) == ["train", "validation"]
    assert dataset.splits["train"].index.tolist() == [0]
    assert "__row__" not in frame, "the user's frame is not changed"
    for bad in (
        {"banana": frame},
        {"train": frame, "training": frame},
        {"train": frame.iloc[:0]},
        {"train": [1]},
        3.5,
    ):
        with pytest.raises(DataError):
            read(bad)


def test_a_dataset_comes_back_as_it_is():
    dataset = Dataset("d", {"train": pd.DataFrame({"text": ["a"]})})
    assert read(dataset) is dataset


def test_conll(tmp_path):
    path = tmp_path / "train.conll"
    path.write_text("-DOCSTART- -X- O O\n\nEU NNP I-NP B-ORG\n# NN I-NP O\n\n\nrejects VBZ I-VP O\n")
    frame = read(path).splits["train"]
    assert frame.tokens.tolist() == [["EU", "#"], ["rejects"]]
    assert frame.tags.tolist() == [["B-ORG", "O"], ["O"]]
    assert frame["__row__"].tolist() == [3, 7]


def test_conll_with_tabs_odd_separators_and_spaces_in_words(tmp_path):
    path = tmp_path / "a.conll"
    path.write_bytes("New York\tB-location\r\n\u2028\tO\r\n\t\r\nx\tO".encode())
    frame = read(path).splits["train"]
    assert frame.tokens.tolist() == [["New York", "\u2028"], ["x"]]


def test_conll_under_the_ending_txt(tmp_path):
    (tmp_path / "train.txt").write_text("EU B-ORG\nrejects O\n\n")
    assert read(tmp_path).splits["train"].tags.tolist() == [["B-ORG", "O"]]
