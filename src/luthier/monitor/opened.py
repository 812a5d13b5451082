"""A database of monitoring, opened: its transactions, and errors people understand. What is in it lives in
`records` and `history`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import Connection

from luthier.errors import RunError
from luthier.monitor.tables import SCHEMA
from luthier.study.database import WRITE, connect, plain_errors


class Opened:
    """One database, upgraded to the tables of today. Not to be shared between threads.

    Args:
        location: Path of a SQLite file (made, with its folder, if absent), or an SQLAlchemy URL.
        exists: Whether it must be there already.

    Attributes:
        location: As it can be shown: without a password.

    Raises:
        RunError: From here and from every method: the database cannot be read or written, is damaged, or is
            newer than this version; or there is none, where one must be.
        SettingError: The URL is not one, or its driver is not installed.
    """

    def __init__(self, location: str | Path, *, exists: bool = False) -> None:
        if exists and "://" not in str(location) and not Path(location).expanduser().is_file():
            raise RunError(
                f"There are no records at {str(location)!r}.",
                "They are kept by: luthier serve ... --record PATH. Name the same place with --url.",
            )
        _make_private(location)
        self.engine, self.location = connect(location, SCHEMA)

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction: when the block ends, it is on disk; when it raises, nothing of it is."""
        with (
            plain_errors(self.location, SCHEMA.hints),
            self.engine.connect().execution_options(**WRITE) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to read with."""
        with plain_errors(self.location, SCHEMA.hints), self.engine.connect() as connection:
            yield connection


def _make_private(location: str | Path) -> None:
    """Makes a new SQLite file that its owner alone can read: inputs may be in it.

    SQLite gives the files that it puts beside it the same rights.
    """
    path = Path(location).expanduser()
    if "://" in str(location) or path.exists():
        return
    # What is wrong with the place is said where it is opened.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
