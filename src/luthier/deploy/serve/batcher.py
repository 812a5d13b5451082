"""`Batcher`: inputs of many requests, gathered into batches of like length and computed by one thread.

There is no waiting for a batch to fill: an input that finds the thread idle is computed at once, and while it
is, the next ones gather. What is computed lives in `backend`.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from luthier.deploy.serve.backend import Backend, Computed, Encoded
from luthier.deploy.serve.base import Refused, State
from luthier.deploy.serve.gathering import among, choose
from luthier.deploy.serve.opening import made_inputs

log = logging.getLogger("luthier.serve")

GATHERED = 2
"""Times the largest batch that is encoded ahead."""
BUSY = 1.0
"""Seconds after which a client that met a full queue is told to ask again, where nothing better is known."""

SPARE = 64.0
"""See `choose`; where it cannot be measured."""

Answered = Callable[[Backend, "list[Entry]", Computed, "list[dict[str, Any]]"], None]


class Request:
    """The inputs of one request that are being answered; changed on the event loop alone.

    Attributes:
        found: An answer or a reason for each input.
        left: Inputs without one.
        done: Set when there are none left.
        deadline: `time.monotonic` seconds, or None.
        dropped: Nobody wants the answers any more. Read by the computing thread.
    """

    __slots__ = ("deadline", "done", "dropped", "found", "left")

    def __init__(self, count: int, deadline: float | None, done: asyncio.Future[None]) -> None:
        self.found: list[Any] = [None] * count
        self.left = count
        self.deadline = deadline
        self.done = done
        self.dropped = False


class Entry:
    """One input on its way.

    Attributes:
        id: The answer's.
        given: The input.
        request: Whose it is.
        place: Its place there.
        arrived: `time.perf_counter` seconds.
        taken: The same, when the computing thread met it.
        encoded: Once it is.
    """

    __slots__ = ("arrived", "encoded", "given", "id", "place", "request", "taken")
    encoded: Encoded

    def __init__(self, name: str, given: Any, request: Request, place: int, arrived: float) -> None:
        self.id = name
        self.given = given
        self.request = request
        self.place = place
        self.arrived = arrived
        self.taken = arrived


class Observer:
    """Is told how long things took; all methods return at once and may be called from any thread."""

    def queued(self, seconds: float) -> None:
        """From arrival until the computing thread took an input."""

    def gathered(self, seconds: float) -> None:
        """From then until its batch began: encoding, and waiting for its turn."""

    def computed(self, seconds: float, rows: int) -> None:
        """A batch took so long."""


class Batcher:
    """Answers inputs in batches.

    Args:
        open_backend: Loads the model; called in the computing thread.
        rows: Inputs a batch at most.
        limit: Inputs that are accepted and not yet answered at most.
        answered: Told of each answered batch after its answers were sent, in the computing thread.
        features: Whether `answered` wants what the head read.
        observer: Of times.
    """

    def __init__(
        self,
        open_backend: Callable[[], Backend],
        *,
        rows: int = 32,
        limit: int = 1024,
        answered: Answered | None = None,
        features: bool = False,
        observer: Observer | None = None,
    ) -> None:
        self.state: State = "loading"
        self.backend: Backend | None = None
        self.accepted = 0
        self._open = open_backend
        self._rows, self._limit = rows, limit
        self._answered, self._features = answered, features
        self._observer = observer or Observer()
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self.example: dict[str, Any] = {}
        self._spare = SPARE
        self._pace = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: asyncio.Future[None] | None = None
        self._empty: asyncio.Event = asyncio.Event()
        self._empty.set()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="luthier-compute", daemon=True)

    # -- on the event loop -----------------------------------------------------------------------------------

    async def ready(self) -> None:
        """Loads the model and warms it up, and returns once it can be asked.

        Raises:
            LuthierError: It cannot be loaded.
        """
        if self._ready is None:
            self._loop = asyncio.get_running_loop()
            self._ready = self._loop.create_future()
            self._thread.start()
        await asyncio.shield(self._ready)

    def refusal(self, count: int) -> Refused | None:
        """Why a request of so many inputs cannot be accepted now; None if it can."""
        if self.state != "ready":
            said = {"loading": "The model is being loaded.", "draining": "The server is about to stop."}
            return Refused(503, self.state, said.get(self.state, "The model could not be loaded."), BUSY)
        if count > self._limit:
            return Refused(
                413, "too_many", f"The request has {count} inputs; the queue holds {self._limit} at most."
            )
        if self.accepted + count > self._limit:
            after = max(BUSY, round(self._pace * self.accepted, 1))
            return Refused(429, "queue_full", "The queue is full. Ask again later.", after)
        return None

    async def answer(
        self, inputs: Sequence[Any], names: Sequence[str], deadline: float | None = None
    ) -> list[dict[str, Any] | Refused]:
        """A decoded answer or a reason for each input.

        Args:
            inputs: At least one.
            names: Of their answers.
            deadline: `time.monotonic` seconds after which no answer is wanted.

        Raises:
            Refused: The request as a whole; see `refusal`.
        """
        refused = self.refusal(len(inputs))
        if refused is not None:
            raise refused
        loop = asyncio.get_running_loop()
        request = Request(len(inputs), deadline, loop.create_future())
        now = time.perf_counter()
        self.accepted += len(inputs)
        self._empty.clear()
        for place, (given, name) in enumerate(zip(inputs, names, strict=True)):
            self._queue.put(Entry(name, given, request, place, now))
        timer = None
        if deadline is not None:
            timer = loop.call_later(max(0.0, deadline - time.monotonic()), self._expire, request)
        try:
            await request.done
        finally:
            # A client that left cancels this: what was not yet computed need not be.
            request.dropped = True
            if timer is not None:
                timer.cancel()
        return request.found

    async def close(self) -> None:
        """Refuses new inputs, answers the accepted ones, and ends the thread."""
        if self.state in ("loading", "ready"):
            self.state = "draining"
        if self._ready is None:
            return
        await self._empty.wait()
        self._queue.put(None)
        # Not by joining the thread: where a batch takes longer than whoever waits here does, the process must
        # be able to end without it.
        await self._ended.wait()
        self.backend = None

    def _expire(self, request: Request) -> None:
        if request.done.done():
            return
        request.dropped = True
        for place, found in enumerate(request.found):
            if found is None:
                request.found[place] = _late()
        request.done.set_result(None)

    def _deliver(self, found: list[tuple[Entry, Any]]) -> None:
        self.accepted -= len(found)
        for entry, answer in found:
            request = entry.request
            if request.done.done():
                continue
            request.found[entry.place] = answer
            request.left -= 1
            if not request.left:
                request.done.set_result(None)
        if not self.accepted:
            self._empty.set()

    def _opened(self, backend: Backend | None, error: BaseException | None) -> None:
        assert self._ready is not None
        if backend is None:
            self.state = "failed"
            assert error is not None
            self._ready.set_exception(error)
            # Nobody need be waiting; the state says it, too.
            self._ready.exception()
            return
        self.backend = backend
        if self.state == "loading":
            self.state = "ready"
        self._ready.set_result(None)

    # -- in the computing thread -----------------------------------------------------------------------------

    def _send(self, function: Callable[..., None], *arguments: Any) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            # The loop has ended, and with it everybody who could be told.
            log.debug("answers after the end of the loop")

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._send(self._ended.set)

    def _work(self) -> None:
        try:
            backend = self._open()
            self._spare, self.example = warm_up(backend)
        except BaseException as error:
            self._send(self._opened, None, error)
            return
        self._send(self._opened, backend, None)
        waiting: list[Entry] = []
        while self._take(waiting):
            try:
                self._step(backend, waiting)
            except Exception:
                # One batch's failure is told its clients; the thread must outlive it.
                log.exception("a batch failed")
                failed = Refused(500, "failed", "Computing the answer failed.")
                self._send(self._deliver, [(entry, failed) for entry in waiting])
                waiting.clear()

    def _take(self, waiting: list[Entry]) -> bool:
        """Adds what has come, waiting for it if there is nothing else to do; False at the end."""
        while len(waiting) < GATHERED * self._rows:
            try:
                entry = self._queue.get(block=not waiting)
            except queue.Empty:
                break
            if entry is None:
                return False  # Put there when all that was accepted is answered.
            waiting.append(entry)
        return True

    def _step(self, backend: Backend, waiting: list[Entry]) -> None:
        """Encodes what is new, and computes one batch of what waits."""
        self._drop(waiting)
        self._encode(backend, waiting)
        if not waiting:
            return
        lengths = [entry.encoded.length for entry in waiting[: among(len(waiting))]]
        places = choose(lengths, self._rows, backend.tokens, self._spare)
        chosen = [waiting[place] for place in places]
        start = time.perf_counter()
        try:
            computed = backend.compute([entry.encoded for entry in chosen], features=self._features)
            answers = backend.decode(computed.outputs, [entry.given for entry in chosen])
            sound = [bool(np.isfinite(output).all()) for output in computed.outputs]
        except Exception as error:
            log.error("a batch of %d failed: %s", len(chosen), type(error).__name__, exc_info=True)
            failed = Refused(500, "failed", "Computing the answer failed.")
            self._finish(waiting, places, [(entry, failed) for entry in chosen])
            return
        seconds = time.perf_counter() - start
        broken = Refused(500, "failed", "The model's answer to this input is no number.")
        found = [
            (entry, answer if fine else broken)
            for entry, answer, fine in zip(chosen, answers, sound, strict=True)
        ]
        self._finish(waiting, places, found)
        self._pace = 0.8 * self._pace + 0.2 * seconds / len(chosen)
        self._observer.computed(seconds, len(chosen))
        for entry in chosen:
            self._observer.queued(entry.taken - entry.arrived)
            self._observer.gathered(start - entry.taken)
        if self._answered is not None and all(sound):
            self._answered(backend, chosen, computed, answers)

    def _finish(self, waiting: list[Entry], places: list[int], found: list[tuple[Entry, Any]]) -> None:
        gone = set(places)
        waiting[:] = [entry for place, entry in enumerate(waiting) if place not in gone]
        self._send(self._deliver, found)

    def _drop(self, waiting: list[Entry]) -> None:
        """Lets go of inputs that nobody waits for."""
        now = time.monotonic()
        gone = [
            entry
            for entry in waiting
            if entry.request.dropped or (entry.request.deadline is not None and entry.request.deadline <= now)
        ]
        if gone:
            self._send(self._deliver, [(entry, _late()) for entry in gone])
            lost = set(map(id, gone))
            waiting[:] = [entry for entry in waiting if id(entry) not in lost]

    def _encode(self, backend: Backend, waiting: list[Entry]) -> None:
        new = [entry for entry in waiting if not hasattr(entry, "encoded")]
        if not new:
            return
        now = time.perf_counter()
        refused: list[tuple[Entry, Any]] = []
        for entry, encoded in zip(new, backend.encode([entry.given for entry in new]), strict=True):
            entry.taken = now
            if isinstance(encoded, Refused):
                refused.append((entry, encoded))
            else:
                entry.encoded = encoded
        if refused:
            self._send(self._deliver, refused)
            waiting[:] = [entry for entry in waiting if hasattr(entry, "encoded")]


def warm_up(backend: Backend) -> tuple[float, dict[str, Any]]:
    """Computes made inputs of several sizes, so that no client meets the first and slow ones.

    Returns:
        The tokens that could be computed in the time that a batch costs beyond its tokens, for `choose`, and
        an answer.
    """
    batches = made_inputs(backend)
    times: list[tuple[int, float]] = []
    for batch in batches:
        backend.compute(batch)
    example: dict[str, Any] = {}
    for batch in batches:
        start = time.perf_counter()
        example = backend.decode(backend.compute(batch).outputs, [item.input for item in batch])[0]
        times.append((sum(item.length for item in batch), time.perf_counter() - start))
    (few, short), (many, long) = min(times), max(times)
    if many <= few or long <= short:
        return SPARE, example
    a_token = (long - short) / (many - few)
    return float(np.clip(short / a_token - few, 8.0, 512.0)), example


def _late() -> Refused:
    return Refused(504, "deadline", "The deadline passed before the answer was computed.")
