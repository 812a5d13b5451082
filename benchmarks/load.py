"""A load generator: so many connections, each of which sends a request as soon as its last one is answered.
Run as ``load.py JOB``, in one process with one thread; what is served, and what the figures mean, is not its
affair.

It shares the machine with the server, so it must be cheap: requests are bytes before the clock starts, and of
an answer only the status and the length are looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, cast

HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"
WARM_UP = 1.0
"""Seconds before anything is counted."""


class Client(asyncio.Protocol):
    """A connection that keeps one request on its way.

    Args:
        load: What it takes requests from, and tells of answers.
    """

    def __init__(self, load: Load) -> None:
        self.load = load
        self.transport: asyncio.Transport | None = None
        self.buffer = b""
        self.message = -1
        self.sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends the first request."""
        # uvloop's transports are of no class of asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        """Takes an answer, if it is whole, and sends the next request."""
        self.buffer = self.buffer + data if self.buffer else data
        end = self.buffer.find(HEAD_END)
        if end < 0:
            return
        start = end + len(HEAD_END)
        length = content_length(self.buffer[:start])
        if len(self.buffer) < start + length:
            return
        now = time.perf_counter()
        body, status = self.buffer[start : start + length], int(self.buffer[9:12])
        self.buffer = b""
        self.load.answered(self.message, status, body, self.sent, now)
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        """Counts as an error: a server that keeps connections alive has no reason to close one."""
        self.load.lost()

    def _send(self) -> None:
        message = self.load.next()
        assert self.transport is not None
        if message is None:
            self.transport.close()
            return
        self.message, self.sent = message, time.perf_counter()
        self.transport.write(self.load.requests[message])


class Load:
    """Counts what is answered between two moments.

    Args:
        requests: What is sent, in turn.
        seconds: How long is counted, or None: each request is sent once, and all answers are kept.
    """

    def __init__(self, requests: list[bytes], seconds: float | None) -> None:
        self.requests = requests
        self.seconds = seconds
        self.at = 0
        self.begin = self.end = float("inf")
        self.latencies: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.answers: dict[int, str] = {}
        self.done = asyncio.Event()
        self.open = 0

    async def run(self, port: int, connections: int) -> dict[str, Any]:
        """Sends until the time is over, or all is sent.

        Returns:
            ``answered`` within ``seconds``, ``latencies`` in seconds, ``statuses`` by number (``lost`` for
            connections that the server closed), processor seconds of this process (``cpu``), and ``answers``
            by number where they are kept.
        """
        loop = asyncio.get_running_loop()
        self.begin = time.perf_counter() + (WARM_UP if self.seconds else 0.0)
        self.end = self.begin + (self.seconds or float("inf"))
        self.open = connections
        for _ in range(connections):
            await loop.create_connection(lambda: Client(self), "127.0.0.1", port)
        await self.done.wait()
        return {
            "answered": len(self.latencies), "seconds": self.seconds, "latencies": self.latencies,
            "statuses": dict(self.statuses), "cpu": time.process_time(), "answers": self.answers,
        }  # fmt: skip

    @property
    def over(self) -> bool:
        """Whether all has been sent that is to be sent."""
        if self.seconds is None:
            return self.at >= len(self.requests)
        return time.perf_counter() >= self.end

    def next(self) -> int | None:
        """The number of the request to send, or None when it is over."""
        if self.over:
            return None
        self.at += 1
        return (self.at - 1) % len(self.requests)

    def answered(self, message: int, status: int, body: bytes, sent: float, now: float) -> None:
        """Takes note of an answer."""
        if self.seconds is None:
            self.answers[message] = body.decode()
        if self.begin <= now < self.end:
            self.latencies.append(now - sent)
            self.statuses[str(status)] += 1

    def lost(self) -> None:
        """A connection has ended; the last one ends the run."""
        if not self.over:
            self.statuses["lost"] += 1
        self.open -= 1
        if not self.open:
            self.done.set()


def content_length(head: bytes) -> int:
    """The length of an answer's body.

    Raises:
        ValueError: It is not told, so that a client cannot know where the answer ends.
    """
    lower = head.lower()
    at = lower.find(LENGTH)
    if at < 0:
        raise ValueError("An answer without Content-Length cannot be measured.")
    return int(lower[at + len(LENGTH) : lower.index(b"\r\n", at)])


def request(path: str, body: Any) -> bytes:
    """A POST with a JSON body, whole."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("job", type=Path, help="JSON: port, path, bodies, connections, seconds (or null)")
    job = json.loads(parser.parse_args().job.read_text())
    requests = [request(job["path"], body) for body in job["bodies"]]

    async def run() -> dict[str, Any]:
        return await Load(requests, job["seconds"]).run(job["port"], job["connections"])

    try:
        import uvloop
    except ImportError:
        found = asyncio.run(run())
    else:
        found = uvloop.run(run())
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
