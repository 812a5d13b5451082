"""Records become requests: right answers by labels of every kind, and what does not fit left out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from records_made import CLASSES, START, classifier, logits, reference

from luthier.errors import DataError
from luthier.monitor.records import Recorded
from luthier.monitor.requests import outcomes_of, requests_of, strange
from luthier.tasks.base import Columns
from luthier.tasks.multi_label import MultiLabelClassification
from luthier.tasks.text_regression import TextRegression
from luthier.tasks.token_classification import TokenClassification


def recorded(count: int, **changed) -> Recorded:
    values = {
        "ids": [f"r{at}" for at in range(count)],
        "times": START + np.arange(count),
        "versions": ["1"] * count,
        "outputs": list(logits(count)),
        "features": [np.full(8, at, dtype=np.float32) for at in range(count)],
        "statistics": [{"length": float(at), "unknown": 0.0} for at in range(count)],
        "labels": {},
    }
    return Recorded(**{**values, **changed})


def test_requests_are_arrays_in_order() -> None:
    known = reference()
    found = requests_of(classifier(), known, recorded(5))
    assert list(found.ids) == [f"r{at}" for at in range(5)]
    assert found.outputs.shape == (5, 3) and found.features.shape == (5, 8)
    assert (found.outcomes, found.truths) == (None, None)
    assert found.statistics.keys() == known.statistics.keys()


def test_what_is_not_known_is_nan_and_other_shapes_are_left_out() -> None:
    rows = recorded(4)
    rows.features[1] = None
    rows.features[2] = np.zeros(3, dtype=np.float32)
    rows.outputs[3] = np.zeros(7, dtype=np.float32)
    found = requests_of(classifier(), reference(), rows)
    assert len(found) == 3 and list(found.ids) == ["r0", "r1", "r2"]
    assert np.isnan(found.features[1:]).all() and np.isfinite(found.features[0]).all()
    blank = recorded(2, features=[None, None])
    assert requests_of(classifier(), reference(), blank).features is None
    assert len(requests_of(classifier(), reference(), recorded(0))) == 0


def test_labels_say_which_answers_were_right() -> None:
    outputs = list(logits(5))
    said = [CLASSES[int(np.argmax(output))] for output in outputs]
    wrong = next(name for name in CLASSES if name != said[1])
    outcomes, truths = outcomes_of(classifier(), outputs, [said[0], wrong, "fish", None, f" {said[4]} "])
    np.testing.assert_array_equal(outcomes, [1, 0, 0, np.nan, 1])
    assert truths.tolist() == [CLASSES.index(said[0]), CLASSES.index(wrong), -1, -1, CLASSES.index(said[4])]


def test_several_decisions_give_the_share_that_was_right() -> None:
    task = MultiLabelClassification(Columns({"input": "text", "target": "labels"}))
    task.fit(pd.DataFrame({"text": ["a", "b"], "labels": [["x", "y"], ["z"]]}))
    outputs = [np.array([3.0, -3.0, -3.0])]
    outcomes, truths = outcomes_of(task, outputs, [["x", "y"]])
    assert outcomes[0] == pytest.approx(2 / 3) and truths is None


def test_tags_need_no_words() -> None:
    task = TokenClassification(Columns({"input": "words", "target": "tags"}))
    task.fit(pd.DataFrame({"words": [["a", "b"]], "tags": [["B-X", "O"]]}))
    names = task.label_names
    output = np.full((3, len(names)), -3.0)
    for word, tag in enumerate(["B-X", "O", "O"]):
        output[word, names.index(tag)] = 3.0
    outcomes, _ = outcomes_of(task, [output], [["B-X", "O", "B-X"]])
    assert outcomes[0] == pytest.approx(2 / 3)


def test_errors_are_in_the_targets_own_units() -> None:
    task = TextRegression(Columns({"input": "text", "target": "price"}))
    task.fit(pd.DataFrame({"text": ["a", "b", "c"], "price": [10.0, 20.0, 30.0]}))
    mean, deviation = task.scale
    outcomes, truths = outcomes_of(task, [np.array([(25 - mean) / deviation])] * 2, [20, None])
    assert outcomes[0] == pytest.approx(5) and np.isnan(outcomes[1]) and truths is None
    with pytest.raises(DataError):
        strange(task, ["many"])


def test_several_columns_are_one_label() -> None:
    task = MultiLabelClassification(Columns({"input": "text", "target": ["hot", "wet"]}))
    task.fit(pd.DataFrame({"text": ["a", "b"], "hot": [1, 0], "wet": [0, 1]}))
    outcomes, _ = outcomes_of(task, [np.array([2.0, 2.0])], [{"hot": 1, "wet": 0}])
    assert outcomes[0] == pytest.approx(0.5)


def test_strange_labels_are_told_apart() -> None:
    assert strange(classifier(), ["cat", "fish", "dog"]).tolist() == [False, True, False]
