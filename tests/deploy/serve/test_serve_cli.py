"""``luthier serve`` as a process of its own, on a tiny model."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import deploy_models
import httpx
import pytest


@pytest.fixture(scope="module")
def model(text_model: deploy_models.Finished) -> Path:
    return text_model.folder


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "luthier.cli.main", "serve", *map(str, arguments)]


@contextmanager
def serving(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """A process that can be asked."""
    port = free_port()
    process = subprocess.Popen(
        command(*arguments, "--port", port, "--threads", 1), stderr=subprocess.PIPE, text=True
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            wait_for(lambda: process.poll() is None and ready(client), 60)
            yield process, client
    finally:
        process.kill()
        process.wait()


def ready(client: httpx.Client) -> bool:
    try:
        return client.get("/v2/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def fails(*arguments: object) -> str:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_what_is_wrong_ends_it_at_once(model: Path, tmp_path: Path) -> None:
    assert "no finished model" in fails(tmp_path)
    assert "--token-file" in fails(model, "--host", "0.0.0.0")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for workers in (1, 2):
            said = fails(model, "--port", taken.getsockname()[1], "--workers", workers)
            assert "Cannot listen" in said
            assert "--port" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_accepted_requests_are_finished(model: Path, number: signal.Signals) -> None:
    with serving(model, "--name", "tiny") as (process, client):
        url = f"{client.base_url}/predict"
        lost: list[str] = []
        stopped = threading.Event()

        def ask() -> None:
            with httpx.Client(timeout=30) as own:
                while not stopped.is_set():
                    try:
                        said = own.post(url, json={"inputs": ["the cat sat on the mat"] * 16})
                    except httpx.ConnectError:
                        return  # It no longer listens: nothing was accepted.
                    except httpx.TransportError as error:
                        lost.append(repr(error))
                        return
                    if said.status_code == 503:
                        return
                    if said.status_code != 200:
                        lost.append(said.text)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        process.send_signal(number)
        assert process.wait(30) == 0
        stopped.set()
        for thread in threads:
            thread.join(30)
        # An idle connection may be closed in the moment in which its client sends the next request.
        assert not [one for one in lost if "disconnected" not in one and "reset" not in one], lost


def test_workers_share_a_port_and_one_that_dies_is_restarted(model: Path) -> None:
    with serving(model, "--workers", 2, "--name", "tiny") as (process, client):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        if not children.exists():
            pytest.skip("this system does not list a process's children")

        def workers() -> list[int]:
            found = [int(one) for one in children.read_text().split()]
            return [pid for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

        wait_for(lambda: len(workers()) == 2, 30)
        first = workers()
        for _ in range(10):
            with httpx.Client(base_url=client.base_url, timeout=30) as own:
                assert own.post("/predict", json={"inputs": "a"}).status_code in (200, 503)
        os.kill(first[0], signal.SIGKILL)
        wait_for(lambda: len(set(workers()) - {first[0]}) == 2, 60)
        for _ in range(5):
            with httpx.Client(base_url=client.base_url, timeout=30) as own:
                wait_for(lambda own=own: own.post("/predict", json={"inputs": "a"}).status_code == 200, 60)
        # Of both workers, also of the one that is gone.
        text = httpx.get(f"{client.base_url}/metrics").text
        counted = 'luthier_requests_total{endpoint="predict"'
        total = sum(float(one.split()[-1]) for one in text.splitlines() if one.startswith(counted))
        assert total >= 15
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in first), 10)
