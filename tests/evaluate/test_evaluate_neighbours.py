from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.evaluate import neighbours as module
from luthier.evaluate.neighbours import nearest, neighbours
from luthier.tasks.base import Columns
from luthier.tasks.multi_label import MultiLabelClassification
from luthier.tasks.text_classification import TextClassification
from luthier.tasks.text_regression import TextRegression
from luthier.tasks.token_classification import TokenClassification


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 10), st.integers(0, 2**31))
def test_they_are_the_most_similar(known: int, asked: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference, rows = rng.normal(size=(known, 5)), rng.normal(size=(asked, 5))
    count = int(rng.integers(1, known + 1))
    found = nearest(reference, rows, count)
    cosine = (rows @ reference.T) / np.linalg.norm(rows, axis=1)[:, None] / np.linalg.norm(reference, axis=1)
    expected = -np.sort(-cosine, axis=1)[:, :count]
    np.testing.assert_allclose(np.take_along_axis(cosine, found, axis=1), expected, atol=1e-5)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    reference, rows = rng.normal(size=(50, 4)), rng.normal(size=(23, 4))
    whole = nearest(reference, rows, 7)
    monkeypatch.setattr(module, "_CELLS", 120)
    assert (nearest(reference, rows, 7) == whole).all()
    assert nearest(np.zeros((3, 4)), rows, 2).shape == (23, 2)  # no direction, and no division by zero


def cloud(rows: int, seed: int, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 2, rows)
    shown = np.where(rng.random(rows) < noise, 1 - classes, classes)
    return rng.normal(size=(rows, 6)) + 3 * np.eye(2, 6)[classes], shown


def test_the_number_is_chosen_on_validation_and_noise_asks_for_more() -> None:
    task = TextClassification(Columns({"input": "text", "target": "label"}))
    task.fit(pd.DataFrame({"text": ["a", "b"], "label": ["no", "yes"]}))
    (train, answers), (validation, truths) = cloud(400, 0, 0.3), cloud(300, 1)
    test, right = cloud(300, 2)

    def arrays(values: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(one) for one in values]

    found = neighbours(task, train, validation, test, arrays(answers), arrays(truths))
    assert found is not None
    count, outputs = found
    assert count >= 9
    assert task.metrics(outputs, arrays(right))["accuracy"] > 0.9
    single = task.vote(arrays(answers), nearest(train, test, 1))
    assert single is not None and task.metrics(single, arrays(right))["accuracy"] < 0.8


def test_what_each_task_makes_of_neighbours() -> None:
    near = np.array([[0, 1], [2, 2]])
    numbers = TextRegression(Columns({"input": "text", "target": "value"}))
    numbers.fit(pd.DataFrame({"text": ["a"] * 3, "value": [1.0, 2.0, 3.0]}))
    voted = numbers.vote([np.float32(1), np.float32(3), np.float32("nan")], near)
    assert voted is not None and [float(one[0]) for one in voted] == [2.0, 2.0]
    many = MultiLabelClassification(Columns({"input": "text", "target": "labels"}))
    many.fit(pd.DataFrame({"text": ["a", "b"], "labels": ["x;y", "y"]}))
    said = many.vote([np.array([1, 0.0]), np.array([1, 0.0]), np.array([0.0, 1])], near)
    assert said is not None and (said[0] > 0).tolist() == [True, False] == (said[1] < 0).tolist()
    tags = TokenClassification(Columns({"input": "tokens", "target": "tags"}))
    assert tags.vote([], near) is None
