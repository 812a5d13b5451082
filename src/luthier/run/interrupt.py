"""Signals to stop, heard politely: the first asks the run to end well, the second ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

REASON = "you stopped it"
TERMINATED = 128 + signal.SIGTERM
"""The exit code of a process that SIGTERM ended, as shells count it."""


class Interrupt:
    """While entered, SIGINT and SIGTERM set a reason to stop instead of raising.

    A second one raises KeyboardInterrupt. Outside the main thread, where Python delivers no signals, nothing
    is installed.

    SIGINT means the run, so what called it goes on. SIGTERM means the process, such as a script with one run
    after the other: it is only put off until the run has ended, and then does what it would have done, by
    the handler that was there before, or by SystemExit (exit code 143), which lets open things be closed.

    Args:
        say: Told when the first signal arrives, and of an error that the end of the process hides.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._hit = False
        self._terminated = False
        self._previous: dict[int, object] = {}

    def reason(self) -> str | None:
        """Why the run should stop, or None."""
        return REASON if self._hit else None

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if self._terminated and not isinstance(error, KeyboardInterrupt):
            if error is not None:
                self._say(str(error))
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                raise SystemExit(TERMINATED)
            signal.raise_signal(signal.SIGTERM)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._hit:
            raise KeyboardInterrupt
        self._hit = True
        self._terminated = number == signal.SIGTERM
        self._say(
            "Stopping after this step; the best model so far is kept. Press Ctrl-C again to stop at once."
        )
