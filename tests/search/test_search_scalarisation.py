"""Weights and the Chebyshev function: what they order as they should, and what they leave alone."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.search.scalarisation import Aim, scalarise, spread
from luthier.study.front import dominates

AIMS = [Aim("", 1.0, 0.8), Aim("latency_ms", 5.0, 25.0)]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_weights_are_the_corners_and_the_centre(count):
    weights = spread(count)
    assert len(weights) == len(set(weights)) == (1 if count == 1 else count + 1)
    assert all(sum(each) == pytest.approx(1.0) and min(each) >= 0 for each in weights)
    assert weights[0] == (1.0, *[0.0] * (count - 1))


def test_the_figures_of_one_case():
    # Half way between best and worst in score, a quarter in latency.
    found = scalarise(0.9, {"latency_ms": 10.0}, AIMS, (0.5, 0.5))
    assert found == pytest.approx(-(0.25 + 0.05 * (0.5 + 0.25) / 2))


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(1, 100)), min_size=2, max_size=2),
    st.sampled_from(spread(2)),
)
def test_what_dominates_scores_higher_under_all_weights(points, weights):
    (a, first), (b, second) = points
    if dominates((a, -first), (b, -second)):
        better, worse = (scalarise(score, {"latency_ms": cost}, AIMS, weights) for score, cost in points)
        # Rounding may make differences at the limit of float64 equal.
        assert better >= worse
        assert better > worse or (abs(a - b) < 1e-9 and abs(first - second) < 1e-9)


def test_every_weight_finds_its_part_of_a_front_that_a_weighted_sum_cannot():
    """Of a front that bends inwards, a weighted sum only ever finds the ends."""
    front = [(0.98, 24.0), (0.86, 14.5), (0.81, 6.0)]

    def best(weights):
        return max(front, key=lambda point: scalarise(point[0], {"latency_ms": point[1]}, AIMS, weights))

    assert [best(weights) for weights in spread(2)] == [front[0], front[2], front[1]]
    behind = [[AIMS[0].behind(score), AIMS[1].behind(cost)] for score, cost in front]
    for share in range(101):
        sums = [share / 100 * a + (1 - share / 100) * b for a, b in behind]
        assert sums.index(min(sums)) != 1


def test_less_is_better_of_a_score_whose_best_is_zero():
    """An error enters as a negative score."""
    aim = Aim("", 0.0, -2.0)
    assert aim.behind(-2.0) == 1.0 and aim.behind(-0.5) == 0.25


def test_what_is_unknown_counts_as_bad_and_no_score_as_none():
    assert scalarise(0.9, {}, AIMS, (0.0, 1.0)) == scalarise(0.9, {"latency_ms": 25.0}, AIMS, (0.0, 1.0))
    assert scalarise(0.9, {"latency_ms": math.nan}, AIMS, (0.0, 1.0)) == scalarise(0.9, {}, AIMS, (0.0, 1.0))
    assert math.isnan(scalarise(math.nan, {"latency_ms": 5.0}, AIMS, (1.0, 0.0)))


def test_an_objective_in_which_all_are_equal_changes_nothing():
    aims = [AIMS[0], Aim("size_mb", 90.0, 90.0)]
    scores = [scalarise(score, {"size_mb": 90.0}, aims, (0.5, 0.5)) for score in (0.8, 0.9, 0.95)]
    assert scores == sorted(scores) and len(set(scores)) == 3
