from __future__ import annotations

import json
import math

import numpy as np
import pytest

from luthier.evaluate.sizes import SizeCurve, _gains, size_curve
from luthier.tasks.text_classification import TextClassification
from luthier.tasks.text_regression import TextRegression


def classes() -> TextClassification:
    return TextClassification.from_state(
        {"roles": {"input": "text", "target": "label"}, "labels": ["a", "b"]}
    )


def clouds(count: int, width: int, apart: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two classes of normal vectors, and which is which."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    vectors = rng.normal(size=(count, width))
    vectors[:, 0] += apart * (2 * labels - 1)
    return vectors, labels


def measured(count: int, width: int = 40, apart: float = 1.0, seed: int = 0) -> SizeCurve:
    train, labels = clouds(count, width, apart, seed)
    other, answers = clouds(600, width, apart, seed + 1000)
    wanted = np.eye(2)[labels] - 0.5
    found = size_curve(classes(), train, wanted, other, list(answers))
    assert found is not None
    return found


@pytest.mark.parametrize("exponent", [0.1, 0.5, 1.0])
def test_a_power_law_is_carried_on(exponent: float) -> None:
    sizes = np.array([25, 50, 100, 200, 400])
    errors = 0.1 + 0.3 * (sizes / 25.0) ** -exponent
    after = 0.1 + 0.3 * 32.0**-exponent
    assert _gains(sizes, errors[None])[0] == pytest.approx(errors[-1] - after, rel=1e-6)


def test_what_does_not_fall_gains_nothing() -> None:
    sizes = np.array([25, 50, 100, 200])
    assert _gains(sizes, np.array([[0.2, 0.2, 0.2, 0.2], [0.1, 0.2, 0.3, 0.4]])).tolist() == [0.0, 0.0]


def test_the_curve_climbs_and_its_promise_is_kept() -> None:
    """Over seeds, what twice the rows are said to reach is what they reach, and the interval holds it."""
    told = [measured(160, seed=seed) for seed in range(10)]
    assert told[0].rows == [10, 20, 40, 80, 160]
    assert (np.diff(np.mean([one.values for one in told], axis=0)) > 0).all()
    reached = np.array([measured(320, seed=seed).values[-1] for seed in range(10)])
    assert np.mean([one.twice for one in told]) == pytest.approx(reached.mean(), abs=0.02)
    held = [one.interval[0] <= value <= one.interval[1] for one, value in zip(told, reached, strict=True)]
    assert np.mean(held) >= 0.7
    for one in told:
        ends = zip(one.lows, one.values, one.highs, strict=True)
        assert all(low <= value <= high for low, value, high in ends)
        assert one.gain_interval[0] <= one.gain_interval[1] and one.twice <= 1


def test_a_learnt_target_promises_nothing() -> None:
    flat = measured(600, width=2, apart=3.0)
    assert flat.gain < 0.01 and flat.gain_interval[0] < 0.005


def test_errors_of_which_less_is_better() -> None:
    task = TextRegression.from_state({"roles": {"input": "text", "target": "value"}, "mean": 0.0, "std": 1.0})
    rng = np.random.default_rng(0)
    x, other, w = rng.normal(size=(200, 60)), rng.normal(size=(300, 60)), rng.normal(size=(60, 1))
    y, answers = x @ w + rng.normal(size=(200, 1)), other @ w
    found = size_curve(task, x, y, other, list(answers[:, 0].astype(np.float32)))
    assert found is not None and found.values[-1] < found.values[0]
    assert found.twice < found.values[-1] and found.gain > 0
    assert all(low <= high for low, high in zip(found.lows, found.highs, strict=True))


def test_too_few_rows_have_no_curve_and_few_no_law() -> None:
    train, labels = clouds(8, 4, 1.0, 0)
    assert size_curve(classes(), train, np.eye(2)[labels], train, list(labels)) is None
    train, labels = clouds(20, 4, 1.0, 0)
    short = size_curve(classes(), train, np.eye(2)[labels] - 0.5, train, list(labels))
    assert short is not None and short.rows == [10, 20] and math.isnan(short.twice)


def test_it_survives_json() -> None:
    curve = measured(100)
    text = json.dumps(curve.to_json())
    assert SizeCurve.from_json(json.loads(text)) == curve
    old = {
        "rows": [1],
        "values": [None],
        "lows": [None],
        "highs": [None],
        "twice": None,
        "interval": [None, None],
    }
    assert math.isnan(SizeCurve.from_json(old).gain)
