"""What an ensemble gains: held against what is known to be true, and the rule by which one is shipped."""

from __future__ import annotations

from dataclasses import replace

import ensemble_made as made
import numpy as np
import pytest

from luthier.ensemble.base import Average, Candidate
from luthier.ensemble.choice import MOST_COST, Gain, Weighed, choose, weigh
from luthier.ensemble.greedy import greedy
from luthier.ensemble.ways import Context


def fixed(context: Context, outputs: list[np.ndarray]) -> Candidate:
    return Candidate("fixed", [context.part(context.ranked[0])], Average((1.0,)), outputs)


def test_the_best_trial_gains_nothing_on_itself() -> None:
    context = made.context("text-classification", 1, 60)
    gain = weigh(context, fixed(context, context.pool[0][1]))
    assert gain.gain == 0 and gain.error == 0 and gain.interval == (0, 0)
    assert gain.expected == pytest.approx(context.ranked[0].score, abs=0.02)


def test_a_better_model_gains_what_it_is_better_by() -> None:
    context = made.context("text-classification", 1, 400, noise=3.0)
    right = [np.eye(3)[int(target)] for target in context.targets]
    gain = weigh(context, fixed(context, right))
    assert gain.gain == pytest.approx(1 - context.ranked[0].score, abs=0.02)
    assert gain.interval[0] < gain.gain < gain.interval[1] and gain.error < 0.05


def test_what_is_fitted_to_the_rows_is_judged_on_others() -> None:
    """Trials that guess: the best of them, and any ensemble, look better than chance and are not."""
    table = made.frame("text-classification", 100, 2)
    task = made.task_of("text-classification", table)
    rng = np.random.default_rng(0)
    said = [list(rng.normal(size=(100, 2)).astype(np.float32)) for _ in range(30)]
    context = made.context("text-classification", rows=100, classes=2, said=said)
    candidate = greedy(context)
    assert candidate is not None and task.name
    assert made.score(context, candidate.validation) > 0.6
    gain = weigh(context, candidate)
    assert gain.expected == pytest.approx(0.5, abs=0.06) and abs(gain.gain) < 0.06


def test_groups_are_drawn_whole() -> None:
    context = made.context("text-classification", 4, 80, groups=np.repeat(np.arange(8), 10))
    assert weigh(context, fixed(context, context.pool[1][1])).groups == 8


def test_one_unit_tells_nothing() -> None:
    context = made.context("text-classification", 3, 40, groups=np.zeros(40))
    assert np.isnan(weigh(context, fixed(context, context.pool[0][1])).gain)


def weighed(gain: float, error: float, cost: float = 2.0, refused: str = "") -> Weighed:
    candidate = Candidate("x", [], Average((1.0,)), [])
    return Weighed(candidate, 0.9, Gain(gain, error), cost, refused)


def test_the_rule_of_auto() -> None:
    small, large, unsure, dear = (
        weighed(0.01, 0.005), weighed(0.02, 0.005), weighed(0.05, 0.06), weighed(0.09, 0.01, MOST_COST + 1),
    )  # fmt: skip
    assert choose([small, large, unsure, dear]) is large
    assert choose([unsure, dear, weighed(-0.1, 0.0), weighed(0.0, 0.0), weighed(float("nan"), 1)]) is None
    assert choose([small, weighed(0.05, 0.01, refused="accuracy 0.9, less than 0.95")]) is small
    cheap = replace(small, cost=1.0)
    assert choose([small, cheap]) is cheap
    assert choose([]) is None
