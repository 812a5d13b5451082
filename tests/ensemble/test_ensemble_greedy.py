"""Ensemble selection: held to its laws on made outputs."""

from __future__ import annotations

import ensemble_made as made
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from luthier.ensemble.base import Average
from luthier.ensemble.greedy import greedy, select
from luthier.ensemble.pool import Pool
from luthier.ensemble.ways import Context


def found(context: Context):
    candidate = greedy(context)
    assert candidate is not None
    return candidate


@pytest.mark.parametrize("kind", made.KINDS)
def test_the_pool_says_what_the_task_s_mean_says(kind: str) -> None:
    context = made.context(kind)
    outputs = [said for _, said in context.pool]
    pool = Pool(context.task, outputs, context.targets)
    weights = np.array([0.5, 0.2, 0.0, 0.3, 0.0])
    expected = made.score(context, context.task.blend(outputs, weights))
    values, read = np.tensordot(weights, pool.values, axes=1), weights @ pool.read
    assert pool.score(values, read, None) == pytest.approx(expected, abs=1e-5)
    losses = context.task.example_losses(context.task.blend(outputs, weights), context.targets)
    assert pool.loss(values, read, None) == pytest.approx(np.nanmean(losses), rel=1e-3)


@example("token-classification", 2, 34, 1)
@settings(deadline=None, max_examples=25)
@given(st.sampled_from(made.KINDS), st.integers(1, 7), st.integers(4, 40), st.integers(1, 4))
def test_it_is_never_below_the_best_single_trial_on_its_own_rows(
    kind: str, trials: int, rows: int, parts: int
) -> None:
    context = made.context(kind, trials, rows, noise=1.0 + rows % 3, parts=parts)
    candidate = found(context)
    assert made.score(context, candidate.validation) >= max(each.score for each in context.ranked) - 1e-4
    assert len(candidate.parts) <= parts
    assert isinstance(candidate.combination, Average) and sum(candidate.combination.weights) == pytest.approx(
        1
    )


def test_averaging_away_errors_of_their_own_gains() -> None:
    context = made.context("text-regression", 6, 200, noise=1.0)
    candidate = found(context)
    best = max(each.score for each in context.ranked)
    assert len(candidate.parts) >= 4 and made.score(context, candidate.validation) > best * 0.7


def test_the_order_of_trials_does_not_matter() -> None:
    context = made.context("text-classification", 6, 80)
    turned = made.context("text-classification", 6, 80)
    turned.ranked = list(reversed(turned.ranked))
    one, other = found(context), found(turned)
    assert {part.trial for part in one.parts} == {part.trial for part in other.parts}
    np.testing.assert_allclose(one.validation, other.validation)


def test_a_trial_that_is_there_twice_changes_nothing() -> None:
    plain = made.context("text-classification", 5, 80)
    said = [outputs for _, outputs in plain.pool]
    doubled = made.context("text-classification", rows=80, said=[*said, said[0], said[2]])
    np.testing.assert_allclose(found(plain).validation, found(doubled).validation)


def test_trials_without_weights_or_outputs_take_no_part() -> None:
    context = made.context("text-classification", 4, 50)
    gone, mute = context.ranked[0].trial, context.ranked[1].trial
    load, has = context.engine.kept.load, context.engine.checkpoints.has
    context.engine.checkpoints.has = lambda trial: trial != gone and has(trial)
    context.engine.kept.load = lambda trial: None if trial == mute else load(trial)
    assert not {gone, mute} & {part.trial for part in found(context).parts}


def test_a_refit_knows_only_the_rows_that_count() -> None:
    """Two trials, each right on one half: either half alone takes the one that is right there."""
    table = made.frame("text-classification", 40, 2)
    task = made.task_of("text-classification", table)
    targets = task.targets(table)
    right = [np.eye(2)[int(target)] * 4 for target in targets]
    said = [
        [row if (at < 20) == first else 4 - row for at, row in enumerate(right)] for first in (True, False)
    ]
    candidate = found(made.context("text-classification", rows=40, classes=2, said=said))
    for first, own in enumerate(said):
        counts = np.array([float((at < 20) == (first == 0)) for at in range(40)])
        np.testing.assert_allclose(np.argmax(candidate.refit(counts), axis=1), np.argmax(own, axis=1))


def test_when_time_is_up_it_ends_with_what_it_has() -> None:
    context = made.context("text-classification", 6, 80, seconds=0.0)
    pool = Pool(context.task, [outputs for _, outputs in context.pool], context.targets)
    weights = select(pool, context)
    assert weights.sum() == pytest.approx(1)
    assert made.score(context, found(context).validation) >= context.ranked[0].score - 1e-9


def test_without_trials_it_says_why() -> None:
    said: list[str] = []
    context = made.context("text-classification", 2, say=said.append)
    context.ranked = []
    assert greedy(context) is None and "nothing to combine" in said[0]
