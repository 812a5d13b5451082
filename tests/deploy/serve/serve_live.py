"""Real servers on free ports, in a thread of the tests' process, and what is needed to ask them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from luthier.deploy.serve.app import App
from luthier.deploy.serve.backend import Backend, Encoded
from luthier.deploy.serve.guard import Bounds, Guard
from luthier.deploy.serve.metrics import Metrics
from luthier.deploy.serve.opening import find, open_backend
from luthier.deploy.serve.server import make_server
from luthier.deploy.serve.service import Service
from luthier.deploy.serve.settings import ServeSettings

TOKEN = "a-token-that-is-long-enough"


@dataclass
class Live:
    """A server that runs."""

    port: int
    app: App
    service: Service
    loop: asyncio.AbstractEventLoop
    client: httpx.Client

    def predict(self, inputs: Any, **more: Any) -> httpx.Response:
        return self.client.post("/predict", json={"inputs": inputs}, **more)

    def metrics(self) -> str:
        return self.client.get("/metrics").text

    def on_loop(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)


@contextlib.contextmanager
def live(
    backend: Backend, *, bounds: Bounds | None = None, tokens: tuple[str, ...] = (),
    hosts: tuple[str, ...] = (), timeout: float = 20.0, connections: int = 100, load: bool = True,
    **options: Any,
) -> Iterator[Live]:  # fmt: skip
    """A server around a backend; `options` are those of `Service`."""
    metrics = Metrics()
    service = Service(lambda: backend, name="tiny", observer=metrics.of("1"), **options)
    app = App(service, guard=Guard(tokens, hosts, bounds), metrics=metrics, timeout=timeout)
    place = ServeSettings("unused", port=0).reserve()
    begun, found = threading.Event(), {}

    async def main() -> None:
        server = make_server(app, connections, 5)
        found["server"], found["loop"] = server, asyncio.get_running_loop()
        if load:
            await service.ready()
        begun.set()
        await server.serve(sockets=[place])

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert begun.wait(30)
    port = place.getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        running = Live(port, app, service, found["loop"], client)
        try:
            yield running
        finally:
            running.on_loop(service.close())
            running.loop.call_soon_threadsafe(found["server"].stop)
            thread.join(15)
            assert not thread.is_alive()


def opened(folder: Path, backend: str = "auto") -> Backend:
    """A model folder, loaded on the CPU."""
    return open_backend(find(folder, backend), device="cpu")


class Gate:
    """Holds a backend's computing back until it is opened, and notes which inputs are computed."""

    def __init__(self, backend: Backend) -> None:
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.batches: list[list[Any]] = []
        self._compute = backend.compute
        backend.compute = self.compute  # type: ignore[method-assign]

    def compute(self, items: list[Encoded], *, features: bool = False) -> Any:
        self.entered.set()
        assert self.open.wait(30)
        self.batches.append([item.input for item in items])
        return self._compute(items, features=features)

    def shut(self) -> None:
        self.entered.clear()
        self.open.clear()


def line(text: str) -> bytes:
    """A plain request on the wire."""
    body = json.dumps({"inputs": [text]}).encode()
    return (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
    )
