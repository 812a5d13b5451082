"""The last round of a study that is interrupted, killed, resumed, or continued with more time."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finalists_rounds import carry_out, last_round, repeated, rows
from study_engine import SPACE, Dying, Killed, Listening, Seeded, make, table

from luthier.recipe import Recipe
from luthier.study.study import Finished, Study
from luthier.trial import Order


class DyingSeeded(Dying, Seeded):
    """Both."""


def resumed(study: Study, clock: float = 0.0, **options: Any) -> Study:
    """Another process goes on; what was on disk is."""
    engine = Seeded([clock])
    engine.weights = set(study.engine.weights)  # type: ignore[attr-defined]
    return make(Path(study.store.location).parent, engine, run=study.run_id, **options)


def outcome(study: Study, chosen: Finished) -> tuple[Any, ...]:
    return table(study), repeated(study), chosen.trial, study.strategy.state()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[Any, ...]]:
    known: dict[int, tuple[Any, ...]] = {}

    def get(room: int) -> tuple[Any, ...]:
        if room not in known:
            study = make(tmp_path_factory.mktemp("calm"), Seeded([0.0]), **options(room))
            known[room] = outcome(study, carry_out(study)[1])
        return known[room]

    return get


def options(room: int) -> dict[str, Any]:
    return {
        "trials": 5, "room": room, "hold": 4, "strategy": Listening, "first": [Recipe(model="m", epochs=3)],
    }  # fmt: skip


def test_an_interrupted_search_is_not_followed_by_repeats(tmp_path: Path) -> None:
    engine = Seeded([0.0])
    study = make(tmp_path, engine, interrupted=lambda: "you did" if engine.clock[0] >= 10 else None)
    carry_out(study)
    assert repeated(study) == []


def test_repeats_that_were_cut_short_decide_nothing(tmp_path: Path) -> None:
    engine = Seeded([0.0], stack=1)
    stop = {"at": math.inf}
    study = make(
        tmp_path,
        engine,
        trials=4,
        hold=4,
        interrupted=lambda: "you" if engine.clock[0] >= stop["at"] else None,
    )
    rounds = last_round(study, 2)
    study.run(rounds.hold_back)
    stop["at"] = engine.clock[0] + 4  # the first repeat, and a third of the second
    rounds.repeat()
    chosen = rounds.choose()
    trials = rows(study)
    assert [row["status"] for row in trials[4:]] == ["completed", "stopped"]
    assert chosen == study.best and rounds.how == ""
    # Those that were not begun left no trace, and are trained when the run goes on.
    later = resumed(study, trials=4, hold=4)
    carry_out(later, 2)
    assert [row["status"] for row in rows(later)[4:]] == ["completed", "stopped", "completed", "completed"]


# Five trials and eight repeats, each of three epochs and an end: four of the search, the rest of the round.
@pytest.mark.parametrize("room", [1, 4])
@pytest.mark.parametrize("step", [3, 17, *range(19, 53, 3), 52])
def test_after_a_kill_the_trials_are_those_of_an_undisturbed_run(
    tmp_path: Path, undisturbed: Callable[[int], tuple[Any, ...]], room: int, step: int
) -> None:
    first = make(tmp_path, DyingSeeded(step), **options(room))
    with pytest.raises(Killed):
        carry_out(first)
    second = resumed(first, **options(room))
    assert outcome(second, carry_out(second)[1]) == undisturbed(room)


@pytest.mark.parametrize("method", ["start_trials", "finish_trial"])
@pytest.mark.parametrize("written", [False, True])
def test_killed_before_or_after_a_write_of_the_round_nothing_differs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: Callable[[int], tuple[Any, ...]],
    method: str,
    written: bool,
) -> None:
    first = make(tmp_path, Seeded([0.0]), **options(4))
    rounds = last_round(first)
    first.run(rounds.hold_back)
    original = getattr(first.store, method)

    def dying(*args: Any, **also: Any) -> None:
        if written:
            original(*args, **also)
        raise Killed

    monkeypatch.setattr(first.store, method, dying)
    with pytest.raises(Killed):
        rounds.repeat()
    second = resumed(first, **options(4))
    assert outcome(second, carry_out(second)[1]) == undisturbed(4)


def test_a_resumed_round_is_not_followed_by_more_search(tmp_path: Path) -> None:
    """The time that a kill gave back does not go to trials that an undisturbed run would not have had."""
    options: dict[str, Any] = {"budget": 100.0, "hold": 4, "strategy": Listening, "room": 4}
    # Twenty-nine trials of four reports and one of two, then the repeats.
    first = make(tmp_path, DyingSeeded(29 * 4 + 2 + 9), **options)
    with pytest.raises(Killed):
        carry_out(first, None)
    before = len(rows(first))
    assert repeated(first)
    second = resumed(first, **options)
    carry_out(second, None)
    assert len(rows(second)) == before


def test_with_more_time_the_search_goes_on_behind_the_repeats(tmp_path: Path) -> None:
    first = make(tmp_path, Seeded([0.0]), budget=100.0, hold=4, strategy=Listening, room=4)
    carry_out(first, 2)
    numbers = [row["number"] for row in rows(first)]
    assert numbers == list(range(len(numbers))) and repeated(first)
    waiting = len(first.proposals.waiting)
    assert waiting
    told = [one[0] for one in first.strategy.heard]  # type: ignore[attr-defined]
    second = resumed(first, clock=100.0, budget=200.0, hold=4, strategy=Listening, room=4)
    carry_out(second, 2)
    trials = rows(second)
    assert [row["number"] for row in trials] == list(range(len(trials)))
    assert len({row["seed"] for row in trials}) == len(trials)
    searched = [row for row in trials if np.isnan(float(row["repeats"] or math.nan))]
    heard = {one[0] for one in second.strategy.heard}  # type: ignore[attr-defined]
    assert set(told) < heard == set(range(len(heard)))
    # The strategy's own numbers have no gaps, and each stands for the recipe that it gave.
    own = [order.recipe.learning_rate for order in _given(second)]
    assert [row["learning_rate"] for row in searched] == own[: len(searched)]


def test_with_more_time_there_is_always_a_trial_with_weights(tmp_path: Path) -> None:
    """Of the first run only the winner's are left, which is not the trial with the best score."""
    for seed in range(3):
        first = make(tmp_path / str(seed), Seeded([0.0]), trials=6, hold=4, keep=1, strategy=Listening)
        _, chosen = carry_out(first, 2)
        assert first.engine.weights == {chosen.trial}  # type: ignore[attr-defined]
        options: dict[str, Any] = {"trials": 8 + seed, "keep": 1, "strategy": Listening, "budget": 2e6}
        second = resumed(first, hold=0, **options)
        _, chosen = carry_out(second, 1)
        assert second.engine.weights == {chosen.trial}  # type: ignore[attr-defined]


def _given(study: Study) -> list[Order]:
    """What the strategy gives, asked anew as it was asked."""
    again = Listening(SPACE, 0)
    orders: list[Order] = []
    heard = study.strategy.heard  # type: ignore[attr-defined]
    while len(orders) < study.strategy.trials:  # type: ignore[attr-defined]
        # Rounds of four, of which it hears when all have ended.
        again.heard = [one for one in heard if one[0] < len(orders) // 4 * 4]
        orders += again.ask(1)
    return orders
