"""Rows added to a data set that is split already: old ones stay where they are, new ones are split alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from luthier.data.dataset import ROW, SPLITS, Dataset
from luthier.data.join import FEWEST, Parts, join
from luthier.errors import DataError

PARTS = Parts("text", ["label"])


def strata(frame: pd.DataFrame) -> np.ndarray:
    return frame["label"].astype(str).to_numpy()


def rows(name: str, count: int, **more: object) -> pd.DataFrame:
    texts = [f"{name} says the number {i}" for i in range(count)]
    return pd.DataFrame({"text": texts, "label": ["a", "b"] * (count // 2) + ["a"] * (count % 2), **more})


def old(**more: list[object]) -> Dataset:
    sizes = {"train": 70, "validation": 10, "test": 20}
    return Dataset("old", {name: rows(name, size, **more) for name, size in sizes.items()}, source="old.csv")


def added(frame: pd.DataFrame) -> Dataset:
    return Dataset("new", {"train": frame}, source="new.csv")


def texts(dataset: Dataset, name: str) -> set[str]:
    return set(dataset.splits[name]["text"])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 60), st.lists(st.integers(0, 19), max_size=8), st.integers(0, 5))
@example(0, [0], 0)  # an added table whose empty part has a type of its own
def test_old_rows_keep_their_places_and_no_test_row_is_trained_on(
    fresh: int, again: list[int], seed: int
) -> None:
    before = old()
    repeated = before.splits["test"].iloc[again][["text", "label"]].assign(label="b")
    frame = pd.concat([rows("new", fresh), repeated], ignore_index=True)
    if frame.empty:
        return
    joined = join(before, added(frame), PARTS, strata=strata, seed=seed)
    for name in SPLITS:
        top = joined.splits[name].head(len(before.splits[name]))
        pd.testing.assert_frame_equal(top[["text", "label", ROW]], before.splits[name])
        assert joined.splits[name][ROW].is_unique
    assert not texts(joined, "test") & texts(joined, "train")
    assert not texts(joined, "test") & texts(joined, "validation")
    numbers = pd.concat([joined.splits[name][ROW] for name in SPLITS])
    assert (numbers > 70).sum() == len(frame) - sum(before.splits["test"]["label"].iloc[again] == "b")


def test_new_rows_are_split_in_the_proportions_of_the_old_ones() -> None:
    joined = join(old(), added(rows("new", 100)), PARTS, strata=strata)
    assert [len(joined.splits[name]) for name in SPLITS] == [140, 20, 40]
    assert joined.splits["test"]["label"].tail(20).value_counts().to_dict() == {"a": 10, "b": 10}
    assert "Added rows: 70 train, 10 validation, 20 test." in joined.notes


def test_old_texts_keep_their_type_when_new_ones_come_as_objects() -> None:
    joined = join(old(), added(rows("new", 100).astype({"text": object})), PARTS, strata=strata)
    assert {joined.splits[name]["text"].dtype for name in SPLITS} == {rows("old", 1)["text"].dtype}


def test_shares_that_were_asked_for_win() -> None:
    joined = join(old(), added(rows("new", 100)), PARTS, strata=strata, validation=0.3, test=0.4)
    assert [len(joined.splits[name]) for name in SPLITS] == [100, 40, 60]


def test_the_same_row_again_is_left_out_and_another_answer_stays_with_its_input() -> None:
    before = old()
    frame = before.splits["test"].head(2)[["text", "label"]].assign(label=["a", "maybe"])
    joined = join(before, added(frame), PARTS, strata=strata)
    assert [len(joined.splits[name]) for name in SPLITS] == [70, 10, 21]
    assert joined.splits["test"]["label"].iloc[-1] == "maybe"
    assert any("left out" in note for note in joined.notes)
    assert any("another answer" in note and "rows 72" in note for note in joined.notes)


def test_few_rows_are_all_trained_on() -> None:
    joined = join(old(), added(rows("new", FEWEST - 1)), PARTS, strata=strata)
    assert [len(joined.splits[name]) for name in SPLITS] == [70 + FEWEST - 1, 10, 20]
    assert any("So few added rows" in note for note in joined.notes)


def test_a_class_that_is_new_is_trained_on() -> None:
    joined = join(old(), added(rows("new", 40).assign(label=["a"] * 39 + ["new"])), PARTS, strata=strata)
    assert "new" in set(joined.splits["train"]["label"])


def test_rows_of_a_group_go_where_the_group_is() -> None:
    before = old()
    for name, frame in before.splits.items():
        frame["patient"] = [f"{name} {i % 5}" for i in range(len(frame))]
    frame = rows("new", 60, patient=[f"new {i % 12}" for i in range(48)] + ["test 1"] * 12)
    parts = Parts("text", ["label"], groups="patient")
    joined = join(before, added(frame), parts, strata=strata)
    assert (joined.splits["test"]["patient"] == "test 1").sum() == 4 + 12
    groups = [set(joined.splits[name]["patient"]) for name in SPLITS]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert len(joined.splits["test"]) > 20 + 12, "no new group is tested on"


def test_a_group_is_one_however_its_number_is_written() -> None:
    before = old()
    for first, frame in enumerate(before.splits.values()):
        frame["patient"] = 100 * first + np.arange(len(frame)) % 5
    frame = rows("new", 12, patient=[200.0] * 11 + [None])
    joined = join(before, added(frame), Parts("text", ["label"], groups="patient"), strata=strata)
    assert (joined.splits["test"]["patient"] == 200).sum() == 4 + 11


def test_splits_that_the_rows_come_with_are_kept() -> None:
    new = Dataset("new", {"train": rows("new", 30), "test": rows("held", 7)}, source="new")
    joined = join(old(), new, PARTS, strata=strata)
    assert len(joined.splits["test"]) == 27
    assert len(joined.splits["validation"]) == 13


def test_one_column_may_hold_numbers_here_and_texts_there(tmp_path: Path) -> None:
    joined = join(old(), added(rows("new", 40).assign(label=[1, 2] * 20)), PARTS, strata=strata)
    assert set(joined.splits["train"]["label"]) == {"a", "b", "1", "2"}
    joined.splits["train"].to_parquet(tmp_path / "kept.parquet")
    assert (
        pd.read_parquet(tmp_path / "kept.parquet")["label"].tolist()
        == joined.splits["train"]["label"].tolist()
    )


def test_a_whole_number_is_one_answer_however_it_is_written() -> None:
    before = old()
    before.splits["train"]["label"] = [1, 2] * 35
    frame = before.splits["train"].head(2)[["text"]].assign(label=[1.0, 2.0])
    joined = join(before, added(frame), PARTS, strata=strata)
    assert len(joined.splits["train"]) == 70


def test_a_column_that_lacks_is_named() -> None:
    with pytest.raises(DataError, match=r"'label' in new\.csv") as error:
        join(old(), added(rows("new", 20).rename(columns={"label": "Label"})), PARTS, strata=strata)
    assert "Label" in str(error.value.hint)


def test_inputs_of_another_kind_are_refused() -> None:
    frame = pd.DataFrame({"image": ["a.png"], "label": ["a"]})
    with pytest.raises(DataError, match="image"):
        join(old(), Dataset("new", {"train": frame}, "image"), PARTS, strata=strata)


def test_images_are_named_from_a_folder_of_both_and_known_by_their_bytes(tmp_path: Path) -> None:
    for place, shade in (("one/a.png", 10), ("one/b.png", 60), ("two/a.png", 60), ("two/c.png", 200)):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8), shade).save(tmp_path / place)
    files = {"train": ["a.png"], "validation": ["a.png"], "test": ["b.png"]}
    frames = {name: pd.DataFrame({"image": file, "label": ["x"]}) for name, file in files.items()}
    before = Dataset("old", frames, "image", tmp_path / "one")
    frame = pd.DataFrame({"image": ["a.png", "c.png"], "label": ["x", "y"]})
    new = Dataset("new", {"train": frame}, "image", tmp_path / "two")
    joined = join(before, new, Parts("image", ["label"], "image"), strata=strata)
    assert joined.root == tmp_path
    assert joined.splits["train"]["image"].tolist() == ["one/a.png", "two/c.png"]
    assert joined.splits["test"]["image"].tolist() == ["one/b.png"], "the bytes of b stand in two/a.png"
    assert all((joined.root / file).is_file() for file in joined.splits["train"]["image"])
