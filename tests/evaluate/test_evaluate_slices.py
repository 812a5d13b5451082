"""Slices: what they hold, and which are called worse, on rows whose truth is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.errors import SettingError
from luthier.evaluate.slices import (
    MISSING,
    MOST,
    OTHER,
    Slice,
    check_columns,
    column_parts,
    find_slices,
    permuted,
    quartiles,
    resampled,
)
from luthier.tasks.base import Columns
from luthier.tasks.multi_label import MultiLabelClassification
from luthier.tasks.text_classification import TextClassification
from luthier.tasks.text_regression import TextRegression


def rows(count: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "text": [" ".join(["word"] * int(size)) for size in rng.integers(1, 41, count)],
            "label": rng.choice(["ant", "bee", "cow"], count, p=[0.5, 0.3, 0.2]),
            "source": rng.choice(["app", "mail", "web"], count),
            "year": rng.integers(2000, 2020, count),
        }
    )


def classes(frame: pd.DataFrame) -> TextClassification:
    task = TextClassification(Columns({"input": "text", "target": "label"}))
    task.fit(frame)
    return task


def said(task: TextClassification, frame: pd.DataFrame, right: np.ndarray) -> list[np.ndarray]:
    """Outputs that are right where they are said to be."""
    true = np.array([int(one) for one in task.targets(frame)])
    shown = np.where(right, true, (true + 1) % task.num_outputs)
    return list(np.eye(task.num_outputs)[shown] * 4)


def named(found: list[Slice], kind: str) -> dict[str, Slice]:
    return {one.name: one for one in found if one.kind == kind}


def test_a_slice_that_is_worse_is_called_so_and_no_other() -> None:
    frame = rows(600)
    task = classes(frame)
    rng = np.random.default_rng(1)
    rate = np.where(frame["source"] == "mail", 0.65, 0.92)
    found = find_slices(
        task,
        said(task, frame, rng.random(600) < rate),
        task.targets(frame),
        frame,
        columns=["source", "year"],
    )
    assert [(one.kind, one.name) for one in found if one.worse] == [("source", "mail")]
    mail = named(found, "source")["mail"]
    assert mail.n == int((frame["source"] == "mail").sum())
    assert mail.interval[0] <= mail.value <= mail.interval[1]
    assert set(named(found, "class")) == {"ant", "bee", "cow"}
    lengths = named(found, "length")
    assert len(lengths) == 4 and sum(one.n for one in lengths.values()) == 600
    assert next(iter(lengths)).startswith("1 to ") and all(name.endswith(" words") for name in lengths)
    assert len(named(found, "year")) == 4


def test_classes_are_judged_by_their_recall() -> None:
    frame = rows(500)
    task = classes(frame)
    rng = np.random.default_rng(2)
    right = rng.random(500) < np.where(frame["label"] == "cow", 0.55, 0.95)
    found = named(find_slices(task, said(task, frame, right), task.targets(frame), frame), "class")
    cows = (frame["label"] == "cow").to_numpy()
    assert found["cow"].value == pytest.approx(right[cows].mean())
    assert found["cow"].worse and not found["ant"].worse and not found["bee"].worse


def test_equal_slices_are_hardly_ever_called_worse() -> None:
    wrong = 0
    for seed in range(40):
        frame = rows(200, seed)
        task = classes(frame)
        right = np.random.default_rng(seed + 1000).random(200) < 0.8
        found = find_slices(task, said(task, frame, right), task.targets(frame), frame, columns=["source"])
        wrong += any(one.worse for one in found)
    assert wrong <= 6  # 5% of 40 are 2; 7 or more have odds of less than 1 in 200


def test_few_rows_have_no_interval_and_are_never_worse() -> None:
    frame = rows(100)
    frame["source"] = ["rare"] * 9 + ["usual"] * 91
    task = classes(frame)
    found = find_slices(
        task, said(task, frame, np.arange(100) >= 9), task.targets(frame), frame, columns=["source"]
    )
    rare = named(found, "source")["rare"]
    assert (rare.n, rare.value, rare.worse) == (9, 0.0, False)
    assert math.isnan(rare.interval[0]) and math.isnan(rare.p)
    assert Slice.from_json(json.loads(json.dumps(_plain(rare)))).name == "rare"


def _plain(part: Slice) -> dict[str, object]:
    return {name: None if value != value else value for name, value in part.to_json().items()}


def test_rows_of_a_group_are_no_independent_evidence() -> None:
    """Two sources, each of few authors that are all right or all wrong."""
    authors = np.repeat(np.arange(20), 30)
    frame = pd.DataFrame(
        {
            "text": ["some words"] * 600,
            "label": ["ant", "bee"] * 300,
            "source": np.where(authors < 10, "app", "web"),
        }
    )
    task = classes(frame)
    right = ~np.isin(authors, [0, 1, 2, 3, 10, 11])
    given_: dict[str, object] = {"columns": ["source"]}
    outputs, targets = said(task, frame, right), task.targets(frame)
    alone = named(find_slices(task, outputs, targets, frame, **given_), "source")  # type: ignore[arg-type]
    grouped = named(
        find_slices(task, outputs, targets, frame, groups=authors, **given_),  # type: ignore[arg-type]
        "source",
    )
    assert alone["app"].worse and not grouped["app"].worse
    width = {which: found["app"].interval[1] - found["app"].interval[0] for which, found in
             (("alone", alone), ("grouped", grouped))}  # fmt: skip
    assert width["grouped"] > 3 * width["alone"]


def test_lower_may_be_better_and_labels_may_be_many() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"text": ["a b"] * 200, "value": rng.normal(size=200), "part": ["x", "y"] * 100})
    numbers = TextRegression(Columns({"input": "text", "target": "value"}))
    numbers.fit(frame)
    noise = rng.normal(size=200) * np.where(frame["part"] == "y", 1.5, 0.5)
    outputs = [np.array([t + e]) for t, e in zip(numbers.targets(frame), noise, strict=True)]
    found = named(find_slices(numbers, outputs, numbers.targets(frame), frame, columns=["part"]), "part")
    assert found["y"].value > 2 * found["x"].value
    assert found["y"].worse and not found["x"].worse
    topics = pd.DataFrame({"text": ["a b"] * 120, "labels": ["x;y", "y;z", "x;z"] * 40})
    many = MultiLabelClassification(Columns({"input": "text", "target": "labels"}))
    many.fit(topics)
    truths = many.targets(topics)
    outputs = [np.where(t == 1, 2.0, -2.0) * np.where(np.arange(3) == 2, -1, 1) for t in truths]
    by_label = named(find_slices(many, outputs, truths, topics), "class")
    assert (by_label["x"].value, by_label["z"].value) == (1.0, 0.0)
    assert by_label["z"].worse and not by_label["x"].worse


def test_columns_of_many_values_and_of_numbers_are_cut() -> None:
    many = pd.Series([f"v{i}" for i in range(60)] + ["v0", "v1"] + [None])
    parts = column_parts(many)
    assert len(set(parts)) == MOST and OTHER in parts and parts[0] == "v0"
    assert len(set(column_parts(many[:50]))) == 50
    few = column_parts(pd.Series([1, 2, 2, None]))
    assert few == ["1.0", "2.0", "2.0", MISSING]
    numbers = column_parts(pd.Series(np.arange(100.0)))
    assert len(set(numbers)) == 4 and numbers[0] == "0 to 24"
    assert column_parts(pd.Series([True, False])) == ["True", "False"]
    assert column_parts(pd.Series([["a"], ["b"]])) == ["['a']", "['b']"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(math.nan)), max_size=60))
def test_quarters_part_the_numbers(values: list[float]) -> None:
    parts = quartiles(np.array(values), "words")
    assert len(parts) == len(values) and len(set(parts) - {MISSING}) <= 4
    assert [part == MISSING for part in parts] == [math.isnan(value) for value in values]
    for one in values:
        equal = {part for part, value in zip(parts, values, strict=True) if value == one}
        assert len(equal) <= 1


def test_no_such_column_lists_those_there_are() -> None:
    frame = rows(3).assign(__row__=[1, 2, 3])
    check_columns(["source"], frame, "the data")
    with pytest.raises(SettingError, match="'sorce'") as error:
        check_columns(["sorce"], frame, "the data")
    assert "source" in str(error.value.hint) and "__row__" not in str(error.value.hint)


def test_the_permutation_test_agrees_with_fishers() -> None:
    from scipy.stats import hypergeom

    right = np.array([1.0] * 60 + [0.0] * 20 + [1.0] * 13 + [0.0] * 12)
    table = np.stack([np.ones(105), right], axis=1)
    inside = np.arange(105) >= 80

    def accuracy(totals: np.ndarray) -> np.ndarray:
        return np.asarray(totals[..., 1] / totals[..., 0])

    exact = hypergeom(105, 73, 25).cdf(13)
    assert permuted(table, inside, accuracy) == pytest.approx(exact, abs=0.01)
    # The same by drawing rows, where their statistics are all different.
    odd = table + np.array([0, 1e-9]) * np.arange(105)[:, None]
    assert permuted(odd, inside, accuracy) == pytest.approx(exact, abs=0.012)
    own, rest = table * inside[:, None], table * ~inside[:, None]
    assert resampled(own, rest, accuracy, None) == pytest.approx(exact, abs=0.02)
    assert math.isnan(resampled(own, rest, accuracy, np.where(inside, "one", "other")))
