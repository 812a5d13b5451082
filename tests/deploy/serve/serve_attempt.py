"""`Attempt`: something that is sent to a server to see what it makes of it, and how requests become bytes."""

from __future__ import annotations

from dataclasses import dataclass

JSON, FORM = "application/json", "multipart/form-data"


@dataclass(frozen=True)
class Attempt:
    """Something that is sent.

    Attributes:
        kind: What was done to it.
        data: All bytes.
        http: Whether it is whole HTTP, so that an answer is due; otherwise the connection may just end.
        bad: Whether it must be refused; otherwise it may have come out valid.
        ends: Whether the client closes its side after it.
    """

    kind: str
    data: bytes
    http: bool = True
    bad: bool = True
    ends: bool = False


def message(
    method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None, *, length: bool = True
) -> bytes:
    """A request as bytes; its head goes as UTF-8."""
    fields = {"Host": "127.0.0.1", **(headers or {})}
    if length and (body or method in {"POST", "PUT", "PATCH"}):
        fields.setdefault("Content-Length", str(len(body)))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def post(path: str, body: bytes, headers: dict[str, str] | None = None, *, length: bool = True) -> bytes:
    """A POST as bytes, of JSON unless the headers say otherwise."""
    return message("POST", path, body, {"Content-Type": JSON, **(headers or {})}, length=length)
