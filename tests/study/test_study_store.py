"""The store: what it keeps, and what starting again forgets."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from study_reports import end, epoch, order

from luthier.errors import RunError
from luthier.study import rows
from luthier.trial import Report


def test_a_run_is_given_back_as_it_was_made(store, run) -> None:
    record = store.run(run)
    assert (record.name, record.seed, record.budget, record.spent) == ("first", 7, 60.0, 0.0)
    assert (record.status, record.best_trial, record.strategy_state) == ("running", None, {"trials": 0})
    assert record.created.utcoffset().total_seconds() == 0
    store.save_progress(run, spent=3.5, strategy_state={"trials": 1})
    store.finish_run(run, "completed", 4)
    record = store.run(run)
    assert (record.status, record.best_trial, record.spent, record.strategy_state) == (
        "completed",
        4,
        3.5,
        {"trials": 1},
    )
    assert record.updated >= record.created


def test_runs_come_newest_first_and_apart(store, run) -> None:
    other = store.create_run(name="second")
    store.start_trial(other, order(0))
    assert [record.name for record in store.runs()] == ["second", "first"]
    assert len(store.trials(other)) == 1
    assert len(store.trials(run)) == 0


def test_a_trial_from_start_to_end(store, run) -> None:
    store.start_trial(run, order(0), strategy_state={"trials": 1})
    assert store.run(run).strategy_state == {"trials": 1}
    for at, score in ((1, 0.5), (2, 0.9), (3, 0.7)):
        store.report(
            run, epoch(0, at, score, peak_memory=100 * at), spent=float(at), strategy_state={"told": at}
        )
    assert store.run(run).strategy_state == {"told": 3}
    store.finish_trial(
        run, end(0, score=0.9, seconds=0.25, best_epoch=2, trainable=10, parameters=20), spent=9.0
    )
    row = store.trials(run).iloc[0]
    assert (row["number"], row["status"], row["score"], row["best_epoch"], row["epochs"]) == (
        0,
        "completed",
        0.9,
        2,
        3,
    )
    assert (row["seconds"], row["peak_memory"], row["loss"], row["attempts"]) == (1.75, 300, 0.5, 1)
    assert (row["trainable_parameters"], row["total_parameters"], row["seed"]) == (10, 20, 100)
    assert (row["learning_rate"], row["recipe_epochs"], row["model"]) == (1e-4, 8, "m")
    assert store.recipes(run) == {0: order(0).recipe}
    assert store.run(run).spent == 9.0
    epochs = store.epochs(run)
    assert epochs["epoch"].tolist() == [1, 2, 3]
    assert epochs["accuracy"].tolist() == [0.5, 0.9, 0.7]
    assert epochs.columns.tolist() == [
        "trial",
        "epoch",
        "score",
        "seconds",
        "peak_memory",
        "accuracy",
        "loss",
    ]


def test_the_closing_report_settles_a_tie(store, run) -> None:
    store.start_trial(run, order(0))
    for at in (1, 2, 3):
        store.report(run, epoch(0, at, 0.5))
    assert store.trials(run)["best_epoch"].tolist() == [3]  # the loss falls
    store.report(run, end(0, score=0.5, best_epoch=1))
    assert (store.trials(run)["best_epoch"].tolist(), store.trials(run)["loss"].tolist()) == ([1], [1.0])


def test_a_failure_is_kept_with_its_reason(store, run) -> None:
    store.start_trial(run, order(0))
    store.report(run, Report(0, 0, "failed", reason="out of memory", peak_memory=9))
    row = store.trials(run).iloc[0]
    assert (row["status"], row["reason"], row["epochs"], row["peak_memory"]) == (
        "failed",
        "out of memory",
        0,
        9,
    )
    assert math.isnan(row["score"])
    assert pd.isna(row["best_epoch"])


def test_what_is_not_there_is_an_error(store, run) -> None:
    for call in (store.run, store.trials, store.epochs, store.unfinished_trials):
        with pytest.raises(RunError, match="no run 'nothing'"):
            call("nothing")
    with pytest.raises(RunError, match="no trial 5"):
        store.report(run, epoch(5, 1))
    with pytest.raises(ValueError, match="ends as"):
        store.finish_trial(run, epoch(0, 1))


def test_starting_again_forgets_the_attempt_before(store, run) -> None:
    store.start_trial(run, order(0))
    store.report(run, epoch(0, 1, 0.9))
    (left,) = store.unfinished_trials(run)
    assert (left.number, left.recipe, left.seed, left.attempts) == (0, order(0).recipe, 100, 1)
    assert left.order == order(0)
    store.start_trial(run, left.order)
    assert len(store.epochs(run)) == 0
    row = store.trials(run).iloc[0]
    assert (row["attempts"], row["epochs"], row["seconds"]) == (2, 0, 0.0)
    assert math.isnan(row["score"])


def test_an_epoch_reported_twice_counts_once(store, run) -> None:
    store.start_trial(run, order(0))
    store.report(run, epoch(0, 1, 0.9))
    store.report(run, epoch(0, 1, 0.4))
    assert store.epochs(run)["score"].tolist() == [0.4]
    assert store.trials(run)[["score", "seconds"]].values.tolist() == [[0.4, 0.5]]


def test_a_completed_trial_goes_on_and_falls_back_to_where_it_was(store, run) -> None:
    store.start_trial(run, order(0, 2))
    for at in (1, 2):
        store.report(run, epoch(0, at))
    store.report(run, end(0, 2))
    store.start_trial(run, order(0, 4))
    store.report(run, epoch(0, 3))
    (left,) = store.unfinished_trials(run)
    assert (left.until, left.resumed_from, left.attempts) == (4, 2, 1)
    store.start_trial(run, left.order)
    assert store.epochs(run)["epoch"].tolist() == [1, 2]
    assert store.unfinished_trials(run)[0].attempts == 2


def test_a_stopped_trial_starts_anew(store, run) -> None:
    store.start_trial(run, order(0))
    store.report(run, epoch(0, 1))
    store.report(run, end(0, 1, "stopped", reason="the budget ended"))
    store.start_trial(run, order(0, 8))
    row = store.trials(run).iloc[0]
    assert (row["status"], row["reason"], row["epochs"], row["attempts"]) == ("running", "", 0, 2)


def test_a_withdrawn_trial_leaves_no_trace(store, run) -> None:
    store.start_trials(run, [order(0), order(1), order(2)])
    store.report(run, epoch(1, 1))
    store.withdraw_trials(run, [1, 2], strategy_state={"trials": 1})
    assert store.trials(run)["number"].tolist() == [0]
    assert len(store.epochs(run)) == 0
    assert store.run(run).strategy_state == {"trials": 1}


def test_orders_and_state_are_saved_together_or_not_at_all(store, run, monkeypatch) -> None:
    store.start_trials(run, [order(0), order(1)], strategy_state={"trials": 2})
    original = rows.start

    def breaks(session, run, order):
        original(session, run, order)
        if order.trial == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(rows, "start", breaks)
    with pytest.raises(KeyboardInterrupt):
        store.start_trials(run, [order(2), order(3)], strategy_state={"trials": 4})
    assert store.trials(run)["number"].tolist() == [0, 1]
    assert store.run(run).strategy_state == {"trials": 2}


def test_a_report_and_the_state_that_follows_are_saved_together_or_not_at_all(
    store, run, monkeypatch
) -> None:
    store.start_trial(run, order(0))

    def breaks(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("luthier.study.store._progress", breaks)
        for report in (epoch(0, 1), end(0)):
            with pytest.raises(KeyboardInterrupt):
                store.report(run, report, strategy_state={"told": 1})
    assert len(store.epochs(run)) == 0
    assert store.trials(run)["status"].tolist() == ["running"]
    assert store.run(run).strategy_state == {"trials": 0}
