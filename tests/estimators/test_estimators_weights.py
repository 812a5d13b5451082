"""Rows as often as their weights say."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from luthier.estimators.weights import repeated

seeds = st.integers(0, 2**31 - 1)


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=30).filter(any), st.sampled_from([1.0, 0.1, 7.0]), seeds
)
def test_whole_multiples_are_exact(counts: list[int], unit: float, seed: int) -> None:
    least = np.gcd.reduce(counts)
    found = np.bincount(repeated(np.array(counts) * unit, seed), minlength=len(counts))
    if min(count for count in counts if count) == least or unit == 1.0:
        np.testing.assert_array_equal(found, np.array(counts) // least)


def test_equal_weights_are_none() -> None:
    np.testing.assert_array_equal(repeated(np.full(50, 1 / 50), 0), np.arange(50))


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40).filter(lambda w: sum(w) > 1e-3), seeds)
def test_others_are_rounded_up_or_down(weights: list[float], seed: int) -> None:
    w = np.array(weights)
    rows = repeated(w, seed)
    assert (np.diff(rows) >= 0).all()
    assert (w[rows] > 0).all()
    counts = np.bincount(rows, minlength=len(w))
    expected = w / w.sum() * len(rows)
    assert np.abs(counts - expected).max() <= 1 + 1e-6


def test_the_rounding_is_right_in_the_mean() -> None:
    w = np.random.default_rng(0).exponential(size=20)
    counts = np.mean([np.bincount(repeated(w, seed), minlength=20) for seed in range(4000)], axis=0)
    np.testing.assert_allclose(counts, w / w.sum() * 20, atol=0.03)
