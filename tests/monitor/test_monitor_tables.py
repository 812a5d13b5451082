"""The tables of monitoring: what migrations make, beside a study in one database, and newer ones refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from luthier.errors import RunError
from luthier.monitor.records import Records
from luthier.monitor.tables import METADATA, REVISION, SCHEMA, VERSION_TABLE
from luthier.study.store import Store

FIXTURES = sorted((Path(__file__).parent / "stores").glob("*.sql"))


def scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(SCHEMA.migrations))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def differences(records: Records) -> list[object]:
    own = {table.name for table in METADATA.sorted_tables}
    with records.engine.connect() as connection:
        options = {
            "compare_type": True,
            "version_table": VERSION_TABLE,
            "include_name": lambda name, kind, parents: kind != "table" or name in own,
        }
        return compare_metadata(MigrationContext.configure(connection, opts=options), METADATA)


def test_tables_equal_what_the_migrations_make(location) -> None:
    with Records(location) as records:
        assert differences(records) == []


def test_the_newest_revision_is_the_one_the_tables_name() -> None:
    assert scripts().get_heads() == [REVISION]


@pytest.mark.parametrize("dump", FIXTURES, ids=lambda path: path.stem)
def test_a_database_of_each_revision_is_upgraded_and_read(tmp_path, dump) -> None:
    path = tmp_path / "old.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(dump.read_text(encoding="utf-8"))
    connection.close()
    with Records(path) as records:
        assert records.versions("kept") == {"1": 2}
        found = records.latest("kept")
        assert found.ids == ["r0", "r1"] and found.labels == {"r0": "cat"}
        assert [output.shape for output in found.outputs] == [(3,), (3,)]
        assert differences(records) == []


def test_there_is_a_database_of_each_revision() -> None:
    assert {path.stem for path in FIXTURES} == {script.revision for script in scripts().walk_revisions()}


def test_a_study_and_records_may_lie_in_one_database(location) -> None:
    with Store(location) as store, Records(location) as records:
        run = store.create_run(name="both")
        assert store.run(run).name == "both" and records.models() == []
        assert differences(records) == []


def test_a_newer_database_is_refused(tmp_path) -> None:
    path = tmp_path / "records.sqlite"
    Records(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    connection.close()
    with pytest.raises(RunError, match=r"newer version of Luthier.*'9999'"):
        Records(path)
