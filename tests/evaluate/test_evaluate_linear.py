from __future__ import annotations

import numpy as np
import pytest

from luthier.evaluate import linear
from luthier.evaluate.linear import linear_head, standard


@pytest.mark.parametrize(("count", "width"), [(50, 10), (20, 40), (10, 9), (10, 10)])
@pytest.mark.parametrize("penalty", linear.PENALTIES)
def test_left_out_answers_are_those_of_fits_without_the_row(
    count: int, width: int, penalty: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "PENALTIES", (penalty,))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(count, width)), rng.normal(size=(count, 3))
    head = linear_head(x, y)
    ridge = penalty * ((x - x.mean(axis=0)) ** 2).sum() / count * np.eye(width)
    others = np.arange(count) != 3
    centre, mean = x[others].mean(axis=0), y[others].mean(axis=0)
    inner = x[others] - centre
    weights = np.linalg.solve(inner.T @ inner + ridge, inner.T @ (y[others] - mean))
    np.testing.assert_allclose(head.left_out[3], (x[3] - centre) @ weights + mean, atol=1e-9)
    whole = x - x.mean(axis=0)
    weights = np.linalg.solve(whole.T @ whole + ridge, whole.T @ (y - y.mean(axis=0)))
    np.testing.assert_allclose(head(x), whole @ weights + y.mean(axis=0), atol=1e-9)


def test_directions_without_spread_get_no_weight() -> None:
    x = np.column_stack([np.arange(8.0), np.ones(8), np.arange(8.0)])
    head = linear_head(x, x[:, :1])
    assert np.isfinite(head.weights).all() and np.abs(head(x) - x[:, :1]).max() < 0.1


def test_wide_vectors_are_projected_and_scaled_by_the_training_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "WIDEST", 5)
    rng = np.random.default_rng(1)
    train, other = standard(rng.normal(3, 2, (30, 9)), rng.normal(3, 2, (4, 9)))
    assert train.shape == (30, 5) and other.shape == (4, 5)
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-12)
