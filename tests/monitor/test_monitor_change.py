"""Where a change began and how; where a stream of outcomes changed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.monitor.adwin import bound, present
from luthier.monitor.change import onset


@pytest.mark.parametrize("began", [400, 1200, 1700])
def test_a_step_is_placed_and_called_sudden(began: int) -> None:
    rng = np.random.default_rng(began)
    scores = rng.normal(size=2000) + (np.arange(2000) >= began)
    found = onset(1e9 + np.arange(2000.0), scores, 0.0, 500)
    assert found is not None and found.form == "sudden" and not found.before
    assert found.began == found.ended and abs(found.began - 1e9 - began) <= 100


def test_a_ramp_is_called_slow() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=2000) + 2 * np.clip((np.arange(2000) - 600) / 1000, 0, 1)
    found = onset(np.arange(2000.0), scores, 0.0, 500)
    assert found is not None and found.form == "slow"
    assert abs(found.began - 600) <= 250 and abs(found.ended - 1600) <= 250


def test_steps_and_ramps_are_told_apart_mostly() -> None:
    right = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        course = (
            (np.arange(2000) >= 1000) if seed % 2 else np.clip((np.arange(2000) - 500) / 1500, 0, 1) * 1.5
        )
        found = onset(np.arange(2000.0), rng.normal(size=2000) + course, 0.0, 500)
        assert found is not None
        right += (found.form == "sudden") == bool(seed % 2)
    assert right >= 36


def test_a_change_before_all_that_is_kept() -> None:
    scores = np.random.default_rng(0).normal(1, 1, 500)
    found = onset(np.arange(500.0), scores, 0.0, 1000)
    assert found is not None and found.before and found.began == 0 and found.form == "sudden"


def test_too_little_to_place_a_change() -> None:
    assert onset(np.arange(40.0), np.ones(40), 0.0, 10) is None
    assert onset(np.arange(90.0), np.full(90, np.nan), 0.0, 10) is None
    flat = onset(np.arange(90.0), np.ones(90), 0.0, 10)
    assert flat is not None and flat.form == "sudden" and flat.before


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.floats(0, 0.25), st.floats(0.001, 0.2))
def test_laws_of_the_bound(first: int, second: int, variance: float, delta: float) -> None:
    def of(first: int, second: int, variance: float = variance, delta: float = delta) -> float:
        return float(bound(np.array([float(first)]), np.array([float(second)]), variance, delta)[0])

    assert of(first, second) == pytest.approx(of(second, first)) and of(first, second) > 0
    assert of(first, second, variance + 0.1) > of(first, second) < of(first, second, delta=delta / 2)
    # As in the paper: sqrt(2 / m v ln(2 n / delta)) + 2 / (3 m) ln(2 n / delta).
    m, log = 1 / (1 / first + 1 / second), np.log(2 * (first + second) / delta)
    assert of(first, second) == pytest.approx(np.sqrt(2 / m * variance * log) + 2 / (3 * m) * log)


def test_adwin_rarely_cuts_one_mean() -> None:
    rng = np.random.default_rng(0)
    assert sum(present((rng.random(1500) < 0.9).astype(float), 0.05) > 0 for _ in range(60)) <= 3


def test_adwin_finds_where_the_mean_changed() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        values = np.r_[rng.random(1000) < 0.9, rng.random(800) < 0.7].astype(float)
        assert abs(present(values, 0.01) - 1000) < 120


def test_adwin_on_little_or_constant_input() -> None:
    assert present(np.empty(0), 0.01) == present(np.ones(1), 0.01) == present(np.ones(500), 0.01) == 0
    assert present(np.r_[np.ones(500), np.zeros(500)], 0.01) == 500
