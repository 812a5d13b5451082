"""The store: what it keeps, what survives a kill, how it is migrated, what it says when it cannot be used."""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from luthier.errors import RunError, SettingError
from luthier.recipe import Recipe
from luthier.study import database
from luthier.study.store import Store
from luthier.study.tables import REVISION, VERSION_TABLE, Base
from luthier.trial import Order, Report

EPOCHS = 3
TRIALS = 12


def order(trial: int, until: int = EPOCHS) -> Order:
    return Order(
        trial, Recipe(model="m", epochs=8, learning_rate=1e-4 * (trial + 1)), until, seed=trial + 100
    )


def epoch(trial: int, at: int, score: float | None = None, **more) -> Report:
    score = at / 10 if score is None else score
    return Report(trial, at, "running", score, {"accuracy": score, "loss": 1 / at}, seconds=0.5, **more)


def end(trial: int, at: int = EPOCHS, status: str = "completed", **more) -> Report:
    return Report(trial, at, status, more.pop("score", at / 10), **more)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store.db") as opened:
        yield opened


@pytest.fixture
def run(store) -> str:
    return store.create_run(
        name="first", settings={"data": "x.csv"}, seed=7, budget=60.0, strategy_state={"trials": 0}
    )


# -- what is kept --------------------------------------------------------------------------------------------


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


def test_numbers_that_are_none_are_kept(store, run) -> None:
    store.start_trial(run, order(0))
    metrics = {"loss": math.nan, "up": math.inf, "down": -math.inf, "numpy": np.float32(0.5)}
    store.report(
        run,
        Report(0, 1, "running", math.nan, metrics),
        strategy_state={"scores": [math.nan, -math.inf, None]},
    )
    store.report(run, Report(0, 2, "running", -math.inf, {}))
    rows = store.epochs(run)
    assert math.isnan(rows["score"][0]) and rows["score"][1] == -math.inf
    assert math.isnan(rows["loss"][0]) and (rows["up"][0], rows["down"][0], rows["numpy"][0]) == (
        math.inf,
        -math.inf,
        0.5,
    )
    scores = store.run(run).strategy_state["scores"]
    assert math.isnan(scores[0]) and scores[1:] == [-math.inf, None]
    assert store.trials(run)["best_epoch"].tolist() == [2]


def test_tables_of_a_run_without_trials_have_their_columns(store, run) -> None:
    assert {"number", "score", "learning_rate"} <= set(store.trials(run).columns)
    assert len(store.epochs(run)) == 0


def test_what_is_not_there_is_an_error(store, run) -> None:
    for call in (store.run, store.trials, store.epochs, store.unfinished_trials):
        with pytest.raises(RunError, match="no run 'nothing'"):
            call("nothing")
    with pytest.raises(RunError, match="no trial 5"):
        store.report(run, epoch(5, 1))
    with pytest.raises(ValueError, match="ends as"):
        store.finish_trial(run, epoch(0, 1))


# -- starting again ------------------------------------------------------------------------------------------


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


def test_orders_and_state_are_saved_together_or_not_at_all(store, run, monkeypatch) -> None:
    store.start_trials(run, [order(0), order(1)], strategy_state={"trials": 2})
    original = Store._start

    def breaks(self, session, run, order):
        original(self, session, run, order)
        if order.trial == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Store, "_start", breaks)
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


# -- kills ---------------------------------------------------------------------------------------------------


def work(path: Path, run: str) -> None:
    """A study in small: what it does next depends on nothing but the store."""
    with Store(path) as store:
        state = store.run(run).strategy_state
        again = [left.order for left in store.unfinished_trials(run)]
        while again or state["asked"] < TRIALS:
            if again:
                current = again.pop(0)
                state["told"].pop(str(current.trial), None)
            else:
                current = order(state["asked"])
                state["asked"] += 1
            store.start_trial(run, current, strategy_state=state)
            for at in range(1, EPOCHS + 1):
                state["told"][str(current.trial)] = at
                store.report(
                    run, epoch(current.trial, at, math.sin(current.trial + at)), strategy_state=state
                )
            store.report(run, end(current.trial, score=math.nan), strategy_state=state)
        store.finish_run(run, "completed")


def check_whole(path: Path, run: str) -> None:
    """The strategy was told exactly what is stored, and nothing is half there."""
    with Store(path) as store:
        state, trials, epochs = store.run(run).strategy_state, store.trials(run), store.epochs(run)
        assert trials["number"].tolist() == list(range(state["asked"]))
        counted = epochs.groupby("trial")["epoch"].max()
        assert {str(trial): at for trial, at in counted.items()} == state["told"]
        assert (trials.set_index("number")["epochs"].reindex(counted.index) == counted).all()
        assert (trials.loc[trials["status"] == "completed", "epochs"] == EPOCHS).all()
        assert (trials["status"] == "running").sum() <= 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_killed_at_random_moments_it_loses_and_doubles_nothing(tmp_path) -> None:
    tables: list[tuple[pd.DataFrame, pd.DataFrame]] = []
    calm_seconds = 0.0
    for name, kills in (("calm", 0), ("killed", 12)):
        path = tmp_path / f"{name}.db"
        with Store(path) as store:
            run = store.create_run(strategy_state={"asked": 0, "told": {}})
        dice, killed, began = random.Random(0), 0, time.perf_counter()
        while True:
            process = multiprocessing.get_context("fork").Process(target=work, args=(path, run))
            process.start()
            if killed < kills:
                process.join(dice.uniform(0, calm_seconds / 8))
                if process.is_alive():
                    os.kill(process.pid, signal.SIGKILL)
                    killed += 1
            process.join()
            check_whole(path, run)
            if process.exitcode == 0:
                break
        calm_seconds = calm_seconds or time.perf_counter() - began
        assert killed >= kills // 4
        with Store(path) as store:
            assert store.run(run).status == "completed"
            tables.append(
                (store.trials(run).drop(columns=["attempts", "started", "ended"]), store.epochs(run))
            )
    for calm, disturbed in zip(*tables, strict=True):
        pd.testing.assert_frame_equal(calm, disturbed)


def test_others_read_while_a_run_writes(tmp_path) -> None:
    path = tmp_path / "store.db"
    with Store(path) as store:
        run = store.create_run(strategy_state={"asked": 0, "told": {}})
    writer = threading.Thread(target=work, args=(path, run))
    writer.start()
    lengths = []
    with Store(path) as reader:
        while writer.is_alive():
            lengths.append(len(reader.trials(run)))
    writer.join()
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 2


def test_two_writers_wait_for_each_other(tmp_path) -> None:
    path = tmp_path / "store.db"
    with Store(path) as store:
        runs = [store.create_run(strategy_state={"asked": 0, "told": {}}) for _ in range(2)]
    writers = [threading.Thread(target=work, args=(path, run)) for run in runs]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    for run in runs:
        check_whole(path, run)
        with Store(path) as store:
            assert store.run(run).status == "completed"


def test_settings_of_sqlite(store) -> None:
    with store._engine.connect() as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert found == ["wal", 2, 1]


# -- migrations ----------------------------------------------------------------------------------------------


def test_tables_equal_what_the_migrations_make(store) -> None:
    with store._engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "version_table": VERSION_TABLE}
        )
        assert compare_metadata(context, Base.metadata) == []


def test_the_newest_revision_is_the_one_the_tables_name() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


FIXTURES = sorted((Path(__file__).parent / "stores").glob("*.sql"))


@pytest.mark.parametrize("dump", FIXTURES, ids=lambda path: path.stem)
def test_a_database_of_each_revision_is_upgraded_and_read(tmp_path, dump) -> None:
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(dump.read_text(encoding="utf-8"))
    connection.close()
    with Store(path) as store:
        (record,) = store.runs()
        assert (record.name, record.status, record.strategy_state) == ("kept", "stopped", {"trials": 2})
        trials = store.trials(record.id)
        assert trials["status"].tolist() == ["completed", "failed"]
        assert trials["score"][0] == 0.75 and math.isnan(trials["score"][1])
        assert store.epochs(record.id)["accuracy"].tolist() == [0.5, 0.75]
        assert len(store.unfinished_trials(record.id)) == 0
        with store._engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "version_table": VERSION_TABLE}
            )
            assert compare_metadata(context, Base.metadata) == []


def test_there_is_a_database_of_each_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    assert {path.stem for path in FIXTURES} == known


def test_a_newer_database_is_refused(tmp_path) -> None:
    path = tmp_path / "store.db"
    Store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    connection.close()
    with pytest.raises(RunError, match=r"newer version of Luthier.*'9999'"):
        Store(path)


def test_a_migration_that_fails_leaves_nothing(tmp_path, monkeypatch) -> None:
    from alembic import op

    path = tmp_path / "store.db"
    original = op.create_table

    def breaks(name, *columns, **more):
        if name == "epochs":
            raise KeyboardInterrupt
        return original(name, *columns, **more)

    monkeypatch.setattr(op, "create_table", breaks)
    with pytest.raises(KeyboardInterrupt):
        Store(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    connection.close()
    monkeypatch.undo()
    Store(path).close()


def test_a_database_that_others_use_too(tmp_path) -> None:
    path = tmp_path / "shared.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('theirs')")
    connection.close()
    with Store(f"sqlite:///{path}") as store:
        assert store.runs() == []


# -- what cannot be used -------------------------------------------------------------------------------------


def test_a_file_that_is_no_database(tmp_path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"these are not the pages of a database" * 100)
    with pytest.raises(RunError, match=r"not a database(.|\n)*damaged"):
        Store(path)


def test_a_damaged_database(tmp_path) -> None:
    path = tmp_path / "store.db"
    with Store(path) as store:
        run = store.create_run()
        for trial in range(20):
            store.start_trial(run, order(trial))
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(RunError), Store(path) as store:
        store.trials(run)


def test_places_that_cannot_be_written(tmp_path, monkeypatch) -> None:
    with pytest.raises(RunError, match="is a folder"):
        Store(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be made"):
        Store(tmp_path / "file" / "store.db")
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(RunError, match="make this one writable"):
            Store(tmp_path / "locked" / "store.db")


def test_a_read_only_database(tmp_path) -> None:
    path = tmp_path / "store.db"
    Store(path).close()
    with (
        Store(f"sqlite:///file:{path}?mode=ro&uri=true") as store,
        pytest.raises(RunError, match="make this one writable"),
    ):
        store.create_run()


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("database or disk is full", "free some space"),
        ("disk I/O error", "resume"),
        ("database is locked", "30 seconds"),
    ],
)
def test_errors_of_the_disk_are_told_plainly_and_leave_what_was_there(store, run, said, advice) -> None:
    store.start_trial(run, order(0))

    def fails(*_):
        raise sqlite3.OperationalError(said)

    sa.event.listen(store._engine, "before_cursor_execute", fails)
    with pytest.raises(RunError) as caught:
        store.report(run, epoch(0, 1))
    sa.event.remove(store._engine, "before_cursor_execute", fails)
    assert said in str(caught.value) and advice in str(caught.value)
    assert len(store.epochs(run)) == 0


def test_a_full_disk(tmp_path) -> None:
    path = tmp_path / "store.db"
    with Store(path) as store:
        run = store.create_run()
        store.start_trial(run, order(0))
        sa.event.listen(
            store._engine, "checkout", lambda connection, *_: connection.execute("PRAGMA max_page_count = 1")
        )
        with pytest.raises(RunError, match=r"disk is full(.|\n)*free some space"):
            for trial in range(1, 100):
                store.start_trial(run, order(trial))
    with Store(path) as store:
        numbers = store.trials(run)["number"].tolist()
        assert numbers == list(range(len(numbers))) and len(numbers) >= 1


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nothing://x", "not a database URL"),
        ("://", "not a database URL"),
        ("postgresql+no_such_driver://me:secret@host/x", "not a database URL|driver"),
    ],
)
def test_urls_that_mean_nothing(url, said) -> None:
    with pytest.raises(SettingError, match=said) as caught:
        Store(url)
    assert "secret" not in str(caught.value)


def test_a_copy_made_while_open_can_be_read(store, run, tmp_path) -> None:
    store.start_trial(run, order(0))
    store.close()
    shutil.copy(store.location, tmp_path / "copy.db")
    with Store(tmp_path / "copy.db") as copy:
        assert copy.trials(run)["number"].tolist() == [0]


def test_opening_again_is_quick_and_loads_no_migrations(store, tmp_path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from luthier.study.store import Store; "
        f"Store({store.location!r}); print('alembic' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    began = time.perf_counter()
    Store(store.location).close()
    assert time.perf_counter() - began < 1


def test_signs_in_a_path_are_part_of_it(tmp_path) -> None:
    path = tmp_path / "what? 50%, #1" / "ä store.db"
    with Store(path) as store:
        store.create_run(name="x")
    assert path.is_file()
    with Store(path) as store:
        assert len(store.runs()) == 1
