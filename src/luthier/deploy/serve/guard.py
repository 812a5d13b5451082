"""Who may ask, and how much: tokens, Host and Origin, sizes and depths, before anything is made of a request.

What an input may be lives in `backend.Limits`; slow connections in `connections`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import os
import re
import stat
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from luthier.deploy.serve.base import Refused
from luthier.errors import SettingError

Receive = Callable[[], Awaitable[Any]]
Headers = Mapping[bytes, bytes]

SHORTEST = 16
"""Characters of a token at least."""
REMEMBERED = 256
"""Hosts whose check is remembered at most."""
DISCARDED = 4
"""A body up to so many times the limit is read to its end, so that its sender gets to read why not."""

PATIENCE = 2.0
"""Seconds for which that is done at most."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
# Possessive, and a string without its end goes to the end of all: otherwise each quote after an open string
# would be tried as the beginning of another, which takes time by the square of the body.
_NESTING = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?|[\[\]{}]', re.DOTALL)


@dataclass(frozen=True)
class Bounds:
    """The largest request that is accepted.

    Attributes:
        body: Bytes.
        inputs: Of one request.
        depth: Of nested lists and objects in JSON.
        seconds: For a whole body to arrive.
    """

    body: int = 16 * 2**20
    inputs: int = 256
    depth: int = 16
    seconds: float = 20.0


class Guard:
    """Decides by a request's headers whether it goes on.

    Args:
        tokens: Any of which opens; none: all who reach the address may ask.
        hosts: Names, beside ``localhost`` and plain addresses, under which the server may be asked.
        bounds: Sizes.
    """

    def __init__(
        self, tokens: Iterable[str] = (), hosts: Iterable[str] = (), bounds: Bounds | None = None
    ) -> None:
        self.bounds = bounds or Bounds()
        self._tokens = [hashlib.sha256(token.encode()).digest() for token in tokens]
        self._hosts = {"localhost", *(host.lower().rstrip(".") for host in hosts)}
        self._known: dict[bytes, bool] = {}

    @property
    def needs_token(self) -> bool:
        """Whether a token is asked for."""
        return bool(self._tokens)

    def check_place(self, headers: Headers, version: str) -> None:
        """Host and Origin: a page of another site must not reach this server through its reader's browser,
        neither by a name that was bound anew to this address nor by a form.

        Raises:
            Refused: 400 without a Host, 403 for one or an Origin that is not this server's.
        """
        host = headers.get(b"host")
        if host is None:
            if version == "1.0":
                return
            raise Refused(400, "host", "The request has no Host header.")
        if not self._allowed(host):
            raise Refused(403, "host", "The server is not known under this Host. Allow it with --allow-host.")
        origin = headers.get(b"origin")
        if origin is not None and not self._own(origin, host):
            raise Refused(403, "origin", "Requests from pages of another origin are not answered.")
        if origin is None and headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site"):
            raise Refused(403, "origin", "Requests from pages of another origin are not answered.")

    def check_token(self, headers: Headers) -> None:
        """The bearer token, compared in constant time with each.

        Raises:
            Refused: 401 without one or with a wrong one.
        """
        if not self._tokens:
            return
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        digest = hashlib.sha256(given.strip()).digest()
        matches = [hmac.compare_digest(digest, token) for token in self._tokens]
        if kind.lower() != b"bearer" or not any(matches):
            raise Refused(401, "token", "A valid token is needed: Authorization: Bearer TOKEN.")

    def _allowed(self, host: bytes) -> bool:
        if host in self._known:
            return self._known[host]
        found = _is_address(name := _name(host)) or name in self._hosts
        if len(self._known) < REMEMBERED:
            self._known[host] = found
        return found

    def _own(self, origin: bytes, host: bytes) -> bool:
        """Whether a page's origin is this server, or a name that was allowed in so many words."""
        try:
            parts = urlsplit(origin.decode("ascii"))
        except ValueError:
            return False
        if parts.scheme not in ("http", "https"):
            return False
        same = parts.netloc.lower().encode() == host.lower()
        return same or (_name(parts.netloc.encode()) in self._hosts - {"localhost"})


def _name(host: bytes) -> str:
    """A Host header's name, without port and brackets; empty where it is none."""
    match = re.fullmatch(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?", host)
    return "" if match is None else match[1].decode().lower().strip("[]").rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def headers_of(scope: Mapping[str, Any]) -> dict[bytes, bytes]:
    """A request's headers by lower-case name.

    Raises:
        Refused: One that may be there once only is there twice.
    """
    pairs = scope["headers"]
    headers = dict(pairs)
    if len(headers) != len(pairs):
        single = (b"host", b"authorization", b"content-length", b"content-type", b"origin", b"x-request-id")
        names = [name for name, _ in pairs]
        for name in single:
            if names.count(name) > 1:
                raise Refused(400, "header", f"The header {name.decode()} is there more than once.")
    return headers


def request_id(headers: Headers) -> str:
    """The client's X-Request-ID, or a new one.

    Raises:
        Refused: It is longer than 64 characters, or has others than letters, digits and ``. _ : -``.
    """
    given = headers.get(b"x-request-id")
    if given is None:
        return os.urandom(8).hex()
    if not _REQUEST_ID.fullmatch(given):
        raise Refused(
            400,
            "request_id",
            "X-Request-ID must be 1 to 64 letters, digits, dots, colons, hyphens or underscores.",
        )
    return given.decode()


async def read_body(receive: Receive, headers: Headers, bounds: Bounds) -> bytes:
    """The whole body.

    Raises:
        Refused: 413 where it is too large, 408 where it does not arrive in time, 415 where it is compressed,
            400 where the client left.
    """
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise Refused(415, "encoding", "The body must not be compressed.")
    length = headers.get(b"content-length", b"0")
    announced = int(length) if length.isdigit() and len(length) < 16 else 0
    message = None
    try:
        async with asyncio.timeout(bounds.seconds):
            if announced > bounds.body:
                await _pass_over(receive, announced, headers, bounds.body)
                raise _too_large(bounds.body)
            message = await receive()
            if not message.get("more_body", False) and message["type"] == "http.request":
                body: bytes = message.get("body", b"")
                if len(body) > bounds.body:
                    raise _too_large(bounds.body)
                return body
            return await _read_on(receive, message, bounds.body)
    except TimeoutError:
        raise Refused(408, "slow", f"The body did not arrive within {bounds.seconds:g} seconds.") from None


async def _read_on(receive: Receive, message: Any, limit: int) -> bytes:
    parts, size = [], 0
    while True:
        if message["type"] != "http.request":
            raise Refused(400, "disconnect", "The client left before its request was whole.")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()


async def _pass_over(receive: Receive, announced: int, headers: Headers, limit: int) -> None:
    """Reads a body that is too large, where that is soon done: a client that is still sending when the
    connection closes never reads why."""
    if announced > DISCARDED * limit or b"expect" in headers:
        return
    try:
        async with asyncio.timeout(PATIENCE):
            while (await receive()).get("more_body", False):
                continue
    except TimeoutError:
        return


def _too_large(limit: int) -> Refused:
    return Refused(413, "body_too_large", f"The body has more than {limit:,} bytes, which is the limit here.")


def parse_json(body: bytes, depth: int) -> Any:
    """JSON values, nested no deeper than is allowed.

    Raises:
        Refused: 400 where it is no JSON, 422 where it is nested too deeply.
    """
    if body.count(b"[") + body.count(b"{") > depth and _deeper(body, depth):
        raise Refused(422, "depth", f"The JSON is nested more than {depth} deep.")
    try:
        return json.loads(body)
    except UnicodeDecodeError:
        raise Refused(400, "json", "The body is not UTF-8.") from None
    except (ValueError, RecursionError) as error:
        where = (
            f" at line {error.lineno}, column {error.colno}"
            if isinstance(error, json.JSONDecodeError)
            else ""
        )
        raise Refused(400, "json", f"The body is not JSON{where}.") from None


def _deeper(body: bytes, depth: int) -> bool:
    """Whether lists and objects are nested more than so deep, in time by the length of the body."""
    level = 0
    for match in _NESTING.finditer(body):
        mark = match[0]
        if mark in (b"[", b"{"):
            level += 1
            if level > depth:
                return True
        elif mark in (b"]", b"}"):
            level -= 1
    return False


def is_text(text: str) -> bool:
    """Whether a string has no half of a surrogate pair, which JSON can hold and no encoding can say."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


# -- settings ----------------------------------------------------------------------------------------------


def read_tokens(path: str | Path) -> list[str]:
    """Tokens from a file, one a line; empty lines and those that begin with # do not count.

    Raises:
        SettingError: It cannot be read, others may read it, or a token is short or none is there.
    """
    file = Path(path)
    try:
        mode = file.stat().st_mode
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"The token file {str(path)!r} cannot be read: {error}.") from None
    if os.name == "posix" and mode & (stat.S_IROTH | stat.S_IWOTH):
        raise SettingError(
            f"Everybody on this machine may read or change the token file {str(path)!r}.",
            f"Keep it to yourself: chmod 600 {path}",
        )
    tokens = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not tokens:
        raise SettingError(f"The token file {str(path)!r} has no token.", "Write one a line.")
    for number, token in enumerate(tokens, start=1):
        if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
            raise SettingError(
                f"Token {number} in {str(path)!r} is too short or has spaces or characters beyond ASCII;"
                f" expected at least {SHORTEST} letters, digits and signs.",
                "Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
            )
    return tokens


def is_local(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
