"""Responses, the least that is needed of them: bytes with their headers, sent in two messages."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from luthier.deploy.serve.base import Refused

Send = Callable[[dict[str, Any]], Awaitable[None]]
Pairs = tuple[tuple[bytes, bytes], ...]

JSON = b"application/json"
# What broken requests leave unread must not be taken for the next request.
CLOSING = {400, 408, 413, 415}


@dataclass(frozen=True)
class Response:
    """A whole response.

    Attributes:
        status: HTTP status.
        body: Its bytes.
        kind: Content-Type.
        headers: Further ones.
    """

    status: int
    body: bytes
    kind: bytes = JSON
    headers: Pairs = ()


def answer(value: Any, status: int = 200, headers: Pairs = ()) -> Response:
    """JSON."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(status, text.encode(), JSON, headers)


def refusal(refused: Refused, request: str, *, plain: bool = False) -> Response:
    """What a client is told of a refusal.

    Args:
        refused: The reason.
        request: The request's id.
        plain: As the Open Inference Protocol has it: ``error`` is the message.
    """
    headers: list[tuple[bytes, bytes]] = []
    if refused.retry_after is not None:
        headers.append((b"retry-after", str(max(1, round(refused.retry_after))).encode()))
    if refused.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refused.status in CLOSING or refused.code in ("draining",):
        headers.append((b"connection", b"close"))
    error: Any = refused.message if plain else {**described(refused), "request": request}
    return answer({"error": error}, refused.status, tuple(headers))


def described(refused: Refused) -> dict[str, Any]:
    """A refusal as JSON values."""
    return {"code": refused.code, "message": refused.message}


class Date:
    """The Date header, made anew once a second at most."""

    def __init__(self) -> None:
        self._second = 0
        self._text = b""

    def now(self) -> bytes:
        """Its value."""
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True).encode()
        return self._text


async def send_response(
    send: Send, response: Response, request: str, date: bytes, *, head: bool = False
) -> None:
    """Sends it.

    Args:
        send: The server's.
        response: What is sent.
        request: The request's id.
        date: The Date header's value.
        head: Whether the body is left out, as HEAD asks.
    """
    headers = [
        (b"content-type", response.kind),
        (b"content-length", str(len(response.body)).encode()),
        (b"x-request-id", request.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
        (b"date", date),
        *response.headers,
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else response.body})
