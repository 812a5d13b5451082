"""The corrected estimate: held against the algorithm written out, and against studies of known truth."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bias import one_study  # benchmarks/bias.py
from luthier.evaluate.selection import Selection, corrected, errors_of_differences, stacked
from luthier.tasks.classification import ratios


def accuracy(totals: np.ndarray) -> np.ndarray:
    return ratios(totals[..., 1], totals[..., 0])


def answers(right: np.ndarray) -> np.ndarray:
    """(rows, trials, 2) statistics from (rows, trials) rights."""
    return np.stack([np.ones_like(right, dtype=float), right.astype(float)], axis=-1)


@given(st.integers(2, 30), st.integers(1, 12), st.integers(0, 10**6))
def test_it_is_algorithm_1_of_the_paper_with_the_interval_drawn_in(rows: int, trials: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    right = rng.random((rows, trials)) < 0.7
    found, interval = corrected(answers(right), accuracy, resamples=50, seed=seed)
    draws = np.random.default_rng(seed).integers(0, rows, size=(50, rows))
    losses = []
    for drawn in draws:
        left = np.setdiff1d(np.arange(rows), drawn)
        best = int(np.argmax(right[drawn].mean(axis=0)))
        if len(left):
            losses.append(right[left, best].mean())
    if len(losses) >= 25:
        mean, ends = np.mean(losses), np.quantile(losses, [0.025, 0.975])
        assert found == pytest.approx(mean)
        # Of the units, a share of 1/e is kept and the rest deleted.
        assert interval == pytest.approx(tuple(mean + (ends - mean) / np.sqrt(np.e - 1)))


def test_how_it_is_cut_into_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    table = answers(np.random.default_rng(0).random((60, 9)) < 0.8)
    whole = corrected(table, accuracy, resamples=100)
    errors = errors_of_differences(table, accuracy, 2, resamples=100)
    monkeypatch.setattr("luthier.evaluate.selection._CELLS", 500)
    assert corrected(table, accuracy, resamples=100) == whole
    np.testing.assert_array_equal(errors_of_differences(table, accuracy, 2, resamples=100), errors)


def test_one_trial_is_not_flattered() -> None:
    right = np.random.default_rng(1).random((500, 1)) < 0.8
    found, (low, high) = corrected(answers(right), accuracy)
    assert found == pytest.approx(right.mean(), abs=0.003)
    assert low < right.mean() < high


def test_whole_groups_are_drawn() -> None:
    """Twenty groups of equal rows tell as much as twenty rows."""
    rng = np.random.default_rng(2)
    right = rng.random((20, 6)) < 0.7
    many = np.repeat(right, 15, axis=0)
    tables = [answers(many[:, [trial]])[:, 0] for trial in range(6)]
    grouped = stacked(tables, np.repeat([f"g{group:02}" for group in range(20)], 15))
    assert grouped.shape == (20, 6, 2)
    found = corrected(grouped, accuracy, seed=3)
    np.testing.assert_allclose(np.hstack(found), np.hstack(corrected(answers(right), accuracy, seed=3)))
    low, high = corrected(stacked(tables), accuracy, seed=3)[1]
    assert found[1][1] - found[1][0] > 2 * (high - low)


def test_what_has_no_score_is_not_chosen() -> None:
    """As an F1 of nothing said: the first trial has no score on most rows, and a perfect one on the rest."""
    table = np.ones((40, 2, 2))
    table[:, 0] = 0.0
    table[:12, 0] = 1.0
    table[:, 1, 1] = np.arange(40) % 2
    alone = np.concatenate([np.zeros_like(table[:, :1]), table[:, 1:]], axis=1)
    assert corrected(alone, accuracy)[0] == pytest.approx(0.5, abs=0.02)
    assert corrected(table, accuracy)[0] == 1.0


@pytest.mark.parametrize("shape", [(1, 3, 2), (5, 0, 2), (0, 3, 2)])
def test_too_little_says_nothing(shape: tuple[int, ...]) -> None:
    found, interval = corrected(np.ones(shape), accuracy)
    assert math.isnan(found) and all(math.isnan(end) for end in interval)


def test_errors_of_differences_are_those_of_mcnemar() -> None:
    rng = np.random.default_rng(4)
    right = rng.random((800, 3)) < [0.9, 0.85, 0.9]
    right[:, 2] = right[:, 0]
    errors = errors_of_differences(answers(right), accuracy, 0, resamples=4000)
    difference = right[:, 0].astype(float) - right[:, 1]
    assert errors[1] == pytest.approx(difference.std() / math.sqrt(800), rel=0.05)
    assert errors[0] == errors[2] == 0.0
    assert np.isnan(errors_of_differences(answers(right[:1]), accuracy, 0)).all()


def test_a_selection_survives_json() -> None:
    for told in (Selection(0.9, 0.88, (0.8, 0.93), 20, 3, 7), Selection(0.9)):
        plain = json.loads(json.dumps(told.to_json()).replace("NaN", "null"))
        back = Selection.from_json(plain)
        np.testing.assert_equal(asdict(back), asdict(told))


def test_it_is_much_nearer_the_truth_than_the_winners_own_score() -> None:
    """150 studies of 50 trials on 200 rows that are hard or easy for all; make bench-bias has more."""
    studies = [one_study(seed, trials=50, rows=200) for seed in range(150)]
    naive = np.mean([one.naive - one.truth for one in studies])
    rest = np.mean([one.expected - one.truth for one in studies])
    assert naive > 0.02
    assert abs(rest) < naive / 3
    assert np.mean([one.low <= one.truth <= one.high for one in studies]) >= 0.93
