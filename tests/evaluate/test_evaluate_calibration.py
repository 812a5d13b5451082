"""Calibration and temperature on outputs whose truth is known."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from luthier.evaluate.calibration import (
    BINS,
    COOLEST,
    Calibration,
    calibrate,
    calibration_error,
    fit_temperature,
    reliability,
)
from luthier.evaluate.intervals import wilson
from luthier.tasks.base import Columns, Decisions
from luthier.tasks.multi_label import MultiLabelClassification
from luthier.tasks.text_classification import TextClassification
from luthier.tasks.text_regression import TextRegression
from luthier.tasks.token_classification import TokenClassification

CLASSES = 4


@pytest.fixture
def task() -> TextClassification:
    task = TextClassification(Columns({"input": "text", "target": "label"}))
    task.fit(pd.DataFrame({"text": list("abcd"), "label": list("abcd")}))
    return task


def drawn(rows: int, temperature: float, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Logits that would be calibrated if they were divided by the temperature, and answers drawn so."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (rows, CLASSES))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    classes = (shares.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    return list(logits * temperature), [np.asarray(one) for one in classes]


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_is_found_again(task: TextClassification, temperature: float) -> None:
    assert fit_temperature(task, *drawn(2000, temperature)) == pytest.approx(temperature, rel=0.08)


@pytest.mark.parametrize("temperature", [0.4, 2.5])
def test_dividing_by_it_calibrates_rows_it_was_not_fitted_on(
    task: TextClassification, temperature: float
) -> None:
    found = fit_temperature(task, *drawn(1000, temperature, seed=1))
    outputs, targets = drawn(1000, temperature, seed=2)
    told = calibrate(task, [row / found for row in outputs], targets, temperature=found)
    assert told is not None and told.temperature == found
    assert told.before > 3 * told.error and told.before > 0.1
    assert told.interval[0] == 0 <= told.error <= told.interval[1] < told.before


def test_all_right_is_no_reason_to_be_infinitely_sure(task: TextClassification) -> None:
    classes = np.random.default_rng(0).integers(0, CLASSES, 300)
    targets = [np.asarray(one) for one in classes]
    for margin in (1.0, 4.0, 30.0):
        found = fit_temperature(task, list(np.eye(CLASSES)[classes] * margin), targets)
        assert COOLEST < found <= 1
        assert np.exp(-margin / found) * len(classes) > 1e-12 or found == pytest.approx(1, abs=1e-2)


def test_where_no_temperature_is_fitted(task: TextClassification) -> None:
    outputs, targets = drawn(60, 3.0)
    assert fit_temperature(task, outputs[:49], targets[:49]) == 1.0
    assert fit_temperature(task, outputs[:50], targets[:50]) > 1.0
    gone = [np.asarray(-100)] * 30 + targets[30:]
    assert fit_temperature(task, outputs, gone) == 1.0
    frame = pd.DataFrame({"text": ["a"] * 60, "value": np.arange(60.0)})
    numbers = TextRegression(Columns({"input": "text", "target": "value"}))
    numbers.fit(frame)
    values = [np.array([float(i)]) for i in range(60)]
    assert fit_temperature(numbers, values, numbers.targets(frame)) == 1.0
    assert calibrate(numbers, values, numbers.targets(frame)) is None
    assert calibrate(task, outputs[:3], [np.asarray(-100)] * 3) is None


def test_the_interval_of_a_calibrated_model_begins_at_zero_and_of_another_does_not(
    task: TextClassification,
) -> None:
    zero = covered = 0
    for seed in range(20):
        good = calibrate(task, *drawn(300, 1.0, seed=seed))
        bad = calibrate(task, *drawn(300, 2.5, seed=seed))
        assert good is not None and bad is not None
        zero += good.interval[0] == 0
        covered += bad.interval[0] <= 0.173 <= bad.interval[1]  # the error of 200,000 rows
        assert bad.error > 2 * bad.chance
    assert zero >= 18 and covered >= 17


def test_it_is_the_mean_distance_over_bins_of_equal_mass() -> None:
    confidence = np.repeat([0.5, 0.7, 0.9], 40)
    right = np.concatenate([np.arange(40) < 20, np.arange(40) < 20, np.arange(40) < 40])
    decisions = Decisions(confidence, right, np.arange(120))
    error, interval, chance = calibration_error(decisions, np.arange(120))
    assert error == pytest.approx((0.0 + 0.2 + 0.1) / 3)
    assert interval[0] <= error <= interval[1] and 0 < chance < error
    bins = reliability(decisions, np.arange(120))
    assert [(one.n, one.accuracy) for one in bins] == [(40, 0.5), (40, 0.5), (40, 1.0)]
    assert (bins[0].low, bins[0].high) == pytest.approx(wilson(20, 40))
    # The order of the rows, and how equal confidences are cut, cannot matter.
    order = np.random.default_rng(0).permutation(120)
    mixed = Decisions(confidence[order], right[order], np.arange(120))
    assert calibration_error(mixed, np.arange(120), resamples=0)[0] == pytest.approx(error)


def test_decisions_of_one_unit_count_as_less() -> None:
    rng = np.random.default_rng(0)
    units = np.repeat(np.arange(40), 10)
    right = np.repeat(rng.random(40) < 0.7, 10)
    decisions = Decisions(np.full(400, 0.95), right, units)
    (together,), (apart,) = reliability(decisions, units), reliability(decisions, np.arange(400))
    assert together.n == apart.n == 400
    assert together.high - together.low > 2.5 * (apart.high - apart.low)
    wide, narrow = (calibration_error(decisions, one)[1] for one in (units, np.arange(400)))
    assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])
    assert np.isnan(calibration_error(decisions, np.zeros(400, dtype=int))[1][0])


@settings(max_examples=40, deadline=None)
@given(
    arrays(float, st.integers(1, 200), elements=st.floats(0, 1)),
    st.integers(0, 2**32 - 1),
)
def test_laws_of_the_error(confidence: np.ndarray, seed: int) -> None:
    right = np.random.default_rng(seed).random(len(confidence)) < confidence
    decisions = Decisions(confidence, right, np.arange(len(right)))
    error, (low, high), _ = calibration_error(decisions, np.arange(len(right)), resamples=50)
    assert abs(float(confidence.mean() - right.mean())) - 1e-9 <= error <= 1
    assert len(right) < 2 or 0 <= low <= error <= high
    bins = reliability(decisions, np.arange(len(right)))
    assert sum(one.n for one in bins) == len(right) and 1 <= len(bins) <= BINS
    assert [one.confidence for one in bins] == sorted(one.confidence for one in bins)


def test_words_and_label_decisions_are_what_is_binned() -> None:
    frame = pd.DataFrame({"tokens": [["a", "b", "c"], ["d"]], "tags": [["B-x", "O", "O"], ["O"]]})
    tagging = TokenClassification(Columns({"input": "tokens", "target": "tags"}))
    tagging.fit(frame)
    # The model reads two words of three.
    outputs = [np.array([[2.0, 0.0], [0.0, 0.0]]), np.array([[0.0, 3.0]])]
    decisions = tagging.decisions(outputs, tagging.targets(frame))
    assert decisions is not None and list(decisions.example) == [0, 0, 1]
    assert decisions.confidence[1] == pytest.approx(0.5)
    topics = pd.DataFrame({"text": ["a", "b"], "labels": ["x;y", "y"]})
    many = MultiLabelClassification(Columns({"input": "text", "target": "labels"}))
    many.fit(pd.concat([topics] * 5))
    decisions = many.decisions([np.array([-2.0, 1.0]), np.array([-1.0, 1.0])], many.targets(topics))
    assert decisions is not None and list(decisions.example) == [0, 0, 1, 1]
    assert list(decisions.right) == [False, True, True, True]
    assert decisions.confidence[0] == pytest.approx(1 / (1 + np.exp(-2)))


def test_an_answer_that_training_never_saw_is_wrong_and_a_missing_one_nothing(
    task: TextClassification,
) -> None:
    outputs, targets = drawn(4, 1.0)
    decisions = task.decisions(outputs, [np.asarray(-1), np.asarray(-100), *targets[2:]])
    assert decisions is not None and list(decisions.example) == [0, 2, 3] and not decisions.right[0]


def test_json_keeps_it(task: TextClassification) -> None:
    told = calibrate(task, *drawn(100, 1.0))
    assert told is not None
    assert Calibration.from_json(json.loads(json.dumps(told.to_json()))) == told
