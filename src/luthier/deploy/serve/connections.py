"""`Connection`: uvicorn's HTTP/1.1 connection, with limits on what a slow or greedy client may hold.

Uvicorn bounds how long a connection idles between requests, but neither how long a request's head takes nor
how long a response is left unread.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol


class Connection(HttpToolsProtocol):
    """One client's connection. `bounded` sets the limits."""

    most: ClassVar[int] = 1000
    """Connections at a time; further ones are told 503 and closed."""
    head_bytes: ClassVar[int] = 65536
    """Of a request's line and headers."""
    head_seconds: ClassVar[float] = 10.0
    """From a connection's or a request's first byte to the end of its headers."""
    unread_seconds: ClassVar[float] = 30.0
    """For which a response may lie unread where the buffers are full."""
    ahead: ClassVar[int] = 64
    """Requests that a client may send ahead of their answers. Uvicorn would keep all that come, hundreds of
    thousands a second from a client that does not wait."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._head = 0
        self._in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Counts it in, or turns it away."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._turn_away(503, b"too many connections", b"retry-after: 1\r\n")
            return
        self._timer = self.loop.call_later(self.head_seconds, self._slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Lets go of the timers."""
        self._stop()
        if self._unread is not None:
            self._unread.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes, of which only so many may belong to the head."""
        if self._in_head:
            self._head += len(data)
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._in_head and self._head > self.head_bytes and not self.transport.is_closing():
            self._turn_away(431, b"the headers are too large")
        if len(self.pipeline) > self.ahead:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """A request's first byte."""
        super().on_message_begin()
        self._in_head = True
        if self._timer is None:
            self._timer = self.loop.call_later(self.head_seconds, self._slow)

    def on_headers_complete(self) -> None:
        """The end of its head."""
        self._stop()
        self._in_head, self._head = False, 0
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().resume_writing()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _slow(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self._head:
            self._turn_away(408, b"the headers did not arrive in time")
        else:
            self.transport.close()

    def _turn_away(self, status: int, why: bytes, more: bytes = b"") -> None:
        body = b'{"error":{"code":"connection","message":"' + why + b'"}}'
        self.transport.write(
            STATUS_LINE[status] + more + b"content-type: application/json\r\nconnection: close\r\n"
            b"content-length: " + str(len(body)).encode() + b"\r\n\r\n" + body
        )  # fmt: skip
        self.transport.close()


def bounded(most: int) -> type[Connection]:
    """Connections of which there are so many at most."""
    return type("Bounded", (Connection,), {"most": most})
