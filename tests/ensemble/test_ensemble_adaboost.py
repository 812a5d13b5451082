"""AdaBoost: what was got wrong counts more in the next round."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import parts_made
import pytest
from hypothesis import given
from hypothesis import strategies as st

import made
from luthier.ensemble.adaboost import adaboost, reweighted, vote
from luthier.ensemble.base import Average

Model = Callable[[str], Path]


@given(st.lists(st.tuples(st.floats(0.01, 1), st.booleans()), min_size=2, max_size=30), st.integers(2, 10))
def test_shares_stay_one_and_rise_on_errors(rows: list[tuple[float, bool]], classes: int) -> None:
    shares, wrong = (np.array(column) for column in zip(*rows, strict=True))
    shares = shares / shares.sum()
    error = float(shares[wrong].sum())
    if not wrong.any() or error >= 1 - 1 / classes - 1e-9:
        return
    amount = vote(error, classes)
    after = reweighted(shares, wrong, amount)
    assert amount > 0
    assert after.sum() == pytest.approx(1)
    assert (after[wrong] > shares[wrong]).all()
    assert (after[~wrong] < shares[~wrong]).all()
    # The next head learns most where this one is as good as a guess: what it got wrong is then
    # 1 - 1 / classes of all.
    assert after[wrong].sum() == pytest.approx(1 - 1 / classes)


def test_a_guess_has_no_vote() -> None:
    assert vote(1 - 1 / 5, 5) == pytest.approx(0)
    assert vote(0.6, 5) > 0 > vote(0.9, 5)
    assert vote(0.25, 2) == pytest.approx(math.log(3))


def test_heads_vote_by_their_errors(tiny_model: Model, tmp_path: Path) -> None:
    engine = parts_made.engine(
        tmp_path, tiny_model("bert"), parts_made.animals(256), parts_made.animals(128, 1)
    )
    trials = parts_made.finished(engine, [parts_made.PROBE])
    context, _ = parts_made.context(engine, trials, parts=6)
    candidate = parts_made.check(engine, adaboost(context))
    assert isinstance(candidate.combination, Average)
    assert 2 <= len(candidate.parts) <= 6
    assert sum(candidate.combination.weights) == pytest.approx(1)
    assert min(candidate.combination.weights) > 0
    # It learns what one linear head cannot say for all rows at once.
    assert parts_made.score(engine, candidate.validation) > trials[0].score + 0.05
    again = adaboost(context)
    assert again is not None and again.combination == candidate.combination
    assert [part.seed for part in again.parts] == [part.seed for part in candidate.parts]


def test_without_a_trial_of_a_head_it_finds_a_rate_by_itself(tiny_model: Model, tmp_path: Path) -> None:
    engine = parts_made.engine(
        tmp_path, tiny_model("bert"), parts_made.animals(96), parts_made.animals(48, 1)
    )
    trials = parts_made.finished(engine, [parts_made.RECIPE.model_copy(update={"epochs": 1})])
    context, _ = parts_made.context(engine, trials, parts=3)
    candidate = parts_made.check(engine, adaboost(context))
    assert {part.recipe.adaptation for part in candidate.parts} == {"probe"}


def test_it_is_refused_where_it_means_nothing(tiny_model: Model, tmp_path: Path) -> None:
    engine = parts_made.engine(
        tmp_path, tiny_model("bert"), made.ratings(24), made.ratings(16, 1), "text-regression"
    )
    trials = parts_made.finished(engine, [parts_made.PROBE])
    context, said = parts_made.context(engine, trials)
    assert adaboost(context) is None and "one class an example" in said[0]
    assert not parts_made.numbers(engine)
