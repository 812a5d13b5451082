"""What ways that train share: time is counted before it is spent, and nothing is left lying about."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import parts_made
import pytest

import made
from luthier.engine.cost import Cost
from luthier.engine.engine import Engine
from luthier.ensemble.bench import FIRST, Bench, Plan, Refused
from luthier.recipe import Recipe

Model = Callable[[str], Path]


@pytest.fixture
def engine(tiny_model: Model, tmp_path: Path) -> Engine:
    return parts_made.engine(tmp_path, tiny_model("bert"), made.sentences(24), made.sentences(16, 1))


def test_numbers_are_nobody_else_s() -> None:
    assert all(number < -10 for number in FIRST.values())
    firsts = sorted(FIRST.values())
    assert all(other - one >= 100 for one, other in itertools.pairwise(firsts))


@pytest.mark.parametrize(("seconds", "together", "alone"), [(2.0, 0, 0), (10.1, 4, 3), (math.inf, 8, 8)])
def test_only_what_fits_is_begun(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, seconds: float, together: int, alone: int
) -> None:
    recipe = parts_made.RECIPE  # Two epochs, and one's time for judging.

    def costs(recipes: Sequence[Recipe]) -> list[Cost | None]:
        # In company each costs less.
        return [Cost(0.0, 1.0 if len(recipes) == 1 else 0.75) for _ in recipes]

    monkeypatch.setattr(engine, "predict_costs", costs)
    context, _ = parts_made.context(engine, [], seconds=seconds)
    with Bench(context, "bagging") as bench:
        assert bench.affordable(recipe, 8) == together
        assert bench.affordable(recipe, 8, together=False) == alone


def test_a_model_that_was_not_seen_is_timed_first(engine: Engine) -> None:
    assert engine.predict_costs([parts_made.RECIPE]) == [None]
    context, _ = parts_made.context(engine, [])
    with Bench(context, "bagging") as bench:
        assert bench.affordable(parts_made.RECIPE, 2) == 2
        whole = bench.judging_seconds(parts_made.RECIPE, "train")
        assert 0 < bench.judging_seconds(parts_made.RECIPE) < whole
        list(bench.train([Plan(parts_made.PROBE, 1)]))
        # What a head reads is at hand now.
        assert bench.judging_seconds(parts_made.PROBE) == 0


@pytest.mark.parametrize("error", [None, Refused("it is a test"), RuntimeError("boom")])
def test_only_parts_of_the_candidate_remain(engine: Engine, error: Exception | None) -> None:
    plan = Plan(parts_made.RECIPE.model_copy(update={"epochs": 1}), 1)
    context, said = parts_made.context(engine, [])

    def use() -> None:
        with Bench(context, "bagging") as bench:
            first, second = bench.train([plan, plan])
            assert first is not None and second is not None
            if error is not None:
                raise error
            bench.candidate([first], parts_made.MEAN, bench.answers(first), "one")

    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError, match="boom"):
            use()
    else:
        use()
    assert len(parts_made.numbers(engine)) == (1 if error is None else 0)
    assert said == (["No ensemble by bagging: it is a test."] if isinstance(error, Refused) else [])


def test_what_is_halted_is_no_part(engine: Engine) -> None:
    halted = iter([None] * 5)
    context, _ = parts_made.context(engine, [], halt=lambda: next(halted, "you stopped it"))
    with Bench(context, "bagging") as bench:
        assert bench.train([Plan(parts_made.RECIPE, 1)]) == [None]
    assert not parts_made.numbers(engine)


def test_cached_answers_are_those_of_the_whole_network(engine: Engine) -> None:
    context, _ = parts_made.context(engine, [])
    with Bench(context, "bagging") as bench:
        (part,) = bench.train([Plan(parts_made.PROBE, 1)])
        assert part is not None
        for name in ("train", "validation"):
            whole = engine.outputs(
                engine.network(part.recipe, 0, trial=part.trial), part.recipe,
                engine.inputs.split(name, engine.sources["tiny"], part.recipe),
            )  # fmt: skip
            for ours, theirs in zip(bench.answers(part, name), whole, strict=True):
                assert ours == pytest.approx(theirs, abs=1e-5)
