"""`RolloutMeter`: requests by version in the server's metrics, and what a rollout has to show beside them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from prometheus_client import Counter

from luthier.deploy.serve.held import OUTCOMES, Meter

if TYPE_CHECKING:
    from luthier.deploy.serve.metrics import Metrics


class RolloutMeter(Meter):
    """Counts requests by version and outcome. A version's series go with it, so that labels stay few.

    Args:
        metrics: The server's.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._requests = Counter(
            "luthier_version_requests", "Requests by version and outcome.", ["version", "outcome"],
            registry=metrics.registry,
        )  # fmt: skip

    def request(self, version: str, outcome: str) -> None:
        """See `Meter.request`."""
        self._requests.labels(version, outcome).inc()

    def forget(self, version: str) -> None:
        """See `Meter.forget`."""
        self._metrics.forget(version)
        for outcome in OUTCOMES:
            with contextlib.suppress(KeyError):
                self._requests.remove(version, outcome)
