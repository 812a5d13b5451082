"""Opening a store: where it may lie, how it is set, and what is said when it cannot be used."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time

import pytest
import sqlalchemy as sa
from study_reports import epoch, order

from luthier.errors import RunError, SettingError
from luthier.study.store import Store


def test_settings_of_sqlite(store) -> None:
    with store._engine.connect() as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert found == ["wal", 2, 1]


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
