"""Two-sample comparisons: uniform p values without a change, power with one, laws and degenerate input."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from luthier.errors import SettingError
from luthier.monitor.drift import Numbers, Shares, column, homogeneity
from luthier.monitor.kernel import Discrepancy

REPEATS = 400


def p_values(kind: str, moved: float) -> np.ndarray:
    """Of samples of 300 and 200, the second one moved."""
    found = []
    for seed in range(REPEATS):
        rng = np.random.default_rng(seed)
        if kind == "shares":
            shares = np.array([0.5 - moved, 0.3 + moved, 0.15, 0.05])
            comparison = Shares(rng.multinomial(300, [0.5, 0.3, 0.15, 0.05]), np.arange(4))
            told = comparison.compare(np.repeat(np.arange(4), rng.multinomial(200, shares)))
        else:
            told = Numbers(rng.normal(size=300)).compare(rng.normal(moved, 1, 200))
        assert told is not None
        found.append(told.p)
    return np.array(found)


@pytest.mark.parametrize("kind", ["shares", "numbers"])
def test_p_values_are_uniform_without_a_change_and_small_with_one(kind: str) -> None:
    from scipy.stats import kstest

    same = p_values(kind, 0.0)
    assert kstest(same, "uniform").pvalue > 1e-3
    assert (same < 0.01).mean() <= 0.03
    assert (p_values(kind, 0.2 if kind == "shares" else 0.5) < 0.01).mean() > 0.9


def test_the_discrepancy_has_uniform_p_values_and_power() -> None:
    from scipy.stats import kstest

    same, moved = [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        comparison = Discrepancy(rng.normal(size=(120, 8)))
        for found, offset in ((same, 0.0), (moved, 0.35)):
            told = comparison.compare(rng.normal(offset, 1, (90, 8)))
            assert told is not None
            found.append(told.p)
    assert kstest(same, "uniform").pvalue > 1e-3
    assert np.mean(np.array(same) < 0.02) <= 0.06
    assert np.mean(np.array(moved) < 0.01) > 0.9


def test_the_discrepancy_agrees_with_permutations() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(100, 3)) ** 3, rng.normal(0.25, 1, (100, 3)) ** 3
    told = Discrepancy(first).compare(second)
    assert told is not None
    both, beyond = np.concatenate([first, second]), 0
    for _ in range(200):
        order = rng.permutation(200)
        again = Discrepancy(both[order[:100]])
        again.scale = Discrepancy(first).scale
        other = again.compare(both[order[100:]])
        assert other is not None
        beyond += other.effect >= told.effect
    assert told.p == pytest.approx(beyond / 200, abs=0.08)


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.int64, 5, elements=st.integers(0, 60)),
    arrays(np.int64, 5, elements=st.integers(0, 60)),
    st.permutations(range(5)),
)
def test_laws_of_homogeneity(first: np.ndarray, second: np.ndarray, order: list[int]) -> None:
    first[0] += 1
    second[1] += 1
    p = homogeneity(first, second)
    assert 0 <= p <= 1
    assert homogeneity(second, first) == pytest.approx(p)
    assert homogeneity(first, first) == pytest.approx(1)
    distinct = (
        len(np.unique(first + second)) == 5
    )  # which of equally rare ones are pooled is a matter of order
    if distinct:
        assert homogeneity(first[order], second[order]) == pytest.approx(p)


@settings(max_examples=60, deadline=None)
@given(
    arrays(float, st.integers(1, 40), elements=st.floats(-100, 100)),
    arrays(float, st.integers(1, 40), elements=st.floats(-100, 100)),
)
def test_laws_of_numbers(first: np.ndarray, second: np.ndarray) -> None:
    from scipy.stats import ks_2samp

    told, back = Numbers(first).compare(second), Numbers(second).compare(first)
    assert told is not None and back is not None
    assert told.effect == pytest.approx(back.effect) and told.p == pytest.approx(back.p)
    assert told.effect == pytest.approx(float(ks_2samp(first, second, method="exact").statistic))
    scaled = Numbers(first * 4).compare(second * 4)
    assert scaled is not None and scaled.effect == pytest.approx(told.effect)


def test_rare_categories_are_pooled_and_new_ones_count() -> None:
    many = Shares(np.array([500, 480, *[1] * 20]), np.arange(22))
    alike = many.compare(np.array([0, 1] * 490 + list(range(2, 22))))
    assert alike is not None and alike.p > 0.2
    fresh = many.compare(np.array([0, 1] * 400 + [99] * 200))
    assert fresh is not None and fresh.p < 1e-6 and fresh.effect > 0.15


def test_witnesses_are_higher_on_what_changed() -> None:
    rng = np.random.default_rng(0)
    shares = Shares(np.array([50, 50]), np.arange(2)).witness(np.array([0] * 10 + [1] * 90))
    assert shares.score(np.array([1]))[0] > 0 > shares.score(np.array([0]))[0]
    numbers = Numbers(rng.normal(size=300)).witness(rng.normal(1, 1, 300))
    assert (
        numbers.score(np.array([3.0]))[0]
        > numbers.score(np.array([1.5]))[0]
        > numbers.score(np.array([-2.0]))[0]
    )
    vectors = Discrepancy(rng.normal(size=(100, 4))).witness(rng.normal(2, 1, (100, 4)))
    scores = vectors.score(np.array([[2.0] * 4, [0.0] * 4]))
    assert scores[0] > 0 > scores[1] and vectors.mean < 0


def test_degenerate_columns_have_a_clear_answer() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = Shares.of(np.full(100, 3.0)).compare(np.full(50, 3.0))
        assert same is not None and tuple(same) == (0.0, 1.0)
        other = Shares.of(np.full(100, 3.0)).compare(np.full(50, 4.0))
        assert other is not None and other.effect == 1 and other.p < 1e-10
        assert Numbers(np.arange(30.0)).compare(np.empty(0)) is None
        assert Shares.of(np.arange(3.0)).compare(np.empty(0)) is None
        assert column(np.array([np.nan, np.inf])) is None
        assert isinstance(column(np.arange(100) % 4), Shares) and isinstance(column(np.arange(100)), Numbers)
        assert Discrepancy(np.ones((100, 4))).compare(np.zeros((100, 4))) is None
        assert Discrepancy(np.ones((3, 4))).compare(np.zeros((100, 4))) is None
        assert Discrepancy(np.full((50, 4), np.nan)).compare(np.zeros((100, 4))) is None
    with pytest.raises(SettingError, match="5 numbers"):
        Discrepancy(np.random.default_rng(0).normal(size=(50, 4))).compare(np.zeros((50, 5)))
