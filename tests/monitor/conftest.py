from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:] + [
    Path(found).parent for found in [shutil.which("pg_ctl")] if found
]


class Cluster:
    """A PostgreSQL server of its own in a folder, reached through a socket there, which can be stopped."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder, self.binaries = folder, binaries
        # The server refuses to run as root.
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            shutil.chown(folder, self.user)
        self._run("initdb", "-D", folder / "data", "-U", "tester", "--auth=trust", "--no-sync")
        self.start()

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses= -c fsync=off"
        self._run(
            "pg_ctl",
            "-D",
            self.folder / "data",
            "-w",
            "-t",
            120,
            "-o",
            options,
            "-l",
            self.folder / "log",
            "start",
        )

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self.folder / "data", "-w", "-m", "immediate", "stop")

    def database(self, name: str) -> str:
        """The URL of a new, empty place: a schema, since a database of its own takes 7 MB."""
        engine = create_engine(self._url())
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {name}"))
        engine.dispose()
        return f"{self._url()}&options=-csearch_path%3D{name}"

    def _url(self) -> str:
        return f"postgresql+psycopg://tester@/postgres?host={self.folder}&connect_timeout=5"

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self.binaries / program), *map(str, arguments)]
        subprocess.run(
            command, check=True, user=self.user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if not BINARIES:
        pytest.skip("no pg_ctl on this machine")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    # Not below pytest's own folder, which another user may not enter; and a socket's path must be short.
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="luthier-pg-"))
    try:
        made = Cluster(folder, BINARIES[0])
    except (subprocess.CalledProcessError, LookupError, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"PostgreSQL does not start here: {error}")
    yield made
    made.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where records may lie: a new SQLite file, a new schema in PostgreSQL."""
    if request.param == "sqlite":
        return str(tmp_path / "records.sqlite")
    name = "t" + "".join(filter(str.isalnum, request.node.name.lower()))[:50]
    return request.getfixturevalue("cluster").database(name)
