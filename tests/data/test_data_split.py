"""The laws of splitting: a partition, groups whole, seeded, proportional, every class in training."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from luthier.data import Dataset, split
from luthier.data.duplicates import normalise
from luthier.errors import DataError

LABELS = st.lists(st.integers(0, 4), min_size=12, max_size=200)
SHARES = st.floats(0.05, 0.4)


def made(labels, groups=None, texts=None):
    frame = pd.DataFrame({"label": labels, "__row__": np.arange(len(labels)) * 3 + 2})
    if groups is not None:
        frame["group"] = groups
    if texts is not None:
        frame["text"] = texts
    return Dataset("d", {"train": frame})


def rows(dataset):
    return {name: part["__row__"].tolist() for name, part in dataset.splits.items()}


def assert_partition(before, after):
    together = [row for part in rows(after).values() for row in part]
    assert sorted(together) == before.splits["train"]["__row__"].tolist()
    assert list(after.splits) == ["train", "validation", "test"]
    assert all(len(part) and part.index.tolist() == list(range(len(part))) for part in after.splits.values())


@settings(max_examples=100, deadline=None)
@given(LABELS, SHARES, SHARES, st.integers(0, 9))
def test_stratified(labels, validation, test, seed):
    data = made(labels)
    strata = np.array(labels)
    counts = np.bincount(strata)
    assume((counts > 1).any())
    after = split(data, strata=strata, validation=validation, test=test, seed=seed)
    assert_partition(data, after)
    assert rows(after) == rows(split(data, strata=strata, validation=validation, test=test, seed=seed))
    assert set(after.splits["train"].label) == set(labels)
    if counts[counts > 0].min() >= 8:
        for name, share in (("test", test), ("validation", validation)):
            assert abs(len(after.splits[name]) - max(1, round(share * len(labels)))) <= 1
            got = np.bincount(after.splits[name].label, minlength=len(counts))
            assert (np.abs(got - share * counts) <= 2).all()


@settings(max_examples=100, deadline=None)
@given(LABELS, st.integers(3, 30), st.integers(0, 9), st.data())
def test_groups_never_cross(labels, number, seed, drawn):
    groups = drawn.draw(st.lists(st.integers(0, number), min_size=len(labels), max_size=len(labels)))
    assume(len(set(groups)) >= 4)
    data = made(labels, groups)
    try:
        after = split(data, strata=np.array(labels), groups="group", seed=seed)
    except DataError as error:
        assert "group" in error.message
        return
    assert_partition(data, after)
    sets = [set(part.group) for part in after.splits.values()]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
    assert rows(after) == rows(split(data, strata=np.array(labels), groups="group", seed=seed))


def test_grouped_and_stratified_keeps_both_near():
    generator = np.random.default_rng(0)
    groups = generator.integers(0, 60, 1200)
    labels = (generator.random(1200) < 0.1 + 0.4 * (groups % 2)).astype(int)
    after = split(made(labels, groups), strata=labels, groups="group", validation=0.15, test=0.2, seed=3)
    assert abs(len(after.splits["test"]) / 1200 - 0.2) < 0.03
    assert abs(len(after.splits["validation"]) / 1200 - 0.15) < 0.03
    for part in after.splits.values():
        assert abs(part.label.mean() - labels.mean()) < 0.05


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.sampled_from(["one two", "One, two!", "three four", "five six", "Five six", "seven"]), min_size=12
    ),
    st.booleans(),
)
def test_equal_inputs_stay_together(texts, grouped):
    assume(len({normalise(text) for text in texts}) >= 4)
    groups = list(range(len(texts)))
    try:
        after = split(
            made([0] * len(texts), groups, texts), groups="group" if grouped else None, inputs="text", seed=1
        )
    except DataError:
        assert grouped
        return
    keys = [{normalise(text) for text in part.text} for part in after.splits.values()]
    assert not (keys[0] & keys[1] or keys[0] & keys[2] or keys[1] & keys[2])


def test_seeds_differ():
    data = made([0, 1] * 50)
    assert rows(split(data, seed=0)) != rows(split(data, seed=1))


def test_given_splits_are_untouched_and_missing_ones_come_from_training():
    frame = pd.DataFrame({"text": [f"t{i}" for i in range(20)]})
    test = pd.DataFrame({"text": ["x"]})
    data = Dataset("d", {"train": frame, "test": test})
    after = split(data, validation=0.2, seed=0)
    pd.testing.assert_frame_equal(after.splits["test"], data.splits["test"])
    assert len(after.splits["validation"]) == 4 and len(after.splits["train"]) == 16
    other = split(Dataset("d", {"train": frame, "validation": test}), test=0.2, seed=0)
    assert (len(other.splits["validation"]), len(other.splits["test"])) == (1, 4)
    whole = Dataset("d", {"train": frame, "validation": test, "test": test})
    assert rows(split(whole)) == rows(whole)


def test_classes_of_one_row_stay_in_training_with_a_note():
    labels = np.array(["a"] * 10 + ["b"] * 10 + ["lonely"])
    after = split(made(labels), strata=labels, seed=0)
    assert "lonely" in set(after.splits["train"].label)
    assert any("one row only" in note for note in after.notes)


def test_all_classes_of_one_row_fall_back():
    labels = np.array([f"c{i}" for i in range(12)])
    after = split(made(labels), strata=labels, seed=0)
    assert all(len(part) for part in after.splits.values())
    assert any("without regard" in note for note in after.notes)


def test_automatic_validation_size_is_bounded():
    after = split(made([0, 1] * 10_000), validation=None, seed=0)
    assert len(after.splits["validation"]) == 2000


def test_missing_groups_are_groups_of_one_and_lists_can_be_groups():
    groups = [["a"], ["a"], None, None, None, ["b"], ["c"], ["d"], ["e"], ["f"]]
    after = split(made([0] * 10, groups), groups="group", validation=0.2, test=0.2, seed=0)
    assert_partition(made([0] * 10), after)


def test_group_that_given_splits_share_is_said():
    frame = pd.DataFrame({"g": ["a", "b"] * 10})
    after = split(Dataset("d", {"train": frame, "test": frame}), groups="g", validation=0.4, seed=0)
    assert any("share 2 values" in note for note in after.notes)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([0] * 10, {"groups": "nope"}, "'nope'"),
        ([0] * 10, {"validation": 1.5}, "1.5"),
        ([0] * 10, {"test": 0.0}, "0.0"),
        ([0] * 10, {"test": 0.6, "validation": 0.5}, "too few"),
        ([0] * 2, {}, "too few"),
        ([0] * 10, {"groups": "label"}, "One group"),
    ],
)
def test_what_cannot_be_split(labels, options, message):
    with pytest.raises(DataError, match=message):
        split(made(labels), **options)


def test_no_such_group_lists_the_columns():
    with pytest.raises(DataError) as raised:
        split(made([0] * 10), groups="nope")
    assert "label" in str(raised.value) and "__row__" not in str(raised.value)


def test_no_training_rows():
    with pytest.raises(DataError, match="no train split"):
        split(Dataset("d", {"test": pd.DataFrame({"a": [1]})}))
