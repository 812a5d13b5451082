"""Runs the server in one process: opens what answers, listens, and ends in good order.

Several processes that share a port live in `workers`. Nothing heavy is imported before the settings were
found to be right.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from luthier.deploy.serve.base import Answers
from luthier.deploy.serve.opening import find
from luthier.deploy.serve.settings import ServeSettings
from luthier.engine.allocator import keep_memory
from luthier.errors import MissingExtra

if TYPE_CHECKING:
    from luthier.deploy.serve.metrics import Metrics
    from luthier.deploy.serve.recording import Recording
    from luthier.deploy.serve.service import Service

log = logging.getLogger("luthier.serve")

PACKAGES = ("httptools", "prometheus_client", "python_multipart", "uvicorn")
IDLE = 30
"""Seconds after which a connection without requests is closed."""


class Opened(Answers, Protocol):
    """Answers that first have to be loaded."""

    async def ready(self) -> None:
        """Returns once they can be asked; raises LuthierError where they cannot be loaded."""
        ...


def serve(settings: ServeSettings) -> int:
    """Serves until it is told to stop by SIGTERM or SIGINT; gives the exit code.

    Raises:
        SettingError: A setting is wrong, or the port in use.
        LuthierError: There is no model, or it cannot be loaded.
        MissingExtra: The packages for serving are not installed.
    """
    require()
    settings.check()
    deployment = settings.deployment
    if deployment is None:
        find(settings.place, settings.backend)
    else:
        _ = deployment.state
    place = settings.reserve()
    try:
        if settings.workers > 1:
            from luthier.deploy.serve.workers import supervise

            return supervise(settings, place.getsockname()[1])
        return run(settings, place)
    finally:
        place.close()


def require() -> None:
    """Raises MissingExtra where a package for serving is not installed."""
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        raise MissingExtra(f"luthier serve ({', '.join(absent)})", "serve")


def open_answers(settings: ServeSettings, metrics: Metrics, recording: Recording | None = None) -> Opened:
    """What answers, by the settings; not yet loaded.

    Args:
        settings: Checked.
        metrics: Are told how it goes.
        recording: Of observations; closed by the caller.

    Raises:
        LuthierError: There is nothing at the place that could be served.
    """
    deployment = settings.deployment
    if deployment is None:
        return open_version(settings, metrics, recording, settings.place, "1")
    from luthier.deploy.serve.probation import Limits, RolloutSettings
    from luthier.deploy.serve.rollout import Rollout
    from luthier.deploy.serve.rollout_metrics import RolloutMeter

    answers = Rollout(
        deployment,
        partial(open_version, settings, metrics, recording),
        settings=RolloutSettings(
            limits=Limits(settings.probation, settings.probation_errors, settings.probation_slower)
        ),
        meter=RolloutMeter(metrics),
        alarms=None if recording is None else recording.alarms,
    )
    metrics.add(answers.gauges)
    return answers


def open_version(
    settings: ServeSettings, metrics: Metrics, recording: Recording | None, place: str | Path, version: str
) -> Service:
    """One version of a model, by the settings; not yet loaded.

    Raises:
        LuthierError: There is nothing at the place that could be served.
    """
    from luthier.deploy.serve.opening import open_backend
    from luthier.deploy.serve.service import Service

    candidates = find(place, settings.backend)
    return Service(
        lambda: open_backend(candidates, threads=settings.share, device=settings.device),
        name=settings.model_name,
        version=version,
        rows=settings.max_batch,
        limit=settings.queue,
        observer=metrics.of(version),
        recorder=None if recording is None else recording.recorder,
        keep_inputs=settings.keep_inputs,
    )


def run(
    settings: ServeSettings,
    place: socket.socket | None,
    *,
    port: int | None = None,
    lifeline: Any = None,
    loaded: Callable[[], None] | None = None,
) -> int:
    """Serves in this process until it is told to stop; gives the exit code.

    Args:
        settings: Checked.
        place: Listens; None: the worker listens at ``port`` once the model is loaded.
        port: See there.
        lifeline: A pipe whose other end is the supervisor's; its end means stopping.
        loaded: Called once the model can be asked.

    Raises:
        LuthierError: The model cannot be loaded.
    """
    log_to_stderr()
    # Before there is another thread, which would have memory of its own.
    keep_memory()
    # Its threads would wake for a few short texts, and take the cores from the network's.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_main(settings, place, port, lifeline, loaded))


async def _main(
    settings: ServeSettings,
    place: socket.socket | None,
    port: int | None,
    lifeline: Any,
    loaded: Callable[[], None] | None,
) -> int:
    from luthier.deploy.serve.app import App
    from luthier.deploy.serve.guard import Guard, read_tokens
    from luthier.deploy.serve.metrics import Metrics
    from luthier.deploy.serve.recording import open_recording

    metrics = Metrics()
    recording = None if settings.record is None else open_recording(settings, metrics)
    answers = open_answers(settings, metrics, recording)
    tokens = read_tokens(settings.token_file) if settings.token_file else ()
    guard = Guard(tokens, {*settings.allow_hosts, settings.host})
    app = App(answers, guard=guard, metrics=metrics, timeout=settings.timeout, log_access=settings.access_log)
    server = make_server(app, settings.connections, settings.drain)
    stop = _stop_event(lifeline)
    serving = [] if place is None else [asyncio.ensure_future(server.serve(sockets=[place]))]
    loading, stopping = asyncio.ensure_future(answers.ready()), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([loading, stopping, *serving], return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            await loading
            if place is None:
                assert port is not None
                serving.append(asyncio.ensure_future(server.serve(sockets=[settings.listen(port)])))
            _announce(settings, answers, place, port)
            if loaded is not None:
                loaded()
            await asyncio.wait([stopping, *serving], return_when=asyncio.FIRST_COMPLETED)
        left = await _drain(answers, settings.drain)
        server.config.timeout_graceful_shutdown = max(1, round(left))
    finally:
        loading.cancel()
        stopping.cancel()
        server.stop()
        await asyncio.gather(*serving, return_exceptions=True)
        if recording is not None:
            await asyncio.to_thread(recording.close)
    return 0


async def _drain(answers: Answers, seconds: float) -> float:
    """Has the accepted requests answered, for so long, and gives the seconds that are left of it;
    `/v2/health/ready` says 503 meanwhile."""
    begun = time.monotonic()
    log.info("stopping: accepted requests are finished first, for up to %g s", seconds)
    try:
        await asyncio.wait_for(answers.close(), seconds)
    except TimeoutError:
        log.warning("stopping with requests unanswered: they took longer than %g s", seconds)
    return max(0.0, begun + seconds - time.monotonic())


def make_server(app: Any, connections: int, drain: float) -> Any:
    """A uvicorn server that sleeps while there is nothing to do, and leaves signals to others.

    Args:
        app: ASGI.
        connections: At a time at most.
        drain: Seconds in which open responses are finished once it is told to stop.
    """
    import uvicorn

    from luthier.deploy.serve.connections import bounded

    class Server(uvicorn.Server):
        """Has `stop`, in place of a clock that looks ten times a second whether it is to stop."""

        def __init__(self, config: uvicorn.Config) -> None:
            super().__init__(config)
            self._stopped = asyncio.Event()

        def stop(self) -> None:
            """Takes no more connections and ends once the open responses are sent."""
            self.should_exit = True
            self._stopped.set()

        async def main_loop(self) -> None:
            """Waits."""
            await self._stopped.wait()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Leaves them alone: uvicorn would end the process by the signal, not with exit code 0."""
            yield

    config = uvicorn.Config(
        app, http=bounded(connections), ws="none", lifespan="off", log_config=None, access_log=False,
        server_header=False, date_header=False, proxy_headers=False, timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=max(1, round(drain)),
    )  # fmt: skip
    return Server(config)


def _stop_event(lifeline: Any) -> asyncio.Event:
    """Set by SIGTERM, SIGINT, or the supervisor's end. A second signal ends the process at once."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def stopping(number: int) -> None:
        if stop.is_set():
            sys.stderr.flush()
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stopping, number)
        except (NotImplementedError, RuntimeError, ValueError):
            # No signals on Windows' loops or outside of the main thread: there it ends with its process.
            break
    if lifeline is not None:

        def ended() -> None:
            loop.remove_reader(lifeline.fileno())
            stop.set()

        loop.add_reader(lifeline.fileno(), ended)
    return stop


def _announce(
    settings: ServeSettings, answers: Answers, place: socket.socket | None, port: int | None
) -> None:
    about = answers.metadata
    at = place.getsockname()[1] if place is not None else port
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    log.info(
        "serving %s (%s, %s, threads: %d) at http://%s:%d, page: /docs",
        about["name"], about.get("task"), about.get("backend"), settings.share, host, at,
    )  # fmt: skip


def log_to_stderr() -> None:
    """Sends what the server has to say to standard error, and uvicorn's own chatter nowhere."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name, level in (
        ("luthier.serve", logging.INFO),
        ("luthier.monitor", logging.INFO),
        ("luthier.access", logging.INFO),
        ("uvicorn", logging.CRITICAL),
    ):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.handlers[:] = [handler]
        logger.propagate = False


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if importlib.util.find_spec("uvloop") is None:
        return None
    import uvloop

    return uvloop.new_event_loop
