"""Sends attempts over raw sockets, several at a time, and says which answers are wrong: an error of the
server's, none in time, a good one to what must be refused, or a connection closed on whole HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from serve_attempt import Attempt

SECONDS = 20.0
"""What an answer may take, on a busy machine."""


@dataclass
class Found:
    """What came back.

    Attributes:
        statuses: How often each status came; ``closed`` without one.
        wrong: Attempts whose answer is wrong, with what it was.
        slowest: Seconds, of a single attempt.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0

    @property
    def sent(self) -> int:
        """Attempts."""
        return self.statuses.total()


def verdict(attempt: Attempt, status: int | None) -> str:
    """What is wrong about an answer; empty if nothing is.

    Args:
        attempt: What was sent.
        status: Of the answer; None where the connection was closed without one.
    """
    if status is None:
        return "closed without an answer" if attempt.http else ""
    if 400 <= status < 500 or (status == 200 and not attempt.bad):
        return ""
    return f"answered with {status}"


async def send(port: int, attempts: Iterable[Attempt], connections: int = 8) -> Found:
    """Sends attempts on so many connections, each of which is kept as long as the server keeps it."""
    found, waiting = Found(), iter(attempts)
    await asyncio.gather(*(_worker(port, waiting, found) for _ in range(connections)))
    return found


async def _worker(port: int, waiting: Iterator[Attempt], found: Found) -> None:
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    # The iterator is shared: each attempt goes to whichever connection is free.
    for attempt in waiting:
        began = time.monotonic()
        if connection is None:
            connection = await asyncio.open_connection("127.0.0.1", port)
        status, stays, what = await _once(*connection, attempt)
        found.statuses["closed" if status is None else str(status)] += 1
        found.slowest = max(found.slowest, time.monotonic() - began)
        if wrong := what or verdict(attempt, status):
            found.wrong.append(f"{attempt.kind}: {wrong}: {attempt.data[:300]!r}")
        if not stays:
            await close(connection[1])
            connection = None
    if connection is not None:
        await close(connection[1])


async def _once(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, attempt: Attempt
) -> tuple[int | None, bool, str]:
    """Status of the answer, whether the connection can be used again, and what went wrong on the way."""
    try:
        async with asyncio.timeout(SECONDS):
            writer.write(attempt.data)
            if attempt.ends:
                # The server may have answered and closed before all of it was sent.
                with contextlib.suppress(OSError):
                    writer.write_eof()
            status, keeps = await read_answer(reader)
    except TimeoutError:
        return None, False, "no answer in time"
    except (OSError, asyncio.IncompleteReadError):
        return None, False, ""
    return status, keeps and attempt.http and not attempt.ends, ""


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Status of an answer, read to its end, and whether the server keeps the connection.

    Raises:
        asyncio.IncompleteReadError: It closed before the answer was whole.
    """
    while True:
        raw = await reader.readuntil(b"\r\n\r\n")
        status = int(raw[9:12])
        if status >= 200:
            break
    fields = {
        name.strip().lower(): value.strip().lower()
        for name, _, value in (line.partition(b":") for line in raw.split(b"\r\n")[1:])
    }
    length = fields.get(b"content-length")
    if length is not None:
        await reader.readexactly(int(length))
    else:
        await reader.read()
    return status, length is not None and fields.get(b"connection") != b"close"


async def close(writer: asyncio.StreamWriter) -> None:
    """Ends a connection, whatever the other side thinks of it."""
    writer.transport.abort()
