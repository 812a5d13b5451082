from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from luthier.models.rank import logme


def slow(features: np.ndarray, column: np.ndarray) -> float:
    """The marginal likelihood of a Bayesian linear model, written out and maximised directly, per example."""
    n = len(column)

    def negative(logs: np.ndarray) -> float:
        alpha, beta = np.exp(logs)
        covariance = features @ features.T / alpha + np.eye(n) / beta
        return -float(multivariate_normal(np.zeros(n), covariance, allow_singular=True).logpdf(column))

    options = {"xatol": 1e-6, "fatol": 1e-9, "maxiter": 4000}
    starts = ([0.0, 0.0], [2.0, 1.0])
    found = [minimize(negative, start, method="Nelder-Mead", options=options) for start in starts]
    return -min(result.fun for result in found) / n


@pytest.mark.parametrize(("n", "d"), [(40, 5), (12, 30), (25, 25)])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_direct_maximisation(n: int, d: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    features = random.normal(size=(n, d)) + 0.5
    column = features @ random.normal(size=d) * 0.3 + random.normal(size=n)
    assert logme(features, column) == pytest.approx(slow(features, column), abs=1e-4)


def test_classes_are_the_mean_of_one_against_the_rest() -> None:
    random = np.random.default_rng(0)
    targets = np.repeat([3, 5, 9], 12)
    features = random.normal(size=(36, 6)) + targets[:, None] * random.normal(size=6)
    expected = np.mean([slow(features, (targets == c).astype(float)) for c in (3, 5, 9)])
    assert logme(features, targets) == pytest.approx(expected, abs=1e-4)
    columns = (targets[:, None] == np.array([3, 5, 9])).astype(int)
    assert logme(features, columns) == pytest.approx(logme(features, targets))


def test_better_features_rank_higher() -> None:
    random = np.random.default_rng(1)
    targets = np.repeat(np.arange(4), 50)
    noise = random.normal(size=(200, 16))
    centres = random.normal(size=(4, 16))
    scores = [logme(noise + strength * centres[targets], targets) for strength in (0.0, 0.3, 1.0, 3.0)]
    assert scores == sorted(scores) and scores[-1] - scores[0] > 0.1


@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100))
def test_scale_and_rotation_of_features_do_not_matter(seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    features, targets = random.normal(size=(30, 6)), random.integers(0, 3, 30)
    targets[:3] = [0, 1, 2]
    rotation, _ = np.linalg.qr(random.normal(size=(6, 6)))
    assert logme(features @ rotation, targets) == pytest.approx(logme(features, targets), abs=1e-6)
    assert logme(features * scale, targets) == pytest.approx(logme(features, targets), abs=1e-2)


def test_odd_inputs() -> None:
    random = np.random.default_rng(0)
    assert np.isnan(logme(random.normal(size=(9, 3)), np.zeros(9, dtype=int)))
    assert np.isnan(logme(np.empty((0, 3)), np.empty(0, dtype=int)))
    assert np.isnan(logme(np.zeros((9, 3)), np.arange(9) % 2))
    doubled = np.repeat(random.normal(size=(20, 3)), 2, axis=1)
    assert np.isfinite(logme(doubled, np.arange(20) % 2))
    assert np.isfinite(logme(np.eye(6), np.arange(6)))
    with pytest.raises(ValueError, match="do not agree"):
        logme(np.zeros((9, 3)), np.zeros(8))
