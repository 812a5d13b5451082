"""The curve model and expectations: what past studies say of recipes, and how a study's results move it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_studies import made_study

from luthier.recipe import Recipe
from luthier.search import features
from luthier.search.curve_model import HORIZONS, TREES, CurveModel, fitted
from luthier.search.expectation import BLUR, Expectation, _improvement
from luthier.search.prior import GRID, Prior

PRIOR = Prior.from_studies([made_study(f"s{seed}", 40, seed) for seed in range(4)])
MODEL = CurveModel(PRIOR, features.NAMES, 0)
RATES = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
RECIPES = [Recipe(model=model, learning_rate=rate, epochs=16) for model in "mn" for rate in RATES]
ROWS = MODEL.rows(features.matrix(RECIPES), [recipe.model for recipe in RECIPES])


def expectation() -> Expectation:
    return Expectation(MODEL, ROWS, np.full(len(RECIPES), 16))


def test_curves_of_new_recipes_rise_and_are_best_where_the_past_was() -> None:
    curves = MODEL.new(ROWS)
    assert curves.shape == (10, TREES, len(HORIZONS))
    assert (np.diff(curves, axis=2) >= -1e-6).all()
    assert curves[:5, :, -1].mean(axis=1).argmax() == curves[5:, :, -1].mean(axis=1).argmax() == 2


def test_a_begun_curve_goes_on_from_where_it_is() -> None:
    early = MODEL.further(ROWS[2], [0.35])
    late = MODEL.further(ROWS[2], [0.85 * (1 - 0.6 ** (epoch + 1)) for epoch in range(12)])
    assert early.shape == (TREES, len(HORIZONS))
    assert early.min() >= 0 and late.min() >= 0
    assert early[:, -1].mean() > 0.2 > 0.05 > late[:, -1].mean()


def test_slow_models_are_expected_to_be_slow() -> None:
    seconds = MODEL.log_seconds(ROWS)
    assert seconds[5:].mean() - seconds[:5].mean() == pytest.approx(np.log(2), abs=0.1)


def test_a_disappointment_lowers_the_others() -> None:
    model = expectation()
    _, before = model.improvement({0: [0.1]}, {0: 1.0}, set())
    # Far below what the past says of a rate that is nearly the best.
    _, after = model.improvement({0: [0.1], 3: [0.05] * 3}, {0: 1.0, 3: 1.0}, {3})
    assert after[7] < before[7] and after[2] < before[2]


def test_what_is_over_or_cannot_be_better_gains_nothing() -> None:
    worth, gains = expectation().improvement({2: [0.2, 0.9]}, {2: 1.0}, {2})
    assert gains[2] == pytest.approx(BLUR / 4, rel=1e-4) and worth[2] <= BLUR / 4
    _, gains = expectation().improvement({2: [1.0]}, {2: 1.0}, {2})
    assert gains.max() <= BLUR / 4 + 1e-6


def test_cheaper_is_preferred_among_equals() -> None:
    model = expectation()
    slow, _ = model.improvement({0: [0.1], 9: [0.1]}, {0: 1.0, 9: 100.0}, set())
    fast, _ = model.improvement({0: [0.1], 9: [0.1]}, {0: 1.0, 9: 1.0}, set())
    assert slow[9] < fast[9]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=5), st.floats(0, 1))
def test_improvement_is_the_blurred_excess(values, best) -> None:
    curves = np.array(values)[None, :, None]
    found = _improvement(curves, best)[0, 0]
    fine = np.linspace(-BLUR, BLUR, 4001)
    exact = np.mean([np.maximum(value + fine - best, 0).mean() for value in values])
    assert found == pytest.approx(exact, abs=1e-4)


def test_a_model_is_fitted_once() -> None:
    assert fitted(PRIOR, features.NAMES, 1) is fitted(PRIOR, features.NAMES, 1)


def test_the_grid_has_the_horizons_of_new_recipes() -> None:
    assert set(HORIZONS) <= set(GRID)
