"""What an earlier model says, read by a task that was fitted to more rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.tasks.base import Columns
from luthier.tasks.carried import NEW, UNSAID, by_name
from luthier.tasks.text_classification import TextClassification
from luthier.tasks.text_regression import TextRegression

NAMES = st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1, max_size=6)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(NAMES, NAMES, st.integers(0, 99))
def test_every_output_keeps_its_name(new: list[str], old: list[str], seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(3, len(old)))
    (rows,) = by_name(new, old).apply([values])
    assert rows.shape == (3, len(new))
    for at, name in enumerate(new):
        if name in old:
            np.testing.assert_array_equal(rows[:, at], values[:, old.index(name)])
        else:
            assert (rows[:, at] <= values.min(initial=0) - UNSAID).all()


def test_a_class_that_the_earlier_model_does_not_know_is_never_its_answer() -> None:
    tasks = []
    for labels in (["no", "yes"], ["maybe", "no", "yes"]):
        task = TextClassification(Columns({"input": "text", "target": "label"}))
        task.fit(pd.DataFrame({"text": ["t"] * len(labels), "label": labels}))
        tasks.append(task)
    old, new = tasks
    carried = new.carried(old)
    assert carried.outputs == (NEW, 0, 1) and carried.any
    said = carried.apply([np.array([-80.0, -90.0]), np.array([2.0, 3.0])])
    assert [answer["label"] for answer in new.decode(said)] == ["no", "yes"]
    assert np.isfinite(new.example_losses(said, [np.array(0), np.array(1)])).all()


def test_nothing_in_common_is_nothing_to_carry() -> None:
    assert not by_name(["a"], ["b"]).any


def test_a_number_is_the_same_number_in_another_scale() -> None:
    tasks = []
    for values in ([1.0, 2.0, 6.0], [10.0, 20.0, 25.0, -4.0]):
        task = TextRegression(Columns({"input": "text", "target": "value"}))
        task.fit(pd.DataFrame({"text": ["t"] * len(values), "value": values}))
        tasks.append(task)
    old, new = tasks
    outputs = [np.array([0.3]), np.array([-1.7])]
    before = [answer["value"] for answer in old.decode(outputs)]
    after = [answer["value"] for answer in new.decode(new.carried(old).apply(outputs))]
    assert after == pytest.approx(before)
