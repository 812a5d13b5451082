"""Opens the database behind a store, of studies or of another kind: path or URL to engine, settings of
SQLite, migrations, and errors people understand.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    MetaData,
    Table,
    create_engine,
    event,
    exc,
    inspect,
    make_url,
    select,
)

from luthier.errors import RunError, SettingError
from luthier.study.tables import REVISION, VERSION_TABLE

WRITE = {"luthier_write": True}
"""Execution option of connections that will write."""
_WAIT_SECONDS = 30

# What to do about an error, by a piece of the driver's own message (lower case).
_FULL = "The disk is full: free some space; what was saved before is intact, and the run can be resumed."
_ELSEWHERE = "Choose another place with --store, or make this one writable."
_DAMAGED = "The file is no store, or is damaged: name another, or restore it from a copy."
_HINTS = {
    "disk is full": _FULL,
    "no space left": _FULL,
    "disk i/o error": "The disk failed to read or write: check its space and health, then resume the run.",
    "readonly": _ELSEWHERE,
    "permission": _ELSEWHERE,
    "unable to open": _ELSEWHERE,
    "locked": f"Another process has kept it locked for {_WAIT_SECONDS} seconds: end it, then resume the run.",
    "not a database": _DAMAGED,
    "malformed": _DAMAGED,
}


@dataclass(frozen=True)
class Schema:
    """What a kind of store is made of.

    Attributes:
        revision: The newest migration, which the tables equal.
        version_table: Holds a database's revision.
        migrations: Folder of Alembic's scripts.
        hints: What to do about an error, by a piece of the driver's own message in lower case.
    """

    revision: str
    version_table: str
    migrations: Path
    hints: Mapping[str, str] = field(default_factory=lambda: _HINTS)


STUDY = Schema(REVISION, VERSION_TABLE, Path(__file__).parent / "migrations")


@contextmanager
def plain_errors(where: str, hints: Mapping[str, str] = _HINTS) -> Iterator[None]:
    """Turns a database's own errors into a `RunError` that names the store and says what to do."""
    try:
        yield
    except (exc.OperationalError, exc.InterfaceError, exc.InternalError) as error:
        raise _plain(where, error.orig, hints) from error
    except exc.DatabaseError as error:
        # SQLite raises the bare class for a damaged file; its subclasses, such as a broken constraint, are
        # bugs.
        if type(error) is not exc.DatabaseError:
            raise
        raise _plain(where, error.orig, hints) from error


def _plain(where: str, cause: BaseException | None, hints: Mapping[str, str]) -> RunError:
    said = " ".join(str(cause).split())
    hint = next((hint for piece, hint in hints.items() if piece in said.lower()), None)
    return RunError(f"The store {where!r} cannot be used: {said}.", hint)


def connect(location: str | Path, schema: Schema = STUDY) -> tuple[Engine, str]:
    """Opens a store's database, upgraded to the schema's revision.

    Args:
        location: Path of a SQLite file, made (with its folder) if absent; or an SQLAlchemy URL.
        schema: The kind of store.

    Returns:
        The engine, and the location as it can be shown: without a password.

    Raises:
        RunError: It cannot be opened or written, is damaged, or was written by a newer version.
        SettingError: The URL is not one, or its driver is not installed.
    """
    engine, where = make_engine(location)
    try:
        with plain_errors(where, schema.hints):
            upgrade(engine, where, schema)
    except BaseException:
        engine.dispose()
        raise
    return engine, where


def make_engine(location: str | Path) -> tuple[Engine, str]:
    """The engine and the name to show of `connect`; nothing is opened yet.

    Raises:
        RunError: The folder of a SQLite file cannot be made.
        SettingError: The URL is not one, or its driver is not installed.
    """
    url, where = _url(location)
    try:
        engine = create_engine(url, **({} if url.get_backend_name() == "sqlite" else {"pool_pre_ping": True}))
    except ModuleNotFoundError as error:
        raise SettingError(
            f"The store {where!r} needs the driver {error.name!r}, which is not installed.",
            "Install it with pip.",
        ) from None
    except exc.ArgumentError as error:
        raise SettingError(f"The store {where!r} is not a database URL: {error}") from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine, where


def _url(location: str | Path) -> tuple[URL, str]:
    text = str(location)
    if "://" in text:
        try:
            url = make_url(text)
            return url, url.render_as_string(hide_password=True)
        except (exc.ArgumentError, ValueError):
            raise SettingError(f"The store {text.split('@')[-1]!r} is not a database URL.") from None
    path = Path(location).expanduser()
    if path.is_dir():
        raise RunError(
            f"The store {text!r} is a folder.", "Name a file, for example store.db in that folder."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"The folder of the store {text!r} cannot be made: {error.strerror}.") from None
    return URL.create("sqlite", database=str(path)), text


def _prepare_sqlite(connection: sqlite3.Connection, _: Any) -> None:
    """Settings of each new SQLite connection.

    WAL lets others read while a run writes. A killed process loses nothing at either level of
    ``synchronous``; FULL is for the power cut, in which NORMAL may lose the last transactions: one fsync an
    epoch, milliseconds beside seconds of training.
    """
    # The driver's own transactions leave DDL out; SQLAlchemy's documentation has us say BEGIN ourselves.
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout = {1000 * _WAIT_SECONDS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    """Writers take the lock at once: one that reads first and writes later would fail, not wait, behind
    another.
    """
    writes = connection.get_execution_options().get("luthier_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def revision_of(connection: Connection, version_table: str = VERSION_TABLE) -> str | None:
    """The revision of a database, None for an empty one."""
    if not inspect(connection).has_table(version_table):
        return None
    table = Table(version_table, MetaData(), autoload_with=connection)
    return connection.execute(select(table.c.version_num)).scalar()


def upgrade(engine: Engine, where: str, schema: Schema = STUDY) -> None:
    """Brings the database to the schema's revision in one transaction; Alembic is loaded only where something
    is to be done.
    """
    with engine.connect() as connection:
        if revision_of(connection, schema.version_table) == schema.revision:
            return
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(schema.migrations).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    with engine.connect().execution_options(**WRITE) as connection, connection.begin():
        found = revision_of(connection, schema.version_table)
        if found is not None and found not in known:
            raise RunError(
                f"The store {where!r} was written by a newer version of Luthier: its revision is {found!r}, "
                f"the newest known here {schema.revision!r}.",
                "Upgrade Luthier, or name another store.",
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
