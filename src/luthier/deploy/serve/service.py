"""`Service`: one version of a model behind the `Answers` contract.

Gathering and computing live in `batcher`, the model itself in `backend`, HTTP in `app`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from luthier.deploy.serve.backend import Backend, Computed
from luthier.deploy.serve.base import Answer, Refused, State
from luthier.deploy.serve.batcher import Batcher, Entry, Observer
from luthier.deploy.serve.protocol import columns
from luthier.monitor.observation import Observation, Recorder

log = logging.getLogger("luthier.serve")

BACKLOG = 64
"""Batches that may wait to be made observations of; further ones are dropped and counted."""


class Service:
    """Answers with one model.

    Args:
        open_backend: Loads the model, in the computing thread.
        name: The model's, as clients name it.
        version: The model's.
        rows: Inputs a batch at most.
        limit: Inputs accepted and not yet answered at most.
        recorder: Takes an observation of each answer. It is closed by whoever made it.
        keep_inputs: Whether observations hold the inputs themselves.
        observer: Of times; see `luthier.deploy.serve.metrics.Metrics.of`.
    """

    def __init__(
        self,
        open_backend: Callable[[], Backend],
        *,
        name: str,
        version: str = "1",
        rows: int = 32,
        limit: int = 1024,
        recorder: Recorder | None = None,
        keep_inputs: bool = False,
        observer: Observer | None = None,
    ) -> None:
        self.name, self.version = name, version
        self._notes = None if recorder is None else _Notes(recorder, version, keep_inputs)
        self._batcher = Batcher(
            open_backend,
            rows=rows,
            limit=limit,
            answered=None if self._notes is None else self._notes.take,
            features=recorder is not None,
            observer=observer,
        )
        # A client may use a request's id twice; the answers' ids differ all the same, also after a restart.
        self._mark = os.urandom(4).hex()
        self._count = itertools.count()

    @property
    def state(self) -> State:
        """See `luthier.deploy.serve.base.Answers`."""
        return self._batcher.state

    @property
    def waiting(self) -> int:
        """Inputs accepted and not yet answered."""
        return self._batcher.accepted

    @property
    def metadata(self) -> dict[str, Any]:
        """See `luthier.deploy.serve.base.Answers`; without task, input and labels until it is loaded."""
        about: dict[str, Any] = {"name": self.name, "versions": [self.version]}
        backend = self._batcher.backend
        if backend is not None:
            task = backend.task
            about |= {
                "task": task.name,
                "input": task.input_kind,
                "labels": list(task.label_names),
                "backend": backend.name,
                "outputs": columns(self._batcher.example),
            }
        return about

    async def ready(self) -> None:
        """Loads the model, and returns once it can be asked.

        Raises:
            LuthierError: It cannot be loaded.
        """
        await self._batcher.ready()

    async def answer(
        self,
        inputs: Sequence[Any],
        *,
        request: str,
        deadline: float | None = None,
        version: str | None = None,
    ) -> list[Answer | Refused]:
        """See `luthier.deploy.serve.base.Answers`."""
        if version is not None and version != self.version:
            raise Refused(404, "no_version", f"There is no such version; this is version {self.version}.")
        names = [f"{request}-{self._mark}{next(self._count):x}" for _ in inputs]
        if not inputs:
            return []
        found = await self._batcher.answer(inputs, names, deadline)
        return [
            value if isinstance(value, Refused) else Answer(name, value, self.version)
            for name, value in zip(names, found, strict=True)
        ]

    async def close(self) -> None:
        """See `luthier.deploy.serve.base.Answers`."""
        await self._batcher.close()
        if self._notes is not None:
            await asyncio.to_thread(self._notes.close)


@dataclass(frozen=True)
class _Batch:
    """Answered inputs and what was said of them."""

    time: float
    backend: Backend
    entries: list[Entry]
    computed: Computed
    answers: list[dict[str, Any]]


class _Notes:
    """Makes observations of answered batches in a thread of its own, so that no answer waits for them."""

    def __init__(self, recorder: Recorder, version: str, keep_inputs: bool) -> None:
        self._recorder, self._version, self._keep = recorder, version, keep_inputs
        self._queue: queue.Queue[_Batch | None] = queue.Queue(BACKLOG)
        self._thread = threading.Thread(target=self._run, name="luthier-observe", daemon=True)
        self._thread.start()

    def take(
        self, backend: Backend, entries: list[Entry], computed: Computed, answers: list[dict[str, Any]]
    ) -> None:
        """One answered batch."""
        try:
            self._queue.put_nowait(_Batch(time.time(), backend, entries, computed, answers))
        except queue.Full:
            self._recorder.dropped += len(entries)

    def close(self) -> None:
        """Hands on what was taken."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            try:
                self._recorder.record(self._observations(batch))
            except Exception:
                # Monitoring never stops the serving.
                self._recorder.dropped += len(batch.entries)
                log.exception("no observations could be made of a batch")

    def _observations(self, batch: _Batch) -> list[Observation]:
        features = batch.computed.features
        rows = zip(batch.entries, batch.computed.outputs, batch.answers, strict=True)
        return [
            Observation(
                id=entry.id,
                time=batch.time,
                version=self._version,
                output=output,
                answer=answer,
                statistics=batch.backend.statistics(entry.encoded),
                features=None if features is None else features[row],
                input=entry.given if self._keep else None,
            )
            for row, (entry, output, answer) in enumerate(rows)
        ]
