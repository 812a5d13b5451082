"""Accuracy without labels and with them, and class shares: they recover the truth, and intervals hold it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.monitor.performance import Accuracy, count_errors, count_right, interval_of
from luthier.monitor.priors import priors, weights

NAMES = ("ant", "bee", "cow")


def decisions(rows: int, rng: np.random.Generator, a: float, b: float) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and whether answers are right: surer than they should be."""
    sure = 0.5 + rng.beta(a, b, rows) / 2
    odds = 0.6 * np.log(sure / (1 - np.minimum(sure, 1 - 1e-9))) + 0.1
    return sure, rng.random(rows) < 1 / (1 + np.exp(-odds))


def test_the_estimate_follows_the_truth_where_confidences_are_not_calibrated_and_its_interval_holds() -> None:
    for shape in ((3.0, 1.0), (1.0, 1.5)):
        off, held, drops = [], 0, []
        for seed in range(60):
            rng = np.random.default_rng(seed)
            accuracy = Accuracy(*decisions(800, rng, 3.0, 1.0), np.arange(800))
            sure, right = decisions(600, rng, *shape)
            told = accuracy.estimate(sure, np.arange(600), level=0.95, alpha=0.01)
            assert told is not None and told.n == 600
            off.append(told.value - right.mean())
            held += told.interval[0] <= right.mean() <= told.interval[1]
            drops.append(told.drop_low > 0)
            assert told.interval[0] <= told.value <= told.interval[1] and told.drop_low < told.drop
        assert abs(np.mean(off)) < 0.02 and held >= 54
        assert np.mean(drops) == pytest.approx(float(shape == (1.0, 1.5)), abs=0.05)


def test_inputs_on_which_confidence_misleads_are_told_apart_where_that_shows() -> None:
    def drawn(rows: int, rng: np.random.Generator, short: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        sure, length = 0.5 + rng.beta(3, 1, rows) / 2, np.where(rng.random(rows) < short, 5.0, 20.0)
        odds = np.log(sure / (1 - np.minimum(sure, 1 - 1e-9))) * np.where(length < 10, 0.4, 1.2)
        return sure, rng.random(rows) < 1 / (1 + np.exp(-odds)), length

    plain, aware = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sure, right, length = drawn(1500, rng, 0.3)
        asked, truth, short = drawn(1000, rng, 0.9)
        for found, known in ((plain, {}), (aware, {"length": length, "noise": rng.random(1500)})):
            accuracy = Accuracy(sure, right, np.arange(1500), known)
            assert set(accuracy.map.scales) == set(known) - {"noise"}
            told = accuracy.estimate(asked, np.arange(1000), {"length": short}, level=0.95, alpha=0.01)
            assert told is not None
            found.append(told.value - truth.mean())
    assert abs(np.mean(aware)) < 0.015 < 0.04 < np.mean(plain)


def test_nothing_dropped_on_the_reference_itself() -> None:
    sure, right = decisions(500, np.random.default_rng(0), 3.0, 1.0)
    accuracy = Accuracy(sure, right, np.arange(500))
    told = accuracy.estimate(sure, np.arange(500), level=0.95, alpha=0.01)
    assert told is not None and told.drop == pytest.approx(0) and told.value == pytest.approx(right.mean())
    order = np.random.default_rng(1).permutation(500)
    again = Accuracy(sure[order], right[order], order)
    assert again.map.parameters == pytest.approx(accuracy.map.parameters, abs=1e-8)


def test_decisions_of_one_row_count_as_one() -> None:
    sure, right = decisions(200, np.random.default_rng(0), 3.0, 1.0)
    once = Accuracy(sure, right, np.arange(200))
    often = Accuracy(np.repeat(sure, 5), np.repeat(right, 5), np.repeat(np.arange(200), 5))
    assert often.rows == once.rows == 200 and often.tested == pytest.approx(once.tested)
    assert np.sqrt(np.diag(often.map.covariance)) == pytest.approx(
        np.sqrt(np.diag(once.map.covariance)), rel=0.2
    )


@pytest.mark.parametrize("right", [np.ones(80, dtype=bool), np.zeros(80, dtype=bool)])
def test_all_right_and_all_wrong(right: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        accuracy = Accuracy(np.full(80, 1.0), right, np.arange(80))
        told = accuracy.estimate(np.full(60, 1.0), np.arange(60), level=0.95, alpha=0.01)
        assert told is not None and told.value == right.mean() and abs(told.drop) < 1e-9 > told.drop_low
        assert np.isfinite([*told.interval, *told.tested_interval]).all()
        nothing = Accuracy(np.empty(0), np.empty(0, dtype=bool), np.empty(0, dtype=np.int64))
        assert nothing.estimate(np.ones(3), np.arange(3), level=0.95, alpha=0.01) is None
        assert accuracy.estimate(np.empty(0), np.empty(0, dtype=int), level=0.95, alpha=0.01) is None


def test_labels_alarm_no_more_often_than_they_may() -> None:
    rng = np.random.default_rng(0)
    same = [
        count_right(
            (rng.random(150) < 0.9) * 1.0, (rng.random(300) < 0.9) * 1.0, level=0.95, alpha=0.05
        ).drop_low
        > 0
        for _ in range(1000)
    ]
    assert np.mean(same) <= 0.065
    worse = [
        count_right(
            (rng.random(500) < 0.8) * 1.0, (rng.random(500) < 0.9) * 1.0, level=0.95, alpha=0.05
        ).drop_low
        > 0
        for _ in range(200)
    ]
    assert np.mean(worse) > 0.95


def test_errors_grow_as_a_share() -> None:
    rng = np.random.default_rng(0)
    told = count_errors(rng.exponential(1.3, 4000), rng.exponential(1.0, 4000), level=0.95, alpha=0.01)
    assert told is not None and told.metric == "absolute error"
    assert told.drop == pytest.approx(0.3, abs=0.08) and 0.15 < told.drop_low < told.drop < told.drop_high
    assert count_errors(np.zeros(9), np.ones(9), level=0.95, alpha=0.01) is None


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.floats(0, 1))
def test_the_interval_is_wilsons_on_rights_and_wrongs(n: int, share: float) -> None:
    from luthier.evaluate.intervals import wilson

    right = round(n * share)
    outcomes = np.r_[np.ones(right), np.zeros(n - right)]
    assert interval_of(outcomes, 0.95) == pytest.approx(wilson(right, n), abs=1e-9)


def test_known_shares_are_recovered_and_their_intervals_hold() -> None:
    mistakes = np.array([[0.9, 0.06, 0.04], [0.1, 0.8, 0.1], [0.05, 0.15, 0.8]])  # (true, answered)
    before, after = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    exact = weights((before[:, None] * mistakes).T, after @ mistakes, 0.0)
    assert exact * before == pytest.approx(after)
    held = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        confusion = rng.multinomial(1500, (before[:, None] * mistakes).ravel()).reshape(3, 3)
        told = priors(confusion, rng.multinomial(1000, after @ mistakes), NAMES)
        assert sum(one.share for one in told) == pytest.approx(1)
        held += [one.interval[0] <= share <= one.interval[1] for one, share in zip(told, after, strict=True)]
    assert np.mean(held) >= 0.88


def test_shares_where_answers_say_nothing_stay_as_tested() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        blind = priors(np.array([[200, 0, 0], [100, 0, 0], [100, 0, 0]]), np.array([300, 0, 0]), NAMES)
        assert [one.share for one in blind] == pytest.approx([0.5, 0.25, 0.25])
        assert priors(np.zeros((3, 3), dtype=int), np.array([1, 0, 0]), NAMES) == []
        assert priors(np.eye(3, dtype=int), np.zeros(3, dtype=int), NAMES) == []
