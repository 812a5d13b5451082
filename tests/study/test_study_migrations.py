"""Databases of every revision are upgraded to the tables of today, or refused."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from luthier.errors import RunError
from luthier.study import database
from luthier.study.store import Store
from luthier.study.tables import REVISION, VERSION_TABLE, Base

FIXTURES = sorted((Path(__file__).parent / "stores").glob("*.sql"))


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
