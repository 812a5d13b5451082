"""`Watchdog`: ends a step that takes far longer than it was predicted to.

One daemon thread looks after the deadlines of all guards in the process. When one has passed it makes the
guarded thread raise `Hung`. What hangs inside a single call of a C function cannot be ended from within the
process; it raises when it returns.

The thread that is guarded and the one that watches meet in a lock that each guard has for itself. A guard
fires at most once, and only while it is held; being left it waits for a firing that has begun and takes it
back. So nothing is raised after a guard.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import math
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

# Its default is to be ignored, so that one that comes late does no harm. Windows has none.
SIGNAL: Any = getattr(signal, "SIGURG", None)
# Seconds until a guard is looked at again that is just being armed or left.
AGAIN = 0.01
# Seconds to wait for a signal on its way; one that is blocked never comes.
PATIENCE = 1.0
# Steps of a loop within which an exception that a thread sets itself is raised.
SOON = 100_000


class Hung(Exception):
    """A step took far longer than it was predicted to; the message says how long."""

    by: object = None
    """What raised it."""


class Watchdog:
    """Sets limits to steps.

    Args:
        factor: A step may take this many times its prediction.
        floor: Seconds that any step may take.
    """

    def __init__(self, factor: float = 20.0, floor: float = 30.0) -> None:
        self.factor = factor
        self.floor = floor

    def guard(self, predicted: float | None) -> Guard:
        """A context manager around one step, or around several that are each begun with `arm`.

        Inside of it `Hung` is raised in the thread that entered it, when a step takes longer than allowed: at
        the next Python instruction, in the main thread at once if it sleeps or waits. Guards may be nested;
        only the innermost of a thread runs, and the outer ones go on after it with the deadlines they had. It
        costs microseconds.

        The body should be a call: where a loop of the body itself jumps back, Python 3.13 lets an exception
        that comes just then pass by the handlers around it.

        Args:
            predicted: Seconds that the step should take; None for no limit.
        """
        return Guard(self, predicted)

    def arm(self, predicted: float | None) -> None:
        """Begins the next step inside of this thread's innermost guard.

        Args:
            predicted: As for `guard`.

        Raises:
            RuntimeError: There is no guard.
        """
        guard = _clock.guard()
        if guard is None:
            raise RuntimeError("A watchdog can be armed only inside of a guard.")
        guard.arm(self, predicted)

    def disarm(self) -> None:
        """Ends the step that `arm` began: no limit holds until the next one, or the guard's end."""
        self.arm(None)


class Guard:
    """One use of a watchdog; `Watchdog.guard` makes it."""

    def __init__(self, watchdog: Watchdog, predicted: float | None) -> None:
        self.deadline = math.inf
        self.fired = False
        self._first = (watchdog, predicted)
        self._outer: Guard | None = None
        self._mutex = threading.Lock()
        self._ref = weakref.ref(self)
        self._reason = ""
        self._limit = math.inf
        self._dumped = self._delivered = self._acknowledged = False
        self._ending = self._ended = self._signalled = False
        self._handler: Any = None

    def __enter__(self) -> None:
        self._ident = threading.get_ident()
        outer = innermost = _clock.guard()
        # It must not fire any more once this one is there.
        held = innermost is not None and not innermost.fired and innermost._mutex.acquire(timeout=PATIENCE)
        while outer is not None and outer.fired:
            outer._wait()
            outer = outer._outer
        self._outer = outer
        try:
            _clock.guards[self._ident] = self._ref
            if held and innermost is not None:
                innermost._mutex.release()
            self.arm(*self._first)
        except BaseException:
            self._end()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._end()
        except Hung as late:
            self._end()
            if late.by is not self._ref:
                raise
            # Otherwise it came as the guard was being left: the step has ended after all.
        except BaseException:
            self._end()
            raise

    def arm(self, watchdog: Watchdog, predicted: float | None) -> None:
        """Sets the deadline, from now on."""
        if self.fired:
            return
        limit, reason = math.inf, ""
        if predicted is not None:
            allowed = watchdog.factor * predicted
            limit = max(watchdog.floor, allowed)
            times = f"{watchdog.factor:g} times its" if allowed >= watchdog.floor else "with a"
            reason = f"a step took more than {limit:.3g} s, {times} prediction of {predicted:.3g} s"
            if not self._signalled and self._ident == threading.main_thread().ident:
                self._listen()
        self._mutex.acquire()
        self._limit, self._reason, self.deadline = limit, reason, time.monotonic() + limit
        self._mutex.release()
        _clock.watch(self.deadline)

    def look(self, now: float) -> float:
        """Fires if it is time. Called by the clock's thread; returns when to look again."""
        if not self.fired:
            if now < self.deadline:
                return self.deadline
            if not self._mutex.acquire(blocking=False):
                return now + AGAIN
            try:
                # It may just have been armed anew, or another entered inside of it.
                if now >= self.deadline and _clock.guards.get(self._ident) is self._ref:
                    self._fire()
                    self.deadline = now + self._limit
                return self.deadline
            finally:
                self._mutex.release()
        if now < self.deadline:
            return self.deadline
        if not self._dumped:
            self._dumped = True
            _dump(self._reason)
        return math.inf

    def _fire(self) -> None:
        self.fired = True
        try:
            if self._signalled:
                signal.pthread_kill(self._ident, SIGNAL)
            else:
                _raise_in(self._ident, _saying(self._reason, self._ref))
        finally:
            self._delivered = True

    def _listen(self) -> None:
        """Installs a handler: a signal also interrupts what the main thread waits for."""
        if SIGNAL is None or (previous := signal.getsignal(SIGNAL)) is None:
            return  # One that is not Python's could not be restored.
        self._handler = previous
        self._signalled = True
        try:
            signal.signal(SIGNAL, _handler(self._ref, previous))
        except ValueError:  # Another interpreter's main thread has no signals.
            self._signalled = False

    def heard(self, frame: FrameType | None) -> bool:
        """Takes a signal, in the main thread; returns False if it is somebody else's.

        Raises:
            Hung: The step is still running.
        """
        if not self.fired or self._acknowledged:
            return False
        self._acknowledged = True
        left = frame is not None and frame.f_code is _EXIT and frame.f_locals.get("self") is self
        if not (self._ending or left):
            raise _saying(self._reason, self._ref)
        return True

    def _end(self) -> None:
        """Takes the guard away, and back what was fired but not raised yet. May be called again."""
        self._ending = True
        if not self._ended:
            if not self.fired:
                # From here on it cannot fire. An interrupt may have left the lock taken, by this very thread.
                self._mutex.acquire(timeout=PATIENCE)
            if self.fired:
                self._wait()
                if not self._signalled:
                    _take_back(self._ident)
            if self._signalled:
                signal.signal(SIGNAL, self._handler)
            self._ended = True
        outer = self._outer
        if outer is None:
            _clock.guards.pop(self._ident, None)
        else:
            _clock.guards[self._ident] = outer._ref
            _clock.watch(outer.deadline)

    def _wait(self) -> None:
        """Waits until a firing that has begun is done."""
        until = time.monotonic() + PATIENCE
        while not self._delivered or (self._signalled and not self._acknowledged):
            if time.monotonic() > until:
                return
            time.sleep(0)


_EXIT = Guard.__exit__.__code__


class _Clock:
    """The thread that looks after deadlines.

    Those who arm it never wait for it: each side first says what it is about to do and then looks at what the
    other said, so that one of them notices.
    """

    def __init__(self) -> None:
        # By thread. Weak, so that a guard that was never left, because an interrupt came in between, ends
        # with its frame.
        self.guards: dict[int, weakref.ref[Guard]] = {}
        self._until = math.inf
        self._started = threading.Lock()
        self._bell = threading.Lock()
        self._bell.acquire()

    def guard(self) -> Guard | None:
        """The innermost guard of this thread."""
        found = self.guards.get(threading.get_ident())
        return None if found is None else found()

    def watch(self, deadline: float) -> None:
        """Wakes the thread if it would sleep past a deadline that was set."""
        if deadline < self._until:
            if self._started.acquire(blocking=False):
                threading.Thread(target=self._run, name="watchdog", daemon=True).start()
            with contextlib.suppress(RuntimeError):  # It rings already.
                self._bell.release()

    def _run(self) -> None:
        while True:
            self._until = math.inf
            now, soonest = time.monotonic(), math.inf
            for found in list(self.guards.values()):
                if (guard := found()) is not None:
                    soonest = min(soonest, guard.look(now))
                del guard
            self._until = soonest
            wait = min(max(0.0, soonest - time.monotonic()), threading.TIMEOUT_MAX)
            self._bell.acquire(timeout=wait)


def _handler(ref: weakref.ref[Guard], previous: Any) -> Callable[[int, FrameType | None], None]:
    """A handler for a guard; a signal that is not its own goes to the one before."""

    def handle(number: int, frame: FrameType | None) -> None:
        guard = ref()
        if (guard is None or not guard.heard(frame)) and callable(previous):
            previous(number, frame)

    return handle


def _saying(reason: str, ref: object) -> type[Hung]:
    """A class, since that is all that can be raised in another thread, whose instances carry a message."""

    class Saying(Hung):
        by = ref

        def __init__(self) -> None:
            super().__init__(reason)

    Saying.__name__ = Saying.__qualname__ = Hung.__name__
    return Saying


def _raise_in(ident: int, kind: type[BaseException]) -> None:
    """Makes a thread raise an exception at its next instruction."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(kind))


class _TakenBack(BaseException):
    """Takes the place of an exception that a thread has not raised yet."""


def _take_back(ident: int) -> None:
    """Takes back what this thread has not raised yet, if there is any.

    Another exception takes its place, and is caught here. To set none would leave CPython (3.11, 3.12)
    looking for one at every call from then on, since only one that is raised ends the looking; and where
    calls are traced, the next one would never begin.
    """
    if ident != threading.get_ident():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), None)
        return
    with contextlib.suppress(_TakenBack):
        _raise_in(ident, _TakenBack)
        for _ in range(SOON):
            pass


def _dump(reason: str) -> None:
    """All threads' stacks, to the process's standard error."""
    with contextlib.suppress(OSError, ValueError):
        os.write(2, f"{reason}, and has not ended since. All threads:\n".encode())
        faulthandler.dump_traceback(file=2, all_threads=True)


def _renew() -> None:
    """A forked process has no thread that watches, nor what it watched."""
    global _clock
    _clock = _Clock()


_clock = _Clock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
