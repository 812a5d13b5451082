"""Laws of correcting for many comparisons and many looks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.monitor.sequential import holm, spend

P = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@settings(deadline=None)
@given(P, st.integers(0, 2**32 - 1))
def test_laws_of_holm(p: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.1, 3, len(p))
    corrected = holm(p, weights)
    assert ((corrected >= np.minimum(1, p) - 1e-12) & (corrected <= 1)).all()
    # No less powerful than Bonferroni, whatever the scale of the weights, in any order.
    assert (corrected <= np.minimum(1, np.array(p) / weights * weights.sum()) + 1e-12).all()
    assert holm(p, 7 * weights) == pytest.approx(corrected)
    order = rng.permutation(len(p))
    assert holm(np.array(p)[order], weights[order]) == pytest.approx(corrected[order])


def test_holm_is_the_textbook_procedure() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.02, 0.02], [0.9, 0.1]) == pytest.approx([0.02 / 0.9, 0.02 / 0.9])
    assert len(holm([])) == 0


def test_holm_keeps_the_familywise_error_also_with_dependence() -> None:
    rng = np.random.default_rng(0)
    common, own = rng.random((4000, 1)), rng.random((4000, 5))
    p = np.concatenate([own, common, common, 1 - common], axis=1)
    rejected = np.mean([holm(row, [3, 1, 1, 1, 1, 2, 2, 2]).min() <= 0.05 for row in p])
    assert rejected <= 0.06


@settings(deadline=None)
@given(st.lists(st.integers(0, 3000), max_size=30), st.floats(0.001, 0.2), st.integers(1, 2000))
def test_looks_spend_no_more_than_the_rate(new: list[int], alpha: float, window: int) -> None:
    spent = [spend(alpha, count, window) for count in new]
    assert all(0 <= one <= alpha for one in spent)
    assert sum(spent) <= alpha * sum(new) / window + 1e-12
    # Looking in two halves instead never spends less than looking once, nor more than the rate.
    assert sum(2 * spend(alpha, count // 2, window) for count in new) <= alpha * sum(new) / window + 1e-12


def test_a_whole_window_may_spend_it_all() -> None:
    assert spend(0.01, 1000, 1000) == spend(0.01, 5000, 1000) == 0.01
    assert spend(0.01, 250, 1000) == pytest.approx(0.0025) and spend(0.01, 0, 1000) == 0
