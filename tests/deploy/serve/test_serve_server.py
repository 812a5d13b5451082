from __future__ import annotations

import asyncio
import importlib.util
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from serve_live import Gate

from luthier.deploy.serve import server, workers
from luthier.deploy.serve.backend import Backend
from luthier.deploy.serve.base import Answer
from luthier.deploy.serve.service import Service
from luthier.deploy.serve.settings import ServeSettings
from luthier.errors import MissingExtra, SettingError


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def without(name: str, *arguments: Any) -> Any:
        return None if name == "uvicorn" else found(name, *arguments)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(MissingExtra, match="uvicorn") as caught:
        server.serve(ServeSettings("model"))
    assert "luthier[serve]" in str(caught.value)


def test_a_port_that_workers_share_is_not_joined_by_another_server() -> None:
    first = ServeSettings("model", port=0, workers=2)
    kept = first.reserve()
    port = kept.getsockname()[1]
    ours = [first.listen(port) for _ in range(2)]
    try:
        for count in (1, 2):
            with pytest.raises(SettingError, match="Cannot listen"):
                ServeSettings("model", port=port, workers=count).reserve()
    finally:
        for one in (kept, *ours):
            one.close()


def test_an_address_that_is_none() -> None:
    with pytest.raises(SettingError, match="no address"):
        ServeSettings("model", host="no.such.host.invalid", port=0).reserve()


def test_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [ServeSettings("model", workers=count).share for count in (1, 2, 3, 16)] == [8, 4, 2, 1]
    assert ServeSettings("model", workers=2, threads=5).share == 5


def test_workers_that_cannot_load_the_model_end_it_with_what_they_said(tmp_path: Path) -> None:
    (tmp_path / "luthier.json").write_text("{}")
    settings = ServeSettings(str(tmp_path), port=0, workers=2, drain=1)
    place = settings.reserve()
    begun = time.monotonic()
    reading, writing = socket.socketpair()
    with place, reading, writing, pytest.raises(Exception, match="damaged"):
        workers.Supervisor(settings, place.getsockname()[1]).run(reading)
    assert time.monotonic() - begun < 60


def test_draining_has_an_end(backend: Backend) -> None:
    gate = Gate(backend)

    async def main() -> None:
        service = Service(lambda: backend, name="tiny")
        await service.ready()
        gate.shut()
        asking = asyncio.ensure_future(service.answer(["the cat"], request="r"))
        await asyncio.sleep(0.1)
        begun = time.monotonic()
        assert await server._drain(service, 0.3) == 0.0
        assert 0.25 < time.monotonic() - begun < 5
        assert not asking.done()
        gate.open.set()
        assert isinstance((await asking)[0], Answer)
        assert await server._drain(service, 20.0) > 10.0

    asyncio.run(main())
