"""The recorder of a server: takes observations at once, and writes them from a thread of its own. A store
that cannot be written stops the recording, never the serving.
"""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from luthier.errors import LuthierError, SettingError
from luthier.monitor.observation import Observation
from luthier.monitor.records import STEP, Records, Row, row_of
from luthier.study.database import make_engine

log = logging.getLogger(__name__)

BATCH = 500
"""Observations in one transaction at most."""
LINGER = 0.2
"""Seconds that the first observation of a batch waits for others."""
QUEUE = 10_000
"""Observations that may wait."""
QUEUE_BYTES = 64 << 20
"""Bytes of arrays and inputs that may wait."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds before a failed batch is tried again: doubled each time, up to the latter."""
TIDYING = 60.0
"""Seconds between two looks for what is too old or too much."""
DAYS, COUNT = 30.0, 100_000
"""What is kept of a model unless it is said otherwise."""


@dataclass(frozen=True)
class Counts:
    """What a recorder has done since the start, for gauges.

    Attributes:
        recorded: Observations that are acknowledged: their batch is committed, and a process killed now does
            not lose them.
        repeated: Of these, those that were there already under the same id.
        dropped: Given up: the queue was full, or the store could not be written.
        skipped: Not drawn, where only a share of requests is recorded.
        waiting: Taken and not yet acknowledged.
        failing: Whether the last try to write failed.
    """

    recorded: int
    repeated: int
    dropped: int
    skipped: int
    waiting: int
    failing: bool


class QueueRecorder:
    """A `luthier.monitor.observation.Recorder` that writes to `Records`, in the order of arrival.

    Args:
        location: Path or URL of the records; opened by the thread, and again after it was lost.
        model: Name under which they are kept.
        keep_inputs: Whether inputs are kept, too.
        share: Of observations that are recorded, drawn by their ids.
        age: Seconds that an observation is kept; None for ever.
        count: Observations that are kept; None for all.
        queue: Observations that may wait.
        queue_bytes: Bytes of them that may wait.

    Attributes:
        dropped: See `Counts`.
        location: As it can be shown: without a password.
    """

    def __init__(
        self,
        location: str | Path,
        *,
        model: str,
        keep_inputs: bool = False,
        share: float = 1.0,
        age: float | None = DAYS * 86400,
        count: int | None = COUNT,
        queue: int = QUEUE,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        # What is wrong with the URL is said now; whether anything answers there is the thread's affair.
        engine, self.location = make_engine(location)
        engine.dispose()
        self.dropped = 0
        self._given, self._model, self._keep_inputs = location, model, keep_inputs
        self._share, self._age, self._count = share, age, count
        self._room, self._bytes_room = queue, queue_bytes
        self._recorded = self._repeated = self._skipped = self._bytes = 0
        self._failing = self._closing = False
        self._waiting: deque[tuple[Observation, int]] = deque()
        self._under_way = 0
        self._changed = threading.Condition()
        self._records: Records | None = None
        self._tidied = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="luthier-recorder", daemon=True)
        self._thread.start()

    # -- the server's side -----------------------------------------------------------------------------------

    def record(self, observations: Sequence[Observation]) -> None:
        """See `Recorder.record`."""
        drawn = [one for one in observations if self._draws(one.id)]
        sized = [(one, _size(one)) for one in drawn]
        with self._changed:
            self._skipped += len(observations) - len(drawn)
            was_empty = not self._waiting
            for one, size in sized:
                full = len(self._waiting) + self._under_way >= self._room
                if self._closing or full or self._bytes + size > self._bytes_room:
                    self.dropped += 1
                else:
                    self._waiting.append((one, size))
                    self._bytes += size
            # The thread sleeps only while nothing waits, or for a full batch: it is not woken for each.
            if (was_empty and self._waiting) or len(self._waiting) >= BATCH:
                self._changed.notify_all()

    def counts(self) -> Counts:
        """What was done until now."""
        with self._changed:
            waiting = len(self._waiting) + self._under_way
            return Counts(self._recorded, self._repeated, self.dropped, self._skipped, waiting, self._failing)

    def flush(self, timeout: float = 10.0) -> bool:
        """Waits until all that was taken is acknowledged or given up; False where that takes too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._under_way, timeout)

    def close(self, timeout: float = 10.0) -> None:
        """Writes what was taken, and lets go of the store; what cannot be written is counted as dropped.

        Args:
            timeout: Seconds that this may take.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)
        with self._changed:
            left = len(self._waiting)
            self.dropped += left
            self._waiting.clear()
            self._bytes = 0
        if left:
            log.warning("%d observations were not recorded: %s could not be written", left, self.location)

    def _draws(self, name: str) -> bool:
        """Whether an observation is in the share: the same answer for an id in every process."""
        return self._share >= 1 or zlib.crc32(str(name).encode("utf-8", "replace")) < self._share * 2**32

    # -- the thread's side -----------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = 0.0
        while (batch := self._next(pause)) is not None:
            if batch and self._written(batch):
                pause = 0.0
            elif batch:
                pause = min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)
                if not self._put_back(batch):
                    break
            else:
                self._tidy()
        if self._records is not None:
            self._records.close()

    def _next(self, pause: float) -> list[tuple[Observation, int]] | None:
        """The next batch; empty where it is time to tidy up, None at the end."""
        with self._changed:
            if pause:
                self._changed.wait_for(lambda: self._closing, pause)
            while not self._waiting:
                if self._closing:
                    return None
                if not self._changed.wait_for(lambda: self._waiting or self._closing, TIDYING):
                    return []
            self._changed.wait_for(lambda: len(self._waiting) >= BATCH or self._closing, LINGER)
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            self._under_way = len(batch)
            return batch

    def _written(self, batch: list[tuple[Observation, int]]) -> bool:
        """Writes a batch; whether that went well."""
        rows, broken = self._rows(batch)
        try:
            if self._records is None:
                self._records = Records(self._given)
            new = self._records.add(rows)
        except (LuthierError, OSError) as error:
            self._lost(error)
            return False
        except Exception as error:
            # Nothing that a server must end for, nor that trying again would mend: these are given up.
            log.warning("%d observations cannot be recorded: %s", len(rows), type(error).__name__)
            rows, new, broken = [], 0, len(batch)
        with self._changed:
            self._recorded += len(rows)
            self._repeated += len(rows) - new
            self.dropped += broken
            self._bytes -= sum(size for _, size in batch)
            self._under_way = 0
            recovered, self._failing = self._failing, False
            self._changed.notify_all()
        if recovered:
            log.warning("observations are recorded again in %s", self.location)
        if time.monotonic() - self._tidied >= TIDYING:
            self._tidy()
        return True

    def _rows(self, batch: list[tuple[Observation, int]]) -> tuple[list[Row], int]:
        rows: list[Row] = []
        for one, _ in batch:
            try:
                rows.append(row_of(self._model, one, keep_input=self._keep_inputs))
            except (TypeError, ValueError, AttributeError, OverflowError) as error:
                log.warning("an observation cannot be recorded: %s", type(error).__name__)
        return rows, len(batch) - len(rows)

    def _lost(self, error: Exception) -> None:
        """Says once that nothing can be written, and lets go of the store: it is opened anew."""
        with self._changed:
            first, self._failing = not self._failing, True
        if first:
            said = error.message if isinstance(error, LuthierError) else type(error).__name__
            log.warning(
                "observations are not recorded: %s Serving goes on; writing is tried again, ever more rarely",
                said,
            )
        if self._records is not None:
            self._records.close()
            self._records = None

    def _put_back(self, batch: list[tuple[Observation, int]]) -> bool:
        """A batch that was not written is the next one again; False where there is no time for that."""
        with self._changed:
            self._waiting.extendleft(reversed(batch))
            self._under_way = 0
            return not self._closing

    def _tidy(self) -> None:
        """Deletes what is too old or too much, in small steps, as long as nothing waits."""
        self._tidied = time.monotonic()
        if self._records is None:
            return
        try:
            while self._records.retain(self._model, age=self._age, count=self._count) >= STEP:
                if len(self._waiting) >= BATCH or self._closing:
                    break
        except (LuthierError, OSError) as error:
            self._lost(error)


def _size(one: Observation) -> int:
    """About how many bytes an observation holds."""
    arrays = one.output.nbytes + (0 if one.features is None else one.features.nbytes)
    return arrays + (len(one.input) if hasattr(one.input, "__len__") else 0)


def open_recorder(
    url: str | Path,
    *,
    model: str,
    keep_inputs: bool = False,
    share: float = 1.0,
    days: float | None = DAYS,
    count: int | None = COUNT,
) -> QueueRecorder:
    """A recorder that a server can be given.

    Args:
        url: Path of a SQLite file, made (with its folder) if absent, or an SQLAlchemy URL such as
            ``postgresql+psycopg://user@host/name``.
        model: Name of the model, by which `luthier monitor` finds its records.
        keep_inputs: Whether the inputs are kept, too. They may be personal data.
        share: Of requests that are recorded, above 0 up to 1.
        days: That an observation is kept; None for ever.
        count: Observations that are kept; None for all.

    Raises:
        SettingError: The URL is not one, its driver is not installed, or a number is out of range.
        RunError: The folder of a SQLite file cannot be made.
    """
    if not 0 < share <= 1:
        raise SettingError(f"A share of {share} cannot be recorded.", "It lies above 0 and goes up to 1.")
    if (days is not None and not days > 0) or (count is not None and count < 1):
        raise SettingError(
            f"Observations cannot be kept for {days} days, or {count} of them.",
            "Both are above 0, or not given.",
        )
    age = None if days is None else days * 86400
    return QueueRecorder(url, model=model, keep_inputs=keep_inputs, share=share, age=age, count=count)
