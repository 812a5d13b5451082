from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.evaluate.intervals import (
    group_sums,
    metric_intervals,
    paired_difference,
    resampled_totals,
    score_interval,
    wilson,
)


def accuracy_statistics(right: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(right)), right]).astype(float)


def summarise(totals: np.ndarray) -> dict[str, float]:
    count, right = totals
    return {"accuracy": right / count if count else float("nan"), "square": (right / count) ** 2 + 1}


@pytest.mark.parametrize("truth", [0.6, 0.9, 0.98])
def test_the_interval_of_an_accuracy_covers_the_truth_as_often_as_it_says(truth: float) -> None:
    rng = np.random.default_rng(3)
    sets = 400
    covered = 0
    for seed in range(sets):
        right = rng.random(200) < truth
        low, high = metric_intervals(accuracy_statistics(right), summarise, resamples=400, seed=seed)[
            "accuracy"
        ]
        covered += low <= truth <= high
    assert 0.92 <= covered / sets <= 0.98


@pytest.mark.parametrize(("right", "low_end", "high_end"), [(1.0, 0.9, 1.0), (0.0, 0.0, 0.1)])
def test_all_right_and_all_wrong_still_have_a_width(right: float, low_end: float, high_end: float) -> None:
    low, high = metric_intervals(accuracy_statistics(np.full(50, right)), summarise)["accuracy"]
    assert low_end < high - 0.01 and low < high and (low, high) == pytest.approx(wilson(50 * right, 50))
    assert low_end <= low and high <= high_end


def test_a_perfect_score_that_is_no_proportion_has_a_lower_end() -> None:
    def f1(totals: np.ndarray) -> dict[str, float]:
        return {"f1": 2 * totals[1] / (totals[1] + totals[0])}

    statistics = np.repeat([[3.0, 3.0]], 40, axis=0)
    assert metric_intervals(statistics, f1)["f1"] == wilson(40, 40)


def test_wilson_agrees_with_published_figures() -> None:
    # Newcombe (1998), table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=1e-4)


def test_the_bootstrap_agrees_with_resampling_rows_by_hand() -> None:
    rng = np.random.default_rng(0)
    values = rng.gamma(2.0, 1.0, 300)
    statistics = np.column_stack([np.ones(300), values])
    totals = resampled_totals(statistics, resamples=4000, seed=1)
    by_hand = [rng.choice(values, 300).mean() for _ in range(4000)]
    assert np.all(totals[:, 0] == 300)
    assert np.quantile(totals[:, 1] / 300, [0.025, 0.975]) == pytest.approx(
        np.quantile(by_hand, [0.025, 0.975]), abs=0.03
    )


def test_ten_thousand_examples_are_fast_in_bounded_memory() -> None:
    statistics = np.random.default_rng(0).random((10_000, 30))
    tracemalloc.start()
    started = time.process_time()
    resampled_totals(statistics, resamples=2000)
    seconds = time.process_time() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 5
    assert peak < 120e6


def test_groups_widen_the_interval_of_examples_that_repeat() -> None:
    rng = np.random.default_rng(4)
    right = np.repeat(rng.random(60) < 0.7, 10)
    groups = np.repeat([f"patient {i}" for i in range(60)], 10)
    statistics = accuracy_statistics(right)
    low, high = metric_intervals(statistics, summarise)["accuracy"]
    grouped_low, grouped_high = metric_intervals(statistics, summarise, groups=groups)["accuracy"]
    assert grouped_high - grouped_low > 2 * (high - low)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_group_sums_keep_the_totals(groups: list[int]) -> None:
    statistics = np.arange(2.0 * len(groups)).reshape(-1, 2)
    sums = group_sums(statistics, groups)
    assert len(sums) == len(set(groups))
    assert np.allclose(sums.sum(axis=0), statistics.sum(axis=0))


def test_one_example_has_no_interval() -> None:
    interval = metric_intervals(accuracy_statistics(np.ones(1)), summarise)["accuracy"]
    assert np.isnan(interval).all()


def test_a_metric_that_mostly_has_no_value_has_no_interval() -> None:
    statistics = accuracy_statistics(np.arange(20) % 2)
    intervals = metric_intervals(statistics, lambda totals: {"never": float("nan")})
    assert np.isnan(intervals["never"]).all()


def test_intervals_repeat_with_their_seed() -> None:
    statistics = accuracy_statistics(np.random.default_rng(0).random(100) < 0.5)
    first, again, other = (metric_intervals(statistics, summarise, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_paired_difference_is_sharper_than_two_intervals() -> None:
    rng = np.random.default_rng(5)
    weak = rng.random(500) < 0.8
    strong = weak | (rng.random(500) < 0.15)
    difference, (low, high) = paired_difference(
        accuracy_statistics(strong), accuracy_statistics(weak), lambda totals: totals[1] / totals[0]
    )
    assert difference == pytest.approx(strong.mean() - weak.mean())
    assert 0 < low < difference < high
    alone = metric_intervals(accuracy_statistics(strong), summarise)["accuracy"]
    assert high - low < alone[1] - alone[0]


def test_equal_outputs_differ_by_nothing() -> None:
    statistics = accuracy_statistics(np.arange(50) % 3 == 0)
    assert paired_difference(statistics, statistics, lambda totals: totals[1]) == (0.0, (0.0, 0.0))


@pytest.mark.parametrize("share", [0.6, 0.97])
def test_one_score_has_the_interval_that_it_has_among_metrics(share: float) -> None:
    rng = np.random.default_rng(3)
    right = (rng.random(400) < share).astype(float)
    counted = accuracy_statistics(right)
    apart = counted + np.array([0, 1e-12]) * np.arange(400)[:, None]  # no two rows alike: drawn one by one

    def accuracy(totals: np.ndarray) -> np.ndarray:
        return np.asarray(totals[..., 1] / totals[..., 0])

    for groups in (None, np.arange(400) // 3):
        expected = metric_intervals(counted, summarise, groups=groups)["accuracy"]
        for rows in (counted, apart):
            assert score_interval(rows, accuracy, groups=groups) == pytest.approx(expected, abs=0.012)
    assert np.isnan(score_interval(counted[:1], accuracy)).all()
