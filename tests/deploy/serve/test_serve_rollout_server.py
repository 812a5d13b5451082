"""A deployment behind a real server: versions change under load, and none of the requests fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from deploy_models import Finished

from luthier.deploy.export.export import verify
from luthier.deploy.serve.opening import find
from luthier.deploy.versions import Deployment
from luthier.run.deployments import deploy_model

pytest.importorskip("uvicorn", reason="the packages for serving are not installed")
pytestmark = pytest.mark.e2e
LUTHIER = [sys.executable, "-m", "luthier.cli.main"]
PATIENCE = 120.0


@pytest.fixture(scope="module")
def registry(finished: Callable[..., Finished], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of one task, of which the first is in charge."""
    folder = tmp_path_factory.mktemp("registry")
    for dropout in (0.1, 0.2):
        deploy_model(finished("bert", head_dropout=dropout).folder, "reviews", registry=folder)
    return folder


@pytest.fixture
def server(registry: Path) -> Iterator[str]:
    """The address of a running server of the deployment."""
    process = subprocess.Popen(
        [*LUTHIER, "serve", "reviews", "--registry", str(registry), "--port", "0", "--threads", "1"],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"at (http://\S+?),", line):
            break
    else:
        pytest.fail(f"it did not start: {''.join(said)}")
    threading.Thread(target=process.stderr.read, daemon=True).start()
    yield found.group(1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0


def test_an_export_that_is_deployed_is_found_by_a_server(
    finished: Callable[..., Finished], tmp_path: Path
) -> None:
    assert deploy_model(finished("bert").folder, "fast", onnx=True, registry=tmp_path).changed
    place = Deployment("fast", tmp_path)
    place.check(1)
    graph = place.graph(1)
    assert graph is not None and verify(graph).check.passed
    assert [one.backend for one in find(place.model(1))] == ["torch", "onnx"]


def luthier(*arguments: object) -> str:
    done = subprocess.run([*LUTHIER, *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_versions_change_behind_a_real_server_without_one_failed_request(registry: Path, server: str) -> None:
    seen: list[tuple[int, str]] = []
    stop = threading.Event()

    def client() -> None:
        with httpx.Client(base_url=server, timeout=PATIENCE) as asking:
            while not stop.is_set():
                answer = asking.post("/predict", json={"inputs": ["a good cat"]})
                seen.append((answer.status_code, answer.json().get("version")))

    clients = [threading.Thread(target=client) for _ in range(3)]
    for thread in clients:
        thread.start()
    until(lambda: len(seen) > 10)
    luthier("promote", "reviews", 2, "--registry", registry)
    until(lambda: seen[-1][1] == "2")
    luthier("rollback", "reviews", "--registry", registry)
    until(lambda: seen[-1][1] == "1")
    stop.set()
    for thread in clients:
        thread.join()
    assert {status for status, _ in seen} == {200} and {version for _, version in seen} == {"1", "2"}
    metrics = httpx.get(f"{server}/metrics").text
    assert re.search(r'luthier_version_requests_total\{outcome="answered",version="2"\} \d', metrics)
    assert "luthier_version_full 1.0" in metrics
    told = json.loads(luthier("deployments", "reviews", "--registry", registry, "--json"))
    assert told["full"] == 1 and [event["action"] for event in told["history"]][-2:] == [
        "promote",
        "rollback",
    ]
