"""Studies that die: another process ends them as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from study_engine import Copying, Dying, Engine, Halving, Killed, Listening, make, nothing_held_back, table

from luthier.recipe import Recipe
from luthier.search.base import Strategy
from luthier.search.random import Random
from luthier.study.study import Study
from luthier.trial import Order, Report


class Regrouping(Engine):
    """Puts other trials together, and ends them in another order."""

    def run(self, orders: list[Order], **also: Any) -> Iterator[Report]:
        self.stack = 2
        yield from super().run(orders[::-1], **also)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Study]:
    """The study that nothing happened to, run once for each set of options."""
    known: dict[str, Study] = {}

    def get(**options: Any) -> Study:
        key = repr(options)
        if key not in known:
            known[key] = make(tmp_path_factory.mktemp("calm"), Engine([0.0]), **options)
            known[key].run(nothing_held_back)
        return known[key]

    return get


def check_same(calm: Study, killed: Study) -> None:
    assert table(calm) == table(killed)
    assert calm.best is not None and killed.best is not None
    assert calm.best.trial == killed.best.trial
    assert calm.strategy.state() == killed.strategy.state()


# Trials of 1, 3, 3, ... epochs, each with one more report that ends it: so many moments there are to die at.
MOMENTS = [
    *[(1, Random, 4, step) for step in range(1, 15)],
    *[(4, Listening, 5, step) for step in range(1, 19)],
    # Trials that are left and go on: five, two and one of them, behind the first.
    *[(4, Halving, 6, step) for step in range(1, 19)],
    *[(1, Halving, 9, step) for step in range(1, 31, 3)],
]


@pytest.mark.parametrize(("room", "strategy", "trials", "step"), MOMENTS)
def test_after_a_kill_the_trials_are_those_of_an_undisturbed_run(
    tmp_path: Path,
    undisturbed: Callable[..., Study],
    room: int,
    strategy: type[Strategy],
    trials: int,
    step: int,
) -> None:
    options = {"trials": trials, "room": room, "strategy": strategy, "first": [Recipe(model="m", epochs=1)]}
    first = make(tmp_path, Dying(step), **options)
    with pytest.raises(Killed):
        first.run(nothing_held_back)
    second = make(tmp_path, Regrouping([0.0]), run=first.run_id, **options)
    second.run(nothing_held_back)
    check_same(undisturbed(**options), second)


class Learning(Engine):
    """What a trial scores depends on all that it and its ancestors were trained with."""

    learns = True


class DyingLearner(Dying):
    learns = True


@pytest.mark.parametrize("step", range(1, 34))
def test_copies_of_trials_survive_the_weights_of_their_parents(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, step: int
) -> None:
    """Where parents have gone on since, and they and their own parents are to be trained again."""
    options = {"trials": 7, "room": 3, "strategy": Copying}
    calm = make(tmp_path_factory.mktemp("calm"), Learning([0.0]), **options)
    calm.run(nothing_held_back)
    assert calm.store.trials(calm.run_id)["parent"].notna().sum() == 4
    first = make(tmp_path, DyingLearner(step), **options)
    with pytest.raises(Killed):
        first.run(nothing_held_back)
    second = make(tmp_path, Learning([0.0]), run=first.run_id, **options)
    second.run(nothing_held_back)
    check_same(calm, second)


@pytest.mark.parametrize("method", ["start_trials", "finish_trial"])
@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("at", [1, 2])
def test_killed_before_or_after_a_write_nothing_differs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: Callable[..., Study],
    method: str,
    written: bool,
    at: int,
) -> None:
    options = {"trials": 5, "room": 3, "strategy": Listening}
    first = make(tmp_path, Engine([0.0]), **options)
    original, calls = getattr(first.store, method), iter(range(1, 100))

    def dying(*args: Any, **also: Any) -> None:
        now = next(calls) == at
        if written or not now:
            original(*args, **also)
        if now:
            raise Killed

    monkeypatch.setattr(first.store, method, dying)
    with pytest.raises(Killed):
        first.run(nothing_held_back)
    second = make(tmp_path, Regrouping([0.0]), run=first.run_id, **options)
    second.run(nothing_held_back)
    check_same(undisturbed(**options), second)


def test_killed_again_and_again_nothing_differs(tmp_path: Path, undisturbed: Callable[..., Study]) -> None:
    options = {"trials": 7, "room": 4, "strategy": Listening}
    study = make(tmp_path, Dying(9), **options)
    for step in (2, 5, 1000):
        with pytest.raises(Killed):
            study.run(nothing_held_back)
        study = make(tmp_path, Dying(step), run=study.run_id, **options)
    study.run(nothing_held_back)
    check_same(undisturbed(**options), study)


def test_unfinished_trials_go_on_at_once(tmp_path: Path) -> None:
    first = make(tmp_path, Dying(8), trials=4, room=4)
    with pytest.raises(Killed):
        first.run(nothing_held_back)
    second = make(tmp_path, Engine([0.0]), run=first.run_id, trials=4, room=4)
    second.run(nothing_held_back)
    assert second.engine.calls == [[0, 1, 2, 3]]  # type: ignore[attr-defined]


def test_a_trial_that_kills_the_process_is_given_up(tmp_path: Path) -> None:
    class Deadly(Engine):
        def run(self, orders: list[Order], **also: Any) -> Iterator[Report]:
            if orders[0].trial == 1:
                raise Killed
            yield from super().run(orders, **also)

    study = make(tmp_path, Deadly([0.0]), trials=3)
    for _ in range(4):
        with pytest.raises(Killed):
            study.run(nothing_held_back)
        study = make(tmp_path, Deadly([0.0]), run=study.run_id, trials=3)
    study.run(nothing_held_back)
    trials = study.store.trials(study.run_id)
    assert list(trials["status"]) == ["completed", "failed", "completed"]
    assert "died 4 times" in trials["reason"][1]


def test_one_that_kills_the_process_takes_no_other_along(tmp_path: Path) -> None:
    class Deadly(Engine):
        def _run(self, orders: list[Order], *args: Any) -> Iterator[Report]:
            if any(order.trial == 5 for order in orders):
                raise Killed
            yield from super()._run(orders, *args)

    calls = []
    study = make(tmp_path, Deadly([0.0], stack=4), trials=8, room=4)
    for _ in range(4):
        with pytest.raises(Killed):
            study.run(nothing_held_back)
        calls.append(study.engine.calls)  # type: ignore[attr-defined]
        study = make(tmp_path, Deadly([0.0], stack=4), run=study.run_id, trials=8, room=4)
    study.run(nothing_held_back)
    assert calls == [[[0, 1, 2, 3], [4, 5, 6, 7]], [[4, 5, 6, 7]], [[4], [5]], [[5]]]
    trials = study.store.trials(study.run_id)
    assert [number for number in range(8) if trials["status"][number] != "completed"] == [5]
    assert "died 4 times" in trials["reason"][5]
