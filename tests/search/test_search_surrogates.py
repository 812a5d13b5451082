"""Features, surrogates and acquisition functions: their laws, numeric derivatives and exact values."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import qmc

from luthier.search.acquisition import NoisyImprovement, log_h
from luthier.search.conformance import SPACES
from luthier.search.encoding import Encoding
from luthier.search.outcomes import tamed
from luthier.search.surrogate_gp import GaussianProcess, _Posterior
from luthier.search.surrogate_trees import Forest
from luthier.space import Space


def _bowl(rows: int, width: int, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows)
    x = rng.random((rows, width))
    return x, -((x - 0.3) ** 2).sum(axis=1) + noise * rng.standard_normal(rows)


def _numeric(function, x: np.ndarray, step: float = 1e-6) -> np.ndarray:
    axes = step * np.eye(x.shape[-1])
    return np.stack([(function(x + axis) - function(x - axis)) / (2 * step) for axis in axes], axis=-1)


# -- features ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_different_recipes_have_different_features_in_the_unit_cube(space) -> None:
    size = len(space.dimensions)
    units = qmc.Sobol(size, seed=0).random(64) if size else np.zeros((1, 0))
    recipes = list(dict.fromkeys(space.sample(unit) for unit in units))
    points = Encoding(space).points(recipes)
    assert points.rows.min() >= 0.0 and points.rows.max() <= 1.0
    assert len(np.unique(points.rows, axis=0)) == len(recipes)
    np.testing.assert_array_equal(points.units, [space.encode(recipe) for recipe in recipes])


def test_choices_are_equally_far_apart_unless_they_are_numbers() -> None:
    space = Space.from_dict({"model": "m", "optimizer": ["sgd", "adamw", "lion"], "batch_size": [64, 16, 32]})
    recipes = list(space.grid())
    found = Encoding(space).points(recipes).rows
    rows = {(r.optimizer, r.batch_size): row for r, row in zip(recipes, found, strict=True)}

    def distance(one, other) -> float:
        return float(np.linalg.norm(rows[one] - rows[other]))

    assert distance(("sgd", 16), ("lion", 16)) == pytest.approx(distance(("sgd", 16), ("adamw", 16))) == 1.0
    assert distance(("sgd", 16), ("sgd", 64)) == pytest.approx(2 * distance(("sgd", 16), ("sgd", 32)))


def test_a_setting_that_does_not_apply_makes_no_difference() -> None:
    space = Space.from_dict(
        {
            "model": "m",
            "adaptation": ["full", "lora"],
            "lora_rank": {"values": [8, 16, 64], "when": {"adaptation": "lora"}},
            "lora_targets": {"values": ["attention", "all"], "when": {"adaptation": "lora"}},
            "lora_dropout": {"low": 0.0, "high": 0.5, "when": {"adaptation": "lora"}},
        }
    )
    full = space.sample(np.full(4, 0.2))
    assert full.adaptation == "full"
    row = Encoding(space).points([full]).rows[0]
    assert row.tolist() == pytest.approx([math.sqrt(0.5), 0, 0.5, 0, 0, 0.5, 1])


def test_beliefs_are_the_probabilities_of_choices_relative_to_even_ones() -> None:
    space = Space.from_dict(
        {
            "model": "m",
            "optimizer": {"values": ["sgd", "adamw"], "weights": [0.2, 0.8]},
            "learning_rate": {"low": 1e-5, "high": 1e-1, "log": True, "prior": 1e-2},
        }
    )
    recipes = [space.sample(np.array(unit)) for unit in ([0.1, 0.1], [0.1, 0.9], [0.9, 0.9])]
    beliefs = Encoding(space).points(recipes).beliefs
    assert np.exp(beliefs) == pytest.approx([0.4, 0.4, 1.6])


@given(st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(math.nan)), min_size=2, max_size=30))
def test_tamed_scores_keep_their_order_and_failures_are_the_worst(values) -> None:
    scores = np.array(values)
    if not np.isfinite(scores).any():
        return
    tame = tamed(scores)
    assert np.isfinite(tame).all()
    finite = np.isfinite(scores)
    order = np.argsort(scores[finite], kind="stable")
    assert (np.diff(tame[finite][order]) >= 0.0).all()
    better = scores >= np.median(np.where(finite, scores, scores[finite].min()))
    np.testing.assert_array_equal(tame[better], scores[better])
    assert (tame[~finite] == tame.min()).all()


def test_a_diverged_training_does_not_flatten_the_others() -> None:
    good = np.linspace(0.8, 0.9, 9)
    tame = tamed(np.array([*good, -1e9]))
    assert tame.min() > 0.7
    one, many = (tamed(np.array([*good, *[math.nan] * failures])).min() for failures in (1, 4))
    assert many < good.min() - 0.01 and many < one + 0.01


# -- surrogates ----------------------------------------------------------------------------------------------


def test_the_gradient_of_the_posterior_is_its_derivative() -> None:
    x, y = _bowl(25, 4, 0.05)
    posterior = _Posterior(x, y / y.std(), np.array([0, 1, 2, 2]))
    point = posterior._centre + 0.3 * np.random.default_rng(0).standard_normal(len(posterior._centre))
    numeric = _numeric(lambda at: posterior._loss(at)[0], point, 1e-5)
    np.testing.assert_allclose(posterior._loss(point)[1], numeric, rtol=1e-5, atol=1e-5)


def test_a_gaussian_process_interpolates_and_knows_what_it_does_not_know() -> None:
    x, y = _bowl(30, 3)
    model = GaussianProcess(x, y, np.arange(3))
    mean, deviation = model.predict(x)
    np.testing.assert_allclose(mean, y, atol=0.02)
    others = np.random.default_rng(1).random((200, 3))
    guess, unsure = model.predict(others)
    truth = -((others - 0.3) ** 2).sum(axis=1)
    assert np.corrcoef(guess, truth)[0, 1] > 0.98
    assert np.median(unsure) > 1.3 * np.median(deviation)
    assert (np.abs(guess - truth) < 3 * unsure + 0.02).mean() > 0.95
    slope = model.mean_slope(others[:5])[1]
    np.testing.assert_allclose(slope, _numeric(lambda at: model.predict(at)[0], others[:5]), atol=1e-5)


def test_a_gaussian_process_finds_noise_and_what_does_not_matter() -> None:
    x, y = _bowl(80, 4, 0.1)
    y = y + 5.0 * ((x[:, 3] - 0.3) ** 2 - x[:, 3])
    model = GaussianProcess(x, y, np.arange(4))
    noise = math.sqrt(model.kernel.noise) * model.spread
    assert 0.05 < noise < 0.2
    assert model.kernel.scales[3] < model.kernel.scales[:3].min()


def test_equal_observations_and_one_observation_are_no_reason_to_fail() -> None:
    x = np.repeat(np.full((1, 2), 0.5), 5, axis=0)
    for rows in (x, x[:1]):
        mean, deviation = GaussianProcess(rows, np.full(len(rows), 3.0), np.arange(2)).predict(rows)
        assert mean == pytest.approx(np.full(len(rows), 3.0)) and np.isfinite(deviation).all()


def test_trees_predict_and_disagree_where_nothing_was_seen() -> None:
    x, y = _bowl(60, 3)
    x[:, 0] /= 2.0
    y = -((x - 0.3) ** 2).sum(axis=1)
    model = Forest(x, y, 0)
    mean, deviation = model.predict(x)
    assert np.corrcoef(mean, y)[0, 1] > 0.9
    there = np.random.default_rng(0).random((100, 3)) * [0.5, 1, 1]
    assert np.corrcoef(model.predict(there)[0], -((there - 0.3) ** 2).sum(axis=1))[0, 1] > 0.8
    assert (deviation > 0).all()
    np.testing.assert_array_equal(model.predict(x)[0], Forest(x, y, 0).predict(x)[0])


# -- acquisition ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("z", [5.0, 0.0, -0.999, -1.001, -4.0, -30.0, -300.0, -9.9e3, -1.1e4])
def test_log_h_is_exact_into_the_tail(z) -> None:
    # phi(z) + z Phi(z) loses two digits for each factor of ten in |z|, so it is computed with many more.
    with mpmath.workdps(60):
        x = mpmath.mpf(z)
        below = mpmath.erfc(-x / mpmath.sqrt(2)) / 2
        exact = mpmath.log(mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mpmath.pi) + x * below)
    assert log_h(np.array([z]))[0] == pytest.approx(float(exact), rel=1e-8)


@pytest.mark.parametrize("running", [0, 3])
def test_the_slope_of_noisy_improvement_is_its_derivative(running) -> None:
    x, y = _bowl(30, 4, 0.05)
    rng = np.random.default_rng(0)
    model = GaussianProcess(x, y, np.arange(4))
    improvement = NoisyImprovement(model, x, rng.random((running, 4)), rng.standard_normal((32, 40)))
    at = rng.random((6, 4))
    value, slope = improvement.slope(at)
    np.testing.assert_allclose(value, improvement(at))
    np.testing.assert_allclose(slope, _numeric(improvement, at), rtol=1e-3, atol=1e-2)


def test_noisy_improvement_is_the_mean_gain_over_what_trials_may_score() -> None:
    x, y = _bowl(15, 2, 0.05)
    rng = np.random.default_rng(0)
    model = GaussianProcess(x, y, np.arange(2))
    running, at = rng.random((2, 2)), rng.random((40, 2))
    mine = np.exp(NoisyImprovement(model, x, running, rng.standard_normal((4096, 17)))(at))

    inputs = model.kernel.inputs(np.concatenate([x, running, at]))
    to_rows = model.kernel.between(inputs, model.inputs)
    mean = model.mean + to_rows @ model.weights
    covariance = model.kernel.between(inputs, inputs) - to_rows @ model.inverse @ to_rows.T
    scores = rng.multivariate_normal(mean, covariance, size=40_000, method="eigh")
    gain = np.maximum(scores[:, 17:] - scores[:, :17].max(axis=1, keepdims=True), 0.0).mean(axis=0)
    large = gain > 0.01
    assert large.sum() > 5
    np.testing.assert_allclose(mine[large], gain[large], rtol=0.1)


def test_where_a_trial_runs_there_is_less_to_gain() -> None:
    x, y = _bowl(12, 2, 0.01)
    model = GaussianProcess(x, y, np.arange(2))
    normals = np.random.default_rng(0).standard_normal((32, 40))
    free = NoisyImprovement(model, x, x[:0], normals)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 41)] * 2), axis=-1).reshape(-1, 2)
    best = grid[[free(grid).argmax()]]
    taken = NoisyImprovement(model, x, best, normals)
    assert taken(best)[0] < free(best)[0] - 3.0
    assert np.linalg.norm(grid[taken(grid).argmax()] - best) > 0.05
