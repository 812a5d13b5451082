"""What monitoring adds to a server's metrics: how recording goes, and what the last look said.

Judging is done by `luthier monitor`, not in the server: this reads what it left.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from luthier.errors import LuthierError
from luthier.monitor.history import History
from luthier.monitor.looking import HARM, open_alarms
from luthier.monitor.opened import Opened
from luthier.monitor.recorder import QueueRecorder

PATIENCE = 15.0
"""Seconds for which what was read of the last look is good."""


class Gauges:
    """Values by name, for the server's metrics; and the alarms that are on, for a rollout.

    Both return at once: the store is asked by a thread, and what it said last stands until it says more.

    Args:
        location: Path or URL of the records.
        model: Name in the records.
        recorder: Of this process.
        version: Gives the version whose looks are told of; it may raise LuthierError. None, or where it gives
            None: of whichever was looked at last.
    """

    def __init__(
        self,
        location: str | Path,
        model: str,
        recorder: QueueRecorder | None = None,
        version: Callable[[], str | None] | None = None,
    ) -> None:
        self._location, self._model, self._recorder = location, model, recorder
        self._version = version or (lambda: None)
        self._read: dict[str, float] = {}
        self._alarms: list[str] = []
        self._until = 0.0
        self._asking = threading.Lock()

    def __call__(self) -> dict[str, float]:
        """``monitor_recorded``, ``_repeated``, ``_dropped``, ``_waiting`` and ``_failing`` of this process;
        ``monitor_harm``, ``_drift``, ``_accuracy`` (or ``_error``), its interval, ``_accuracy_tested``,
        ``_requests`` and ``_look_age_seconds`` of the last look, where there was one."""
        self._refresh()
        found = dict(self._read)
        if "monitor_look_time" in found:
            found["monitor_look_age_seconds"] = max(0.0, time.time() - found.pop("monitor_look_time"))
        if self._recorder is not None:
            counts = self._recorder.counts()
            names = ("recorded", "repeated", "dropped", "waiting", "failing")
            found |= {f"monitor_{name}": float(getattr(counts, name)) for name in names}
        return found

    def alarms(self) -> list[str]:
        """The versions of the model whose harm alarm is on."""
        self._refresh()
        return list(self._alarms)

    def _refresh(self) -> None:
        """Has the store asked, where what it said is old and nobody asks already."""
        if time.monotonic() >= self._until and self._asking.acquire(blocking=False):
            self._until = time.monotonic() + PATIENCE
            threading.Thread(target=self._ask, name="luthier-gauges", daemon=True).start()

    def _ask(self) -> None:
        try:
            with Opened(self._location) as opened:
                history = History(opened)
                looks = history.looks(self._model, self._version())
                on = [alarm for alarm in open_alarms(history, self._model) if alarm.kind == HARM]
            self._alarms = [alarm.version for alarm in on]
            self._read = {} if not looks else {"monitor_look_time": looks[0].time, **_told(looks[0].said)}
        except LuthierError:
            # `monitor_failing` says that the store does not answer.
            pass
        finally:
            self._asking.release()


def _told(said: dict[str, Any]) -> dict[str, float]:
    """Gauges of a look."""
    found = {
        "monitor_harm": float(bool(said.get("alarm"))),
        "monitor_drift": float(bool(said.get("drifted"))),
        "monitor_requests": float(said.get("n") or 0),
    }
    estimate = said.get("counted") or said.get("estimate")
    if estimate:
        name = "monitor_accuracy" if estimate["metric"] == "accuracy" else "monitor_error"
        low, high = estimate["interval"]
        found |= {name: estimate["value"], f"{name}_low": low, f"{name}_high": high}
        found[f"{name}_tested"] = estimate["tested"]
    return {name: float(value) for name, value in found.items()}
