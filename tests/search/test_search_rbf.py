"""The radial basis function model and the scale that it learns on."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from luthier.search import rbf
from luthier.search.rbf import Interpolant, compressed, distances


def _cloud(seed: int, n: int, d: int) -> np.ndarray:
    return np.random.default_rng(seed).random((n, d))


@given(st.integers(0, 999), st.integers(1, 30), st.integers(1, 5))
def test_it_passes_through_what_it_was_given(seed, n, d) -> None:
    points, values = _cloud(seed, n, d), np.random.default_rng(seed + 1).normal(size=n)
    apart = distances(points, points) + np.eye(n)
    # Of two values at the same point one cannot pass through both.
    assume(apart.min() > 1e-3)
    assert np.allclose(Interpolant(points, values, 1e-13)(points), values, atol=1e-3)


def test_a_linear_function_is_met_exactly_everywhere() -> None:
    points, others = _cloud(0, 12, 3), _cloud(1, 50, 3)
    slopes = np.array([2.0, -1.0, 0.5])
    assert np.allclose(Interpolant(points, points @ slopes + 3.0)(others), others @ slopes + 3.0, atol=1e-6)


def test_a_smooth_function_is_guessed_well_between_the_points() -> None:
    points, others = _cloud(0, 60, 2), 0.1 + 0.8 * _cloud(1, 200, 2)
    truth = np.sin(4 * others[:, 0]) + others[:, 1] ** 2
    guess = Interpolant(points, np.sin(4 * points[:, 0]) + points[:, 1] ** 2)(others)
    assert np.sqrt(np.mean((guess - truth) ** 2)) < 0.05 * truth.std()


@given(st.integers(0, 999), st.integers(1, 25))
def test_columns_that_add_up_to_one_do_no_harm(seed, n) -> None:
    rng = np.random.default_rng(seed)
    points = np.hstack([rng.random((n, 2)), np.eye(3)[rng.integers(3, size=n)], np.full((n, 1), 0.5)])
    values = rng.normal(size=n)
    made = Interpolant(points, values, 1e-13)
    assert np.abs(made(points) - values).max() < 1e-3
    assert np.isfinite(made(rng.random((9, 6)))).all()


def test_errors_of_leaving_out_are_those_of_fitting_without() -> None:
    points = _cloud(0, 15, 2)
    values = np.sin(5 * points[:, 0]) + 0.1 * np.random.default_rng(1).normal(size=15)
    for smoothing in (1e-8, 1e-2):
        errors = Interpolant(points, values, smoothing).left_out
        rest = [np.delete(np.arange(15), at) for at in range(15)]
        refitted = [
            Interpolant(points[r], values[r], smoothing)(points[[at]])[0] for at, r in enumerate(rest)
        ]
        assert np.allclose(values - refitted, errors, atol=1e-6)


def test_equal_values_and_a_single_point_are_guessed_as_they_are() -> None:
    assert np.allclose(Interpolant(_cloud(0, 10, 3), np.full(10, 0.7))(_cloud(1, 5, 3)), 0.7)
    assert np.allclose(Interpolant(_cloud(0, 1, 3), np.array([2.0]))(_cloud(1, 5, 3)), 2.0)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20), st.floats(0.1, 10.0), st.floats(-5.0, 5.0))
def test_compressing_keeps_the_order_and_knows_neither_unit_nor_origin(losses, factor, shift) -> None:
    values = np.round(np.array(losses), 2)
    made = compressed(values)
    assert (np.diff(made[np.argsort(values, kind="stable")]) >= 0.0).all()
    assert np.isfinite(made).all() and made.min() == 0.0
    assert np.allclose(compressed(factor * values + shift), made, atol=1e-6)


def test_what_has_no_score_counts_as_the_worst() -> None:
    made = compressed(np.array([0.2, np.nan, 0.9, 0.1, np.inf]))
    assert made[1] == made[2] == made[4] == made.max()
    assert (compressed(np.full(3, np.nan)) == 0.0).all()


def test_a_catastrophe_does_not_hide_the_differences_between_good_ones() -> None:
    good = np.linspace(0.1, 0.2, 20)
    alone, beside = compressed(good), compressed(np.append(good, 1e6))
    assert np.ptp(beside[:20]) > 0.8 * np.ptp(alone)


def test_distances_are_euclidean() -> None:
    a, b = _cloud(0, 4, 3), _cloud(1, 5, 3)
    assert np.allclose(distances(a, b), np.linalg.norm(a[:, None] - b[None], axis=2))
    assert rbf.distances(a, a).diagonal().max() < 1e-7
