"""Several worker processes behind one port: started, watched, restarted, and stopped together.

Each listens at the port with a socket of its own, and the system shares connections out among them. One that
dies takes its own open connections with it and nothing else. One of the first listens at once, all others
once they can answer.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from luthier.deploy.serve.server import log_to_stderr, run
from luthier.deploy.serve.settings import METRICS_FOLDER, ServeSettings
from luthier.errors import LuthierError, RunError

log = logging.getLogger("luthier.serve")

SHORTEST, LONGEST = 0.5, 30.0
"""Seconds until a worker that died is restarted: twice as many each time, as long as it dies young."""
YOUNG = 60.0
"""Seconds a worker lives for its death to count as the first again."""
SLACK = 10.0
"""Seconds beyond the draining after which a worker that does not end is killed."""


@dataclass
class Worker:
    """A process and what is known of it."""

    process: Any
    said: Connection
    started: float
    deaths: int = 0


class Supervisor:
    """Keeps so many workers running as the settings say.

    Args:
        settings: Checked.
        port: Where they listen.
    """

    def __init__(self, settings: ServeSettings, port: int) -> None:
        self._settings, self._port = settings, port
        self._context = multiprocessing.get_context("spawn")
        # Nothing is ever written: its end at the workers closes when this process is gone, however it went.
        self._lifeline, self._held = self._context.Pipe(duplex=False)
        self._workers: dict[int, Worker] = {}
        self._due: dict[int, tuple[float, int]] = {}

    def run(self, wakeup: socket.socket) -> int:
        """Until a signal says stop; gives the exit code.

        Args:
            wakeup: Readable once there was a signal.

        Raises:
            LuthierError: The first workers cannot load the model.
        """
        for slot in range(self._settings.workers):
            # One tells who asks meanwhile that the model is loading; more of them would go on saying so
            # while others answer.
            self._start(slot, deaths=0, listening=slot == 0)
        try:
            while True:
                sentinels = {worker.process.sentinel: slot for slot, worker in self._workers.items()}
                for ready in wait([wakeup, *sentinels], self._patience()):
                    if ready is wakeup:
                        return 0
                    self._died(sentinels[int(ready)])  # type: ignore[arg-type]
                self._restart()
        finally:
            self._stop()

    def _start(self, slot: int, *, deaths: int, listening: bool = False) -> None:
        receiving, sending = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=work,
            args=(self._settings, self._port, self._lifeline, sending, listening),
            name=f"luthier-worker-{slot}",
        )
        process.start()
        sending.close()
        self._workers[slot] = Worker(process, receiving, time.monotonic(), deaths)

    def _patience(self) -> float | None:
        if not self._due:
            return None
        return max(0.0, min(when for when, _ in self._due.values()) - time.monotonic())

    def _restart(self) -> None:
        now = time.monotonic()
        for slot in [slot for slot, (when, _) in self._due.items() if when <= now]:
            _, deaths = self._due.pop(slot)
            self._start(slot, deaths=deaths)

    def _died(self, slot: int) -> None:
        """Has a worker restarted after a while.

        Raises:
            RunError: One of the first could not load the model, and said why.
        """
        worker = self._workers.pop(slot)
        worker.process.join()
        told = _told(worker.said)
        if isinstance(told, tuple):
            if not worker.deaths:
                raise RunError(*told)
            log.error("worker %d cannot load the model: %s", slot, told[0])
        deaths = 1 if time.monotonic() - worker.started > YOUNG else worker.deaths + 1
        after = min(LONGEST, SHORTEST * 2 ** (deaths - 1))
        log.error(
            "worker %d (process %d) ended with %s; restarted in %g s",
            slot, worker.process.pid, worker.process.exitcode, after,
        )  # fmt: skip
        self._due[slot] = (time.monotonic() + after, deaths)

    def _stop(self) -> None:
        for worker in self._workers.values():
            worker.process.terminate()
        deadline = time.monotonic() + self._settings.drain + SLACK
        for worker in self._workers.values():
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def supervise(settings: ServeSettings, port: int) -> int:
    """Serves with several workers until SIGTERM or SIGINT; gives the exit code.

    Raises:
        LuthierError: They cannot load the model.
    """
    log_to_stderr()
    with _metrics_folder(), _signals() as wakeup:
        return Supervisor(settings, port).run(wakeup)


def work(settings: ServeSettings, port: int, lifeline: Connection, said: Connection, listening: bool) -> None:
    """A worker's whole life. But for one of the first, it listens only once it can answer."""
    place = settings.listen(port) if listening else None
    try:
        code = run(settings, place, port=port, lifeline=lifeline, loaded=lambda: said.send("loaded"))
    except LuthierError as error:
        said.send((error.message, error.hint))
        code = error.exit_code
    raise SystemExit(code)


def _told(said: Connection) -> Any:
    """The last thing that a worker said."""
    last = None
    try:
        while said.poll():
            last = said.recv()
    except (EOFError, OSError):
        pass
    said.close()
    return last


@contextmanager
def _metrics_folder() -> Iterator[None]:
    """A folder in which all workers keep their metrics, so that any of them can tell those of all."""
    folder = tempfile.mkdtemp(prefix="luthier-metrics-")
    os.environ[METRICS_FOLDER] = folder
    try:
        yield
    finally:
        del os.environ[METRICS_FOLDER]
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket that can be read once there was SIGTERM or SIGINT."""
    reading, writing = socket.socketpair()
    reading.setblocking(False)
    writing.setblocking(False)
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    fd = signal.set_wakeup_fd(writing.fileno())
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        reading.close()
        writing.close()
