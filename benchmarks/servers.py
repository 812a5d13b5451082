"""Servers as processes: started on a free port, paused while others have their turn, watched and ended. What
they are asked is not said here."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import psutil

PATIENCE = 180.0
"""Seconds until a server must answer: reading libraries and a model, on a busy machine."""
GRACE = 15.0
"""Seconds a server has to end by itself."""
LUTHIER = [sys.executable, "-m", "luthier.cli.main", "serve"]


class Unserved(Exception):
    """A server that did not come up, or ended; with the end of what it printed."""


@dataclass(frozen=True)
class Side:
    """One of the servers that are compared.

    Attributes:
        name: Short.
        title: For people.
        command: Runs it, given a port.
        answer: The answer to the one input of a request, out of a response's body.
        outside: Runs with its own packages only, not with those that ours may be told of.
    """

    name: str
    title: str
    command: Callable[[int], Sequence[str]]
    answer: Callable[[Any], dict[str, Any]] = lambda body: body
    outside: bool = True


class Server:
    """A running server and its children; a context manager that ends it.

    Args:
        command: Runs it, given a port.
        log: Where what it prints goes.
        outside: As in `Side`.
        path: What is asked to see whether it is ready.
        body: What it is asked there: a JSON value, or None for a GET.

    Raises:
        Unserved: It did not answer in time.
    """

    def __init__(
        self, command: Callable[[int], Sequence[str]], log: Path, *, outside: bool = False,
        path: str = "/predict", body: Any = None,
    ) -> None:  # fmt: skip
        self.port = free_port()
        self.log = log
        self._out: IO[bytes] = log.open("wb")
        env = {name: value for name, value in os.environ.items() if not outside or name != "PYTHONPATH"}
        # A session of its own, so that all its processes can be stopped together.
        self.process = subprocess.Popen(
            list(command(self.port)), stdout=self._out, stderr=subprocess.STDOUT, start_new_session=True,
            env=env | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        )  # fmt: skip
        try:
            self._wait(path, body)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of one request on a connection of its own; a ``body`` goes as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            content = None if body is None else json.dumps(body)
            kind = {} if content is None else {"Content-Type": "application/json"}
            connection.request(method, path, content, kind | (headers or {}))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def tree(self) -> list[psutil.Process]:
        """Its processes."""
        try:
            top = psutil.Process(self.process.pid)
            return [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def pause(self) -> None:
        """Takes its processes off the processor: some poll while they have nothing to do."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it run again."""
        os.killpg(self.process.pid, signal.SIGCONT)

    def cpu(self) -> float:
        """Processor seconds of all its processes so far."""
        return sum(times.user + times.system for each in self.tree() if (times := each.cpu_times()))

    def memory(self) -> int:
        """Resident bytes of all its processes."""
        return sum(each.memory_info().rss for each in self.tree())

    def printed(self) -> str:
        """What it printed."""
        return self.log.read_text(errors="replace")

    def stop(self, kind: int = signal.SIGTERM) -> int:
        """Ends it and all its processes; its exit code."""
        if self.process.poll() is None:
            self.resume()
            self.process.send_signal(kind)
        try:
            code = self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._out.close()
        return code

    def _wait(self, path: str, body: Any) -> None:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask("GET" if body is None else "POST", path, body)[0] == 200:
                    return
            time.sleep(0.1)
        self._out.flush()
        raise Unserved(f"It does not answer on port {self.port}:\n{self.printed()[-2000:]}")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
