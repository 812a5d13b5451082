"""What `/metrics` tells: counters and histograms in a registry of their own, in Prometheus' text form.

With several worker processes the numbers are those of all of them: each writes its own into files of a shared
folder, which prometheus-client adds up when asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, multiprocess
from prometheus_client.core import GaugeMetricFamily

from luthier.deploy.serve.batcher import Observer
from luthier.deploy.serve.settings import METRICS_FOLDER

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)

Callback = Callable[[], Mapping[str, float]]
"""Further gauges by name, asked for at each scrape."""


class Metrics:
    """The server's own metrics. Labels are few: codes and endpoints are names in this package, versions those
    that are loaded.

    Attributes:
        registry: Further collectors may be registered here.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self.requests = Counter(
            "luthier_requests",
            "Requests by endpoint and HTTP status.",
            ["endpoint", "status"],
            registry=self.registry,
        )
        self.errors = Counter(
            "luthier_errors",
            "Inputs and requests that got no answer, by the reason.",
            ["code"],
            registry=self.registry,
        )
        self.seconds = self._histogram(
            "luthier_request_seconds", "From a request's arrival to its response.", SECONDS, "endpoint"
        )
        self.queue = self._histogram(
            "luthier_queue_seconds", "Until the computing thread took an input.", SECONDS
        )
        self.gather = self._histogram(
            "luthier_batch_seconds",
            "From then until its batch began: encoding, and waiting for its turn.",
            SECONDS,
        )
        self.compute = self._histogram("luthier_compute_seconds", "Computing and decoding a batch.", SECONDS)
        self.rows = self._histogram("luthier_batch_rows", "Inputs a batch.", ROWS)
        self.answered = Counter(
            "luthier_answers", "Inputs answered, by version.", ["version"], registry=self.registry
        )
        self._callbacks: list[Callback] = []

    def add(self, callback: Callback) -> None:
        """Has a function asked for further gauges at each scrape: values by name, ``luthier_`` before it.

        With several workers its values are those of whichever worker answers the scrape.
        """
        self._callbacks.append(callback)

    def of(self, version: str) -> Times:
        """Where the batcher of a version tells its times."""
        return Times(self, version)

    def forget(self, version: str) -> None:
        """Lets go of a version's series."""
        for metric in (self.queue, self.gather, self.compute, self.rows, self.answered):
            try:
                metric.remove(version)
            except KeyError:
                continue

    def text(self) -> bytes:
        """All metrics as they stand."""
        registry = self.registry
        if os.environ.get(METRICS_FOLDER):
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        extra = CollectorRegistry()
        extra.register(_Asked(self._callbacks))
        return generate_latest(registry) + generate_latest(extra)

    def _histogram(
        self, name: str, told: str, buckets: tuple[float, ...], label: str = "version"
    ) -> Histogram:
        return Histogram(name, told, [label], buckets=buckets, registry=self.registry)


class Times(Observer):
    """A version's times, told to the metrics."""

    def __init__(self, metrics: Metrics, version: str) -> None:
        self._queue = metrics.queue.labels(version)
        self._gather = metrics.gather.labels(version)
        self._compute = metrics.compute.labels(version)
        self._rows = metrics.rows.labels(version)
        self._answered = metrics.answered.labels(version)

    def queued(self, seconds: float) -> None:
        """See `Observer.queued`."""
        self._queue.observe(max(0.0, seconds))

    def gathered(self, seconds: float) -> None:
        """See `Observer.gathered`."""
        self._gather.observe(max(0.0, seconds))

    def computed(self, seconds: float, rows: int) -> None:
        """See `Observer.computed`."""
        self._compute.observe(seconds)
        self._rows.observe(rows)
        self._answered.inc(rows)


class _Asked:
    """A collector of what callbacks say."""

    def __init__(self, callbacks: list[Callback]) -> None:
        self._callbacks = callbacks

    def collect(self) -> Iterable[Any]:
        """One gauge a value."""
        for callback in self._callbacks:
            for name, value in callback().items():
                yield GaugeMetricFamily(
                    f"luthier_{name}", name.replace("_", " ").capitalize() + ".", value=value
                )
