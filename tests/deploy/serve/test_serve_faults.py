"""What happens to others when a worker is killed, a client is slow, reads nothing or does not stop
connecting, and to accepted requests when the server is told to end: real servers in processes of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from serve_attempt import message, post
from serve_sender import close, read_answer

from servers import Server

PATIENCE = 2.0
MOST = 2000
LATE = 120.0
"""Seconds that anything here may take at most, on a busy machine."""
# The command line, less patient with slow clients than it would be, and more so with silent ones.
IMPATIENT = f"""
import functools
from luthier.cli.main import main
from luthier.deploy.serve import connections, guard, server
connections.Connection.head_seconds = connections.Connection.unread_seconds = {PATIENCE}
guard.Bounds = functools.partial(guard.Bounds, seconds={PATIENCE})
server.IDLE = 600
main()
"""
QUESTION = post("/predict", json.dumps({"inputs": "a good cat"}).encode())
LIVE = message("GET", "/v2/health/live")

Made = Callable[..., Any]


def start(made: Any, folder: Path, interpreter: Sequence[str], *options: str) -> Server:
    place = [str(made.folder), "--threads=1", *options]

    def command(port: int) -> list[str]:
        return [sys.executable, *interpreter, "serve", *place, f"--port={port}"]

    return Server(command, folder / "server.log", path="/v2/health/ready")


@pytest.fixture(scope="module")
def impatient(finished: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One process that gives clients two seconds, and takes so many connections."""
    options = ["-c", IMPATIENT]
    with start(
        finished("distilbert"), tmp_path_factory.mktemp("log"), options, f"--connections={MOST}"
    ) as server:
        yield server


@pytest.fixture
def pair(finished: Made, tmp_path: Path) -> Iterator[Server]:
    """Two workers."""
    options = ["--workers=2", "--queue=100000"]
    with start(finished("distilbert"), tmp_path, ["-m", "luthier.cli.main"], *options) as server:
        # The second listens once it can answer; the first may be loading still.
        until(lambda: len(listening(server)) == 2)
        until(lambda: all(server.ask("GET", "/v2/health/ready")[0] == 200 for _ in range(20)))
        yield server


def until(holds: Callable[[], bool]) -> None:
    """Waits for it; fails if it takes too long."""
    end = time.monotonic() + LATE
    while not holds():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.05)


def within(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine gives; fails if it takes too long."""
    return asyncio.run(asyncio.wait_for(coroutine, LATE))


def listening(server: Server) -> set[int]:
    """The workers that take connections."""
    found = set()
    for process in server.tree()[1:]:
        try:
            sockets = process.net_connections("tcp")
        except psutil.Error:
            continue
        if any(each.status == psutil.CONN_LISTEN and each.laddr.port == server.port for each in sockets):
            found.add(process.pid)
    return found


async def ask(port: int, data: bytes) -> int | None:
    """The status of an answer on a connection of its own; None where the connection ended without one."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(data)
            return (await read_answer(reader))[0]
        finally:
            await close(writer)
    except (OSError, asyncio.IncompleteReadError):
        return None


# -- clients -------------------------------------------------------------------------------------------------


async def drip(port: int, at_once: bytes, slowly: bytes) -> bytes:
    """Sends one part whole and the other a byte at a time, as long as the server lets it; what came back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send() -> None:
        writer.write(at_once)
        for byte in slowly * 100:
            await asyncio.sleep(0.2)
            writer.write(bytes([byte]))

    sending = asyncio.ensure_future(send())
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        sending.cancel()
        await close(writer)


def test_slow_clients_are_told_so_and_hold_nobody_up(impatient: Server) -> None:
    head, body = QUESTION.split(b"\r\n\r\n")
    slow = {
        "head": (b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"X-Y: z\r\n"),
        "body": (head.replace(str(len(body)).encode(), b"5000") + b"\r\n\r\n", b" "),
        "silent": (b"", b""),
    }

    async def carry_out() -> tuple[dict[str, list[bytes]], list[int | None]]:
        port = impatient.port
        dripping = {
            kind: [asyncio.ensure_future(drip(port, *parts)) for _ in range(30)]
            for kind, parts in slow.items()
        }
        await asyncio.sleep(0.2)
        answers = [await ask(port, QUESTION) for _ in range(40)]
        return {kind: await asyncio.gather(*each) for kind, each in dripping.items()}, answers

    told, answers = within(carry_out())
    assert answers == [200] * 40
    for kind in ("head", "body"):
        assert {each.split(b"\r\n")[0] for each in told[kind]} == {b"HTTP/1.1 408 Request Timeout"}, kind
    assert set(told["silent"]) == {b""}
    assert within(ask(impatient.port, QUESTION)) == 200


async def let_go(port: int, requests: bytes, pause: float) -> None:
    """Sends on and on, and reads nothing; returns once the server has enough of it."""
    # A small buffer here, so that the server's is full soon.
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", port))
    with connection, contextlib.suppress(ConnectionError):
        while True:
            await loop.sock_sendall(connection, requests)
            await asyncio.sleep(pause)


@pytest.mark.parametrize(("ahead", "pause"), [(40, 0.01), (5000, 0.0)], ids=["unread", "ahead"])
def test_a_client_that_reads_nothing_is_let_go(impatient: Server, ahead: int, pause: float) -> None:
    before = impatient.memory()
    requests = message("GET", "/docs") * ahead

    async def carry_out() -> list[int | None]:
        clients = [asyncio.ensure_future(let_go(impatient.port, requests, pause)) for _ in range(4)]
        answers = [await ask(impatient.port, QUESTION) for _ in range(40)]
        await asyncio.gather(*clients)
        return answers

    assert within(carry_out()) == [200] * 40
    assert impatient.memory() - before < 100 * 2**20


def test_connections_up_to_the_limit_are_served_and_one_more_is_told(impatient: Server) -> None:
    files = impatient.tree()[0].num_fds()

    async def hold() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", impatient.port)
        writer.write(LIVE)
        assert await read_answer(reader) == (200, True)
        return reader, writer

    async def carry_out() -> None:
        held = [await hold() for _ in range(MOST)]
        assert await ask(impatient.port, LIVE) == 503
        # Those that are there are served as before, the first and the last alike.
        for reader, writer in (held[0], held[-1]):
            writer.write(QUESTION)
            assert await read_answer(reader) == (200, True)
        for _, writer in held[:10]:
            await close(writer)
        while await ask(impatient.port, LIVE) != 200:
            await asyncio.sleep(0.05)
        for _, writer in held[10:]:
            await close(writer)

    within(carry_out())
    until(lambda: impatient.tree()[0].num_fds() <= files + 5)


# -- processes -----------------------------------------------------------------------------------------------


async def load(port: int, count: int, found: list[int | None], over: asyncio.Event) -> None:
    """So many clients, each with a connection for each question, until it is over; notes what they get."""

    async def client() -> None:
        while not over.is_set():
            found.append(await ask(port, QUESTION))

    await asyncio.gather(*(client() for _ in range(count)))


async def grown(found: list[int | None], more: int) -> None:
    """Waits until that many further statuses are there: seconds would be few of them on a busy machine."""
    wanted = len(found) + more
    while len(found) < wanted:
        await asyncio.sleep(0.01)


def test_a_killed_worker_takes_only_its_own_connections_along(pair: Server) -> None:
    clients = 16
    victim, other = listening(pair)

    async def carry_out() -> tuple[list[int | None], list[int | None]]:
        over, meanwhile = asyncio.Event(), asyncio.Event()
        around: list[int | None] = []
        after: list[int | None] = []
        first = asyncio.ensure_future(load(pair.port, clients, around, over))
        await grown(around, 2 * clients)
        os.kill(victim, signal.SIGKILL)
        while victim in listening(pair):
            await asyncio.sleep(0.01)
        await grown(around, clients)
        over.set()
        await first
        # From here on there is one worker, and then two again.
        second = asyncio.ensure_future(load(pair.port, clients, after, meanwhile))
        while len(listening(pair)) < 2:
            await asyncio.sleep(0.1)
        await grown(after, 2 * clients)
        meanwhile.set()
        await second
        return around, after

    around, after = within(carry_out())
    # A process takes a moment to die, in which a client may meet it a second time.
    assert around.count(None) <= 4 * clients and set(around) <= {200, None}
    assert around.count(200) > 0 and set(after) == {200}
    assert victim not in listening(pair) and other in listening(pair)


def test_no_accepted_request_is_lost_when_it_is_told_to_end(pair: Server) -> None:
    inputs = [f"a good cat sat on mat {number} " * 5 for number in range(200)]
    many = post("/predict", json.dumps({"inputs": inputs}).encode())

    def computed() -> float:
        _, text = pair.ask("GET", "/metrics")
        return sum(
            float(each) for each in re.findall(rb"^luthier_answers_total\S* (\S+)$", text, re.MULTILINE)
        )

    async def carry_out() -> list[tuple[int, int]]:
        found = []

        async def client() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", pair.port)
            writer.write(many)
            head = await reader.readuntil(b"\r\n\r\n")
            # An answer that breaks off is lost, too.
            length = re.search(rb"content-length: (\d+)", head)
            assert length is not None
            body = json.loads(await reader.readexactly(int(length[1])))
            found.append((int(head[9:12]), len(body.get("predictions", []))))
            await close(writer)

        clients = [asyncio.ensure_future(client()) for _ in range(16)]
        # Some of the inputs are answered by now, and most are not.
        while not await asyncio.to_thread(computed):
            await asyncio.sleep(0)
        pair.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*clients)
        return found

    found = within(carry_out())
    # A request that came too late is told so: it was not accepted.
    assert set(found) <= {(200, len(inputs)), (503, 0)}
    assert (200, len(inputs)) in found
    assert pair.process.wait(LATE) == 0
    assert within(ask(pair.port, LIVE)) is None
