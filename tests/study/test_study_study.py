"""The loop itself, with an engine that answers at once: what it asks, tells, keeps and gives up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from study_engine import SPACE, Engine, Halving, Listening, Quiet, make, nothing_held_back, table

from luthier.engine.cost import Cost
from luthier.errors import RunError
from luthier.recipe import Recipe
from luthier.trial import Order, Report


def test_it_ends_after_so_many_trials_and_keeps_the_best(tmp_path: Path) -> None:
    engine = Engine([0.0])
    study = make(tmp_path, engine, trials=6, keep=2)
    study.run(nothing_held_back)
    scores = {order.trial: -math.log10(order.recipe.learning_rate) for order in engine.trained}
    assert list(scores) == list(range(6))
    ranked = sorted(scores, key=lambda trial: -scores[trial])
    assert study.best is not None and study.best.trial == ranked[0]
    assert engine.keeping == set(ranked[:2])
    assert len({order.seed for order in engine.trained}) == 6


@pytest.mark.parametrize(("size", "expected"), [(2**31, 3), (2**29, 4), (1, 16)])
def test_without_a_number_as_many_are_kept_as_fit(tmp_path: Path, size: int, expected: int) -> None:
    engine = Engine([0.0])
    engine.checkpoints.size = lambda trial: size
    study = make(tmp_path, engine, trials=20, keep=None)
    study.run(nothing_held_back)
    best = [found.trial for found in study.ranked[:expected]]
    assert len(engine.keeping) == expected and engine.keeping == set(best)
    assert study.best is not None
    study.settle(study.ranked[2])
    assert engine.keeping == set(best)


def test_the_budget_is_kept_and_epochs_are_made_to_fit(tmp_path: Path) -> None:
    engine = Engine([0.0])
    study = make(tmp_path, engine, budget=12.0)
    study.run(lambda best: 4.0)
    assert engine.clock[0] == 8.0
    assert [order.recipe.epochs for order in engine.trained] == [3, 3, 2]


def test_first_recipes_go_first_and_the_strategy_is_not_told(tmp_path: Path) -> None:
    engine = Engine([0.0])
    probe = Recipe(model="m", adaptation="probe", epochs=2)
    study = make(tmp_path, engine, trials=3, first=[probe])
    told: list[int] = []
    study.strategy.tell = lambda report: told.append(report.trial)  # type: ignore[method-assign]
    study.run(nothing_held_back)
    assert [order.trial for order in engine.trained] == [0, 1, 2]
    assert engine.trained[0].recipe == probe
    assert engine.trained[1].recipe == SPACE.default()
    assert set(told) == {0, 1}


def test_failures_are_results(tmp_path: Path) -> None:
    engine = Engine([0.0], fails=lambda trial: trial % 2 == 1)
    study = make(tmp_path, engine, trials=4)
    study.run(nothing_held_back)
    table = study.store.trials(study.run_id)
    assert list(table["status"]) == ["completed", "failed", "completed", "failed"]
    assert table["reason"][1] == "made to fail"


def test_when_nothing_works_it_gives_up_and_says_why(tmp_path: Path) -> None:
    study = make(tmp_path, Engine([0.0], fails=lambda trial: True), trials=100)
    with pytest.raises(RunError, match=r"first 3 trials all failed.*made to fail"):
        study.run(nothing_held_back)


def test_it_stops_when_asked(tmp_path: Path) -> None:
    engine = Engine([0.0])
    study = make(tmp_path, engine, interrupted=lambda: "you did" if engine.clock[0] >= 4 else None)
    study.run(nothing_held_back)
    table = study.store.trials(study.run_id)
    assert list(table["status"]) == ["completed", "stopped"]
    assert table["reason"][1] == "you did"


def test_several_orders_are_begun_stored_and_run_at_once(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []

    class Listener(Quiet):
        def trial_started(self, number: int, describe: str, epochs: int) -> None:
            assert list(study.store.trials(study.run_id)["status"]).count("running") == len(trials)
            told.append(("started", number))

        def report(self, report: Report, metric: str) -> None:
            told.append((report.status, report.trial))

    trials = range(3)
    study = make(tmp_path, Engine([0.0]), trials=3, room=3, listener=Listener())
    study.run(nothing_held_back)
    assert study.engine.calls == [[0, 1, 2]]  # type: ignore[attr-defined]
    started, running, completed = (
        [(status, trial) for trial in trials] for status in ("started", "running", "completed")
    )
    last = [pair for trial in trials for pair in (running[trial], completed[trial])]
    assert told == started + running * 2 + last


def test_more_room_gives_the_trials_that_one_at_a_time_gives(tmp_path: Path) -> None:
    first = [Recipe(model="m", epochs=2)]
    studies = [make(tmp_path / str(room), Engine([0.0]), trials=7, first=first, room=room) for room in (1, 4)]
    for study in studies:
        study.run(nothing_held_back)
    assert table(studies[0]) == table(studies[1])
    assert studies[1].engine.calls == [[0, 1, 2, 3], [4, 5, 6]]  # type: ignore[attr-defined]


def test_what_there_is_no_time_for_waits_and_comes_next(tmp_path: Path) -> None:
    calm = make(tmp_path / "calm", Engine([0.0]), trials=6, room=4)
    calm.run(nothing_held_back)
    short = make(tmp_path / "short", Engine([0.0]), trials=6, room=4, budget=8.0)
    short.run(nothing_held_back)
    assert [(order.trial, order.until) for order in short.engine.trained] == [(0, 3), (1, 3), (2, 2)]  # type: ignore[attr-defined]
    longer = make(tmp_path / "short", Engine([0.0]), run=short.run_id, trials=6, room=4)
    longer.run(nothing_held_back)
    assert longer.engine.calls == [[3], [4, 5]]  # type: ignore[attr-defined]
    assert {name: table(longer)[name] for name in ("number", "learning_rate", "seed")} == {
        name: table(calm)[name] for name in ("number", "learning_rate", "seed")
    }


def test_a_round_is_ended_before_the_next_is_asked_for(tmp_path: Path) -> None:
    class Careful(Engine):
        def predict_costs(self, recipes: Sequence[Recipe]) -> list[Cost | None]:
            return [Cost(0.0, 2.0) for _ in recipes]

    study = make(tmp_path, Careful([0.0]), room=4, trials=6, budget=18.5, strategy=Listening)
    rooms: list[tuple[int, int]] = []
    ask = study.strategy.ask

    def asked(room: int) -> list[Order]:
        rooms.append((room, len({one[0] for one in study.strategy.heard})))  # type: ignore[attr-defined]
        return ask(room)

    study.strategy.ask = asked  # type: ignore[method-assign]
    study.run(nothing_held_back)
    assert study.engine.calls == [[0, 1, 2], [3], [4], [5]]  # type: ignore[attr-defined]
    assert rooms == [*[(1, 0)] * 4, *[(1, 4)] * 2]


def test_what_costs_nobody_knows_what_is_begun_alone(tmp_path: Path) -> None:
    class Learning(Engine):
        def predict_costs(self, recipes: Sequence[Recipe]) -> list[Cost | None]:
            return [Cost(0.0, 1.0) if self.trained else None for _ in recipes]

    study = make(tmp_path, Learning([0.0]), room=4, trials=5)
    study.run(nothing_held_back)
    assert study.engine.calls == [[0], [1, 2, 3], [4]]  # type: ignore[attr-defined]


def test_trials_that_were_left_go_on_and_count_once(tmp_path: Path) -> None:
    engine = Engine([0.0])
    study = make(tmp_path, engine, room=4, trials=5, strategy=Halving)
    study.run(nothing_held_back)
    epochs = study.store.trials(study.run_id)["epochs"]
    assert sorted(epochs, reverse=True) == [3, 2, 1, 1, 1]
    # An epoch that was trained is never trained again.
    assert engine.clock[0] == sum(epochs)
    assert sorted(found.trial for found in study.finished) == [0, 1, 2, 3, 4]


def test_where_no_more_trials_may_begin_those_that_were_left_still_go_on(tmp_path: Path) -> None:
    """The strategy waits for five, of which three may begin."""
    study = make(tmp_path, Engine([0.0]), room=4, trials=3, strategy=Halving)
    study.run(nothing_held_back)
    assert sorted(study.store.trials(study.run_id)["epochs"], reverse=True) == [3, 2, 1]


def test_a_trial_that_goes_on_is_cut_to_the_time_left(tmp_path: Path) -> None:
    engine = Engine([0.0])
    study = make(tmp_path, engine, room=4, trials=5, strategy=Halving, budget=6.0)
    study.run(nothing_held_back)
    assert engine.clock[0] == 6.0
    assert max(study.store.trials(study.run_id)["recipe_epochs"]) == 3


def test_all_in_training_stop_when_asked_each_with_what_it_has(tmp_path: Path) -> None:
    engine = Engine([0.0])
    study = make(tmp_path, engine, room=3, interrupted=lambda: "you did" if engine.clock[0] >= 2 else None)
    study.run(nothing_held_back)
    trials = study.store.trials(study.run_id)
    assert list(trials["status"]) == ["stopped"] * 3
    assert set(trials["reason"]) == {"you did"}
    assert list(trials["score"] == 0.25) == [False, False, True]
    assert {one.trial for one in study.finished} == {0, 1, 2}
    assert study.store.unfinished_trials(study.run_id) == []


def test_what_was_not_begun_when_it_stopped_leaves_no_trace_and_comes_next(tmp_path: Path) -> None:
    calm = make(tmp_path / "calm", Engine([0.0]), trials=8, room=6)
    calm.run(nothing_held_back)
    engine = Engine([0.0])
    stopped = make(
        tmp_path / "stopped", engine, trials=8, room=6,
        interrupted=lambda: "you did" if engine.clock[0] >= 9 else None,
    )  # fmt: skip
    stopped.run(nothing_held_back)
    assert list(stopped.store.trials(stopped.run_id)["number"]) == [0, 1, 2]
    later = make(tmp_path / "stopped", Engine([0.0]), run=stopped.run_id, trials=8, room=6)
    later.run(nothing_held_back)
    assert later.engine.calls == [[3, 4, 5], [6, 7]]  # type: ignore[attr-defined]
    assert table(later) == table(calm)


def test_a_trial_that_was_to_go_on_and_did_not_is_left_as_it_was(tmp_path: Path) -> None:
    """Two trials go on in stacks of one; the search is stopped between them."""
    engine = Engine([0.0], stack=1)
    options = {"room": 5, "trials": 5, "strategy": Halving}
    study = make(tmp_path, engine, **options, interrupted=lambda: "you did" if engine.clock[0] >= 6 else None)
    study.run(nothing_held_back)
    table = study.store.trials(study.run_id)
    assert list(table["status"]) == ["completed"] * 5
    assert sorted(table["epochs"]) == [1, 1, 1, 1, 2]
    second = make(tmp_path, Engine([0.0]), run=study.run_id, **options)
    second.run(nothing_held_back)
    assert sorted(second.store.trials(study.run_id)["epochs"]) == [1, 1, 1, 2, 3]


def test_a_stop_before_any_result_is_no_failure(tmp_path: Path) -> None:
    class Hasty(Engine):
        def salvage(self, order: Order) -> float:
            return math.nan

    engine = Hasty([0.0], stack=4)
    study = make(tmp_path, engine, room=4)
    study.interrupted = lambda: "you did" if engine.calls else None
    study.run(nothing_held_back)
    assert list(study.store.trials(study.run_id)["status"]) == ["stopped"] * 4
    assert study.best is None


def test_when_nothing_works_together_it_gives_up_too(tmp_path: Path) -> None:
    study = make(tmp_path, Engine([0.0], fails=lambda trial: True), trials=100, room=4)
    with pytest.raises(RunError, match=r"first 4 trials all failed.*made to fail"):
        study.run(nothing_held_back)
