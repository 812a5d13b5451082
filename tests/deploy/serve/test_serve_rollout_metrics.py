from __future__ import annotations

import pytest

pytest.importorskip("prometheus_client", reason="the packages for serving are not installed")

from prometheus_client.parser import text_string_to_metric_families

from luthier.deploy.serve.metrics import Metrics
from luthier.deploy.serve.rollout_metrics import KEPT, RolloutMeter


def counted(metrics: Metrics) -> dict[tuple[str, str], float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        (sample.labels["version"], sample.labels["outcome"]): sample.value
        for family in families
        if family.name == "luthier_version_requests"
        for sample in family.samples
        if sample.name.endswith("_total")
    }


def test_requests_are_counted_by_version_and_outcome() -> None:
    metrics = Metrics()
    meter = RolloutMeter(metrics)
    for outcome in ("answered", "answered", "failed"):
        meter.request("1", outcome)
    assert counted(metrics) == {("1", "answered"): 2, ("1", "failed"): 1}


def test_the_series_of_versions_long_gone_go_and_no_others() -> None:
    metrics = Metrics()
    meter = RolloutMeter(metrics)
    metrics.of("1").computed(0.1, 3)
    for number in range(1, KEPT + 3):
        meter.request(str(number), "answered")
        meter.forget(str(number))
        if number == 2:
            meter.request("2", "answered")  # It has come back.
    gone = {str(number) for number in range(1, KEPT + 3)} - {version for version, _ in counted(metrics)}
    assert gone == {"1"}
    assert 'luthier_answers_total{version="1"}' not in metrics.text().decode()
    assert counted(metrics)["2", "answered"] == 2
