"""Stacking: the meta-model held to its derivative, its pull and its folds."""

from __future__ import annotations

import json

import ensemble_made as made
import numpy as np
import pytest

from luthier.ensemble.stacking import Stacked, _Fit, _folds, _Table, stacking


@pytest.mark.parametrize("kind", made.KINDS)
def test_the_fit_is_a_minimum(kind: str) -> None:
    """No small step from it is better."""
    context = made.context(kind, 3, 80)
    table = _Table(context.task, [outputs for _, outputs in context.pool])
    # Of words that some did not read the slope is taken to be that of the others.
    if kind == "token-classification":
        table.read[:] = 1.0
    fit = _Fit(table, context.targets)
    counts = np.arange(80) % 3 + 1.0
    weights, bias = fit.fit(counts, 5.0)

    def objective(point: np.ndarray) -> float:
        losses, _ = fit.loss(point[:3], point[3:])
        shares = np.repeat(counts, table.lengths)
        off = point[:3] - 1 / 3
        pull = 3 * off @ off + point[3:] @ point[3:]
        return float((shares @ losses + 5.0 * pull) / shares.sum())

    point = np.concatenate([weights, bias])
    best = objective(point)
    for at in range(len(point)):
        for step in (1e-2, -1e-2):
            moved = point.copy()
            moved[at] = moved[at] + step
            if at >= 3 or moved[at] >= 0:
                assert objective(moved) >= best - 1e-7


@pytest.mark.parametrize("kind", made.KINDS)
def test_of_one_trial_it_makes_that_trial_calibrated(kind: str) -> None:
    context = made.context(kind, 1, 80)
    candidate = stacking(context)
    assert candidate is not None and len(candidate.parts) == 1
    assert isinstance(candidate.combination, Stacked) and candidate.combination.weights[0] > 0
    ((_, own),) = context.pool
    plain = context.task.blend([own], [1.0])
    (weight,), bias = candidate.combination.weights, candidate.combination.bias
    for one, other in zip(candidate.combination.outputs(context.task, [own]), plain, strict=True):
        np.testing.assert_allclose(one, weight * other + np.asarray(bias))


def test_a_strong_pull_gives_the_plain_average() -> None:
    context = made.context("text-classification", 4, 60)
    fit = _Fit(_Table(context.task, [outputs for _, outputs in context.pool]), context.targets)
    weights, bias = fit.fit(np.ones(60), 1e9)
    np.testing.assert_allclose(weights, 0.25, atol=1e-5)
    np.testing.assert_allclose(bias, 0.0, atol=1e-5)


def test_it_trusts_the_trial_that_is_right() -> None:
    table = made.frame("text-classification", 200)
    task = made.task_of("text-classification", table)
    targets = task.targets(table)
    good, noise = made.outputs(task, targets, 1, 0.7), made.outputs(task, targets, 2, 30.0)
    candidate = stacking(made.context("text-classification", rows=200, said=[noise, good]))
    assert candidate is not None
    weights = dict(zip((part.trial for part in candidate.parts), candidate.combination.weights, strict=True))
    assert weights[1] > 10 * weights.get(0, 0.0)


def test_no_row_is_judged_by_a_model_that_was_fitted_to_it() -> None:
    """What is said of a row does not change when its own answer does."""
    context = made.context("text-classification", 3, 60, classes=2)
    candidate = stacking(context)
    changed = made.context("text-classification", 3, 60, classes=2, said=[o for _, o in context.pool],
                           numbers=[found.trial for found, _ in context.pool])  # fmt: skip
    changed.ranked = context.ranked
    changed.targets = [*context.targets[:7], 1 - context.targets[7], *context.targets[8:]]
    again = stacking(changed)
    assert candidate is not None and again is not None
    np.testing.assert_allclose(candidate.validation[7], again.validation[7], atol=1e-4)
    # Others of other folds are.
    assert np.abs(np.asarray(candidate.validation) - np.asarray(again.validation)).max() > 1e-3


def test_rows_of_a_group_are_in_one_fold() -> None:
    groups = np.repeat(np.arange(10), 4)
    folds = _folds(groups, 0)
    assert all(len(set(folds[groups == group].tolist())) == 1 for group in range(10))
    assert sorted(set(folds.tolist())) == [0, 1, 2, 3, 4]


def test_it_survives_a_json_file() -> None:
    stacked = Stacked((0.25, 1.5), (0.1, -0.1, 0.0))
    assert Stacked.from_state(json.loads(json.dumps(stacked.state()))) == stacked


def test_too_few_rows_are_refused() -> None:
    said: list[str] = []
    assert stacking(made.context("text-classification", 3, 10, say=said.append)) is None
    assert "nothing to stack" in said[0]
