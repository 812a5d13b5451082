"""Heads on features: the minimum is one, weights are repetitions, penalties are chosen on held-out rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge

from luthier.estimators import linear
from luthier.estimators.linear import FOLDS, STRENGTHS, Rows, distinct, folds, train


def blobs(
    count: int = 90, classes: int = 3, spread: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(count) % classes
    return rng.normal(size=(classes, 4))[y] * 2 + spread * rng.normal(size=(count, 4)), y


def standardised(X: np.ndarray, w: np.ndarray) -> np.ndarray:
    mean = np.average(X, axis=0, weights=w)
    return (X - mean) / np.sqrt(np.average((X - mean) ** 2, axis=0, weights=w))


@pytest.mark.parametrize("l2", [1.0, 1e-3])
@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_heads_are_those_of_scikit_learn(l2: float, classes: int) -> None:
    X, y = blobs(classes=classes)
    w = np.random.default_rng(1).uniform(0.1, 2, len(y))
    head = train(distinct(X * 100 + 7, y, w), classes=classes, l2=l2, seed=0)
    # Its losses are summed; of two classes it has one weight vector, ours two of half its length.
    strength = 1 / (l2 * w.sum()) * (2 if classes == 2 else 1)
    peer = LogisticRegression(C=strength, tol=1e-12, max_iter=10_000).fit(standardised(X, w), y, w)
    outputs = head.outputs(X * 100 + 7)
    mine = outputs[:, 1] - outputs[:, 0] if classes == 2 else outputs - outputs.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(mine, peer.decision_function(standardised(X, w)), atol=1e-5)


@pytest.mark.parametrize("count", [60, 6])
def test_ridge_heads_are_those_of_scikit_learn(count: int) -> None:
    rng = np.random.default_rng(0)
    X, w = rng.normal(size=(count, 9)), rng.uniform(0.1, 2, count)
    y = X @ rng.normal(size=9) + rng.normal(size=count)
    head = train(distinct(X * 50 - 3, y, w), classes=None, l2=0.1, seed=0)
    peer = Ridge(alpha=0.1 * w.sum()).fit(standardised(X, w), y, w)
    np.testing.assert_allclose(head.outputs(X * 50 - 3)[:, 0], peer.predict(standardised(X, w)), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 3]), st.booleans())
def test_weights_are_repetitions_in_any_order(seed: int, classes: int | None, grouped: bool) -> None:
    rng = np.random.default_rng(seed)
    X, y = blobs(30, seed=seed)
    X = np.round(X)  # so that some rows are equal by themselves
    groups = rng.integers(0, 12, 30) if grouped else None
    times = rng.integers(1, 4, 30)
    rows = rng.permutation(np.repeat(np.arange(30), times))
    weighted = distinct(X, y, times.astype(float), groups)
    repeated = distinct(X[rows], y[rows], np.ones(len(rows)), None if groups is None else groups[rows])
    one, other = (train(each, classes=classes, l2=None, seed=3) for each in (weighted, repeated))
    assert one.l2 == other.l2
    np.testing.assert_array_equal(one.weight, other.weight)
    np.testing.assert_array_equal(one.bias, other.bias)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3)), min_size=1, max_size=40), st.integers(0, 99))
def test_folds_keep_kin_together_and_leave_something_of_every_class(
    pairs: list[tuple[int, int]], seed: int
) -> None:
    kin, targets = np.array(pairs).T
    rows = Rows(np.zeros((len(kin), 1)), targets, np.ones(len(kin)), kin)
    found = folds(rows, True, seed)
    assert set(found) <= set(range(-1, FOLDS))
    for number in np.unique(kin):
        assert len(set(found[kin == number])) == 1
    for fold in range(FOLDS):
        assert set(targets[found != fold]) == set(targets)


def test_every_row_is_held_out_once_where_classes_are_frequent() -> None:
    X, y = blobs(50, 2)
    found = folds(distinct(X, y, np.ones(50)), True, 0)
    assert sorted(np.bincount(found)) == [10] * FOLDS


def test_noise_is_penalised_and_signal_is_not() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 30))
    for classes, noise, signal in (
        (None, rng.normal(size=80), X @ rng.normal(size=30)),
        (2, rng.integers(0, 2, 80), (X[:, 0] > 0).astype(int)),
    ):
        of_noise = train(distinct(X, noise, np.ones(80)), classes=classes, l2=None, seed=0)
        of_signal = train(distinct(X, signal, np.ones(80)), classes=classes, l2=None, seed=0)
        assert of_noise.l2 >= 1.0 > of_signal.l2
        assert {of_noise.l2, of_signal.l2} <= set(STRENGTHS)


def test_much_data_is_held_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = blobs()
    solved: list[int] = []

    def solve(rows: Rows, strengths: object, slope: float) -> list[linear.LinearHead]:
        solved.append(len(rows))
        return linear._logistic(3)(rows, STRENGTHS, slope)

    linear.choose(distinct(X, y, np.ones(len(y))), solve, classes=3, seed=0)
    monkeypatch.setattr(linear, "MANY", 10)
    linear.choose(distinct(X, y, np.ones(len(y))), solve, classes=3, seed=0)
    assert solved == [72] * 6


def test_constant_and_copied_features_do_no_harm() -> None:
    X, y = blobs()
    odd = np.column_stack([X, X[:, 0], np.full(len(y), 0.1), np.full(len(y), 1e9)])
    head = train(distinct(odd, y, np.ones(len(y))), classes=3, l2=1e-3, seed=0)
    assert (head.weight[-2:] == 0).all()
    np.testing.assert_allclose(head.weight[0], head.weight[4], atol=1e-9)
    assert (head.outputs(odd).argmax(axis=1) == y).mean() > 0.9


def test_one_row_is_its_value() -> None:
    head = train(distinct(np.ones((1, 2)), np.array([3.5]), np.ones(1)), classes=None, l2=None, seed=0)
    assert head.l2 == linear.USUAL
    assert head.outputs(np.zeros((1, 2))) == 3.5
