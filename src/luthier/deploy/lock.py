"""A lock on a file, which the system takes back from a process that dies."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from luthier.errors import RunError, SettingError

EVERY = 0.02
"""Seconds between two attempts."""


@contextlib.contextmanager
def locked(path: Path, *, seconds: float, what: str) -> Iterator[None]:
    """Holds a file's lock for the block, against other processes and other threads.

    Args:
        path: Is made where it is not there, and stays.
        seconds: How long to wait for whoever has it.
        what: What it guards, for the message.

    Raises:
        RunError: Somebody else still had it after ``seconds``.
        SettingError: The system has no such locks.
    """
    if sys.platform == "win32":
        raise SettingError("Deployments need the file locks of a POSIX system.", "Use Linux, macOS or WSL.")
    import fcntl

    until = time.monotonic() + seconds
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise RunError(
                        f"{what} is being changed by another process, and has been for {seconds:g} seconds.",
                        f"Wait, or look who has '{path}' open.",
                    ) from None
                time.sleep(EVERY)
        yield
