"""What servers of a deployment have counted, left in files for `luthier deployments`: a file a process."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEPT = 200
"""Files of past processes that stay."""


class Counted:
    """One process's file, replaced whole at each writing.

    Args:
        folder: Of all of them; made where it is not there.
    """

    def __init__(self, folder: Path) -> None:
        host = "".join(letter for letter in socket.gethostname() if letter.isalnum() or letter == "-")[:32]
        self._path = folder / f"{host or 'host'}-{os.getpid()}-{time.time_ns() // 1_000_000}.json"
        self._last: Mapping[str, Any] | None = None

    def write(self, values: Mapping[str, Any]) -> None:
        """Writes what was counted since the start, where it is not what was written last.

        Raises:
            OSError: It cannot be written.
        """
        if values == self._last:
            return
        self._path.parent.mkdir(exist_ok=True)
        if self._last is None:
            _sweep(self._path.parent)
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(values) + "\n", encoding="utf-8")
        partial.replace(self._path)
        self._last = values


def read(folder: Path) -> list[dict[str, Any]]:
    """What each process, running or ended, has written; files that cannot be read are left aside."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(dict(json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError):
            continue
    return found


def _sweep(folder: Path) -> None:
    """Removes the oldest files, so that they do not pile up."""
    names = sorted(folder.iterdir(), key=lambda path: path.name.rpartition("-")[2])
    for path in names[: max(0, len(names) - KEPT)]:
        path.unlink(missing_ok=True)
