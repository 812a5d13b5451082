"""`RolloutMeter`: requests by version in the server's metrics, and what a rollout has to show beside them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from prometheus_client import Counter

from luthier.deploy.serve.held import OUTCOMES, Meter

if TYPE_CHECKING:
    from luthier.deploy.serve.metrics import Metrics


KEPT = 8
"""Versions no longer here whose series stay, for whoever asks only now and then."""


class RolloutMeter(Meter):
    """Counts requests by version and outcome; the series of versions long gone go, so that labels stay few.

    Args:
        metrics: The server's.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._gone: dict[str, None] = {}
        self._requests = Counter(
            "luthier_version_requests", "Requests by version and outcome.", ["version", "outcome"],
            registry=metrics.registry,
        )  # fmt: skip

    def request(self, version: str, outcome: str) -> None:
        """See `Meter.request`."""
        self._gone.pop(version, None)
        self._requests.labels(version, outcome).inc()

    def forget(self, version: str) -> None:
        """See `Meter.forget`."""
        self._gone.pop(version, None)
        self._gone[version] = None
        for old in list(self._gone)[:-KEPT]:
            del self._gone[old]
            self._metrics.forget(old)
            for outcome in OUTCOMES:
                with contextlib.suppress(KeyError):
                    self._requests.remove(old, outcome)
