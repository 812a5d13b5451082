from __future__ import annotations

import asyncio
import resource
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import deploy_models
import httpx
import pytest
import serve_live
from serve_live import Gate, Live

from luthier.deploy.serve.backend import Backend
from luthier.deploy.serve.base import Answer, Refused
from luthier.deploy.serve.service import Service
from luthier.errors import ModelError
from luthier.monitor.observation import Observation


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ask(threads: ThreadPoolExecutor, server: Live, inputs: Any, **body: Any) -> Future[httpx.Response]:
    """A request on a connection of its own, on its way once this returns or soon after."""
    url = f"http://127.0.0.1:{server.port}/predict"
    return threads.submit(httpx.post, url, json={"inputs": inputs, **body}, timeout=30)


def test_what_comes_while_a_batch_computes_is_the_next(backend: Backend) -> None:
    gate = Gate(backend)
    with serve_live.live(backend) as server, ThreadPoolExecutor(10) as threads:
        gate.shut()
        gate.batches.clear()
        first = ask(threads, server, ["the cat"])
        assert gate.entered.wait(10)
        others = [ask(threads, server, [f"a dog ran {'fast ' * (n % 2)}"]) for n in range(6)]
        until(lambda: server.service.waiting == 7)
        gate.open.set()
        assert all(one.result().status_code == 200 for one in [first, *others])
        assert gate.batches[0] == ["the cat"]
        assert len(gate.batches) == 2


def test_a_full_queue_says_when_to_come_back(backend: Backend) -> None:
    gate = Gate(backend)
    with serve_live.live(backend, limit=4) as server, ThreadPoolExecutor(10) as threads:
        assert server.predict(["a"] * 5).status_code == 413
        gate.shut()
        accepted = [ask(threads, server, ["a", "dog"]) for _ in range(2)]
        until(lambda: server.service.waiting == 4)
        refused = server.predict(["a"])
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        assert int(refused.headers["retry-after"]) >= 1
        gate.open.set()
        assert all(one.result().status_code == 200 for one in accepted)
        assert server.predict(["a"]).status_code == 200


def test_what_is_late_is_given_up_and_never_computed(backend: Backend) -> None:
    gate = Gate(backend)
    with serve_live.live(backend) as server, ThreadPoolExecutor(10) as threads:
        gate.shut()
        first = ask(threads, server, ["the cat"])
        assert gate.entered.wait(10)
        start = time.monotonic()
        late = ask(threads, server, ["late bird"], timeout=0.3).result()
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline")
        assert time.monotonic() - start < 5
        gate.open.set()
        assert first.result().status_code == 200
        assert server.predict(["a dog"]).status_code == 200
        assert not any("late bird" in batch for batch in gate.batches)
        until(lambda: server.service.waiting == 0)


def test_what_a_client_left_is_never_computed(backend: Backend) -> None:
    gate = Gate(backend)
    with serve_live.live(backend) as server, ThreadPoolExecutor(10) as threads:
        gate.shut()
        first = ask(threads, server, ["the cat"])
        assert gate.entered.wait(10)
        leaving = socket.create_connection(("127.0.0.1", server.port))
        leaving.sendall(serve_live.line("left alone"))
        until(lambda: server.service.waiting == 2)
        time.sleep(0.2)
        leaving.close()
        time.sleep(0.2)
        gate.open.set()
        assert first.result().status_code == 200
        assert server.predict(["a dog"]).status_code == 200
        assert not any("left alone" in batch for batch in gate.batches)
        assert 'status="499"' in server.metrics()


def test_before_it_is_loaded_and_while_it_stops(backend: Backend) -> None:
    gate = Gate(backend)
    with serve_live.live(backend, load=False) as server, ThreadPoolExecutor(4) as threads:
        assert server.client.get("/v2/health/live").status_code == 200
        assert server.client.get("/v2/health/ready").status_code == 503
        said = server.predict("a")
        assert (said.status_code, said.json()["error"]["code"]) == (503, "loading")
        server.on_loop(server.service.ready())
        assert server.client.get("/v2/health/ready").status_code == 200
        gate.shut()
        accepted = ask(threads, server, ["the cat"])
        assert gate.entered.wait(10)
        closing = asyncio.run_coroutine_threadsafe(server.service.close(), server.loop)
        until(lambda: server.service.state == "draining")
        assert server.client.get("/v2/health/ready").json() == {"ready": False, "state": "draining"}
        said = server.predict("a")
        assert (said.status_code, said.json()["error"]["code"]) == (503, "draining")
        assert not closing.done()
        gate.open.set()
        assert accepted.result().status_code == 200
        closing.result(10)


def test_a_batch_that_fails_is_told_and_outlived(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    whole = backend.compute

    def fails(items: Sequence[Any], *, features: bool = False) -> Any:
        if any(item.input == "the end" for item in items):
            raise RuntimeError("inside of the network")
        return whole(items, features=features)

    backend.compute = fails  # type: ignore[method-assign]
    with serve_live.live(backend) as server:
        said = server.predict("the end")
        assert said.status_code == 500
        assert "network" not in said.text
        assert server.predict("the cat").status_code == 200


def test_an_answer_that_is_no_number_is_none(backend: Backend) -> None:
    whole = backend.compute

    def spoilt(items: Sequence[Any], *, features: bool = False) -> Any:
        computed = whole(items, features=features)
        for item, output in zip(items, computed.outputs, strict=True):
            output[:] = float("nan") if item.input == "nothing" else output
        return computed

    backend.compute = spoilt  # type: ignore[method-assign]
    with serve_live.live(backend) as server:
        one, other = server.predict(["nothing", "the cat"]).json()["predictions"]
        assert one["error"]["code"] == "failed"
        assert "label" in other


def test_a_model_that_does_not_load_is_said() -> None:
    def fails() -> Backend:
        raise ModelError("no such weights")

    async def main() -> None:
        service = Service(fails, name="broken")
        with pytest.raises(ModelError, match="no such weights"):
            await service.ready()
        assert service.state == "failed"
        with pytest.raises(Refused) as caught:
            await service.answer(["a"], request="r")
        assert caught.value.status == 503
        await service.close()

    asyncio.run(main())


class Kept:
    """A recorder that keeps what it is given."""

    dropped = 0

    def __init__(self) -> None:
        self.found: list[Observation] = []

    def record(self, observations: Sequence[Observation]) -> None:
        self.found += observations

    def close(self) -> None:
        raise AssertionError("whoever made it closes it")


@pytest.mark.parametrize("keep", [False, True])
def test_answers_are_observed(text_model: deploy_models.Finished, keep: bool) -> None:
    kept = Kept()
    with serve_live.live(serve_live.opened(text_model.folder), recorder=kept, keep_inputs=keep) as server:
        said = server.predict(["the cat", 3, "a qqq"]).json()["predictions"]
        until(lambda: len(kept.found) == 2)
    for told, text in ((said[0], "the cat"), (said[2], "a qqq")):
        seen = next(one for one in kept.found if one.id == told["id"])
        assert {"id": seen.id, **seen.answer} == told
        assert seen.output.shape == (2,)
        assert seen.features is not None
        assert seen.features.shape == (32,)
        assert seen.statistics["length"] == 4
        assert seen.input == (text if keep else None)


def test_a_recorder_that_fails_stops_nothing(backend: Backend) -> None:
    kept = Kept()

    def fails(observations: Sequence[Observation]) -> None:
        raise OSError("disk full")

    kept.record = fails  # type: ignore[method-assign]
    with serve_live.live(backend, recorder=kept) as server:
        assert server.predict(["the cat"]).status_code == 200
        until(lambda: kept.dropped == 1)
        assert server.predict(["the cat"]).status_code == 200


def test_a_service_by_itself(backend: Backend) -> None:
    async def main() -> None:
        service = Service(lambda: backend, name="tiny", version="3")
        assert service.metadata == {"name": "tiny", "versions": ["3"]}
        await service.ready()
        found = await service.answer(["a cat", 3], request="r", version="3")
        assert isinstance(found[0], Answer)
        assert found[0].version == "3"
        assert isinstance(found[1], Refused)
        assert await service.answer([], request="r") == []
        with pytest.raises(Refused, match="no such version"):
            await service.answer(["a"], request="r", version="1")
        assert service.metadata["labels"] == ["no", "yes"]
        await service.close()
        with pytest.raises(Refused, match="about to stop"):
            await service.answer(["a"], request="r")

    asyncio.run(main())


def test_nothing_turns_while_nobody_asks(server: Live) -> None:
    server.predict("a")
    time.sleep(0.3)
    before = resource.getrusage(resource.RUSAGE_SELF)
    time.sleep(1.5)
    after = resource.getrusage(resource.RUSAGE_SELF)
    # This process holds several idle servers' threads; a clock that looks ten times a second would show.
    assert after.ru_nvcsw - before.ru_nvcsw < 12
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 0.03
