"""Requests that no server should have to meet, drawn from a seed: what its own OpenAPI document allows,
broken in one place. What is wrong about HTTP itself is `serve_wire`'s affair; sending them, and judging what
comes back, `serve_sender`'s.
"""

from __future__ import annotations

import base64
import json
import random
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import serve_wire
from serve_attempt import FORM, JSON, Attempt, post
from serve_bombs import gzip_bomb, picture, pictures
from serve_schema import Operation, Sampler

ODD = [
    None, True, False, -1, 0, 2**63, 10**400, -(10**400), 1e308, "", " ", "\0", "\ud800", "\U0010ffff", [],
    {}, [[]], [None], {"": None}, "x" * 100_000, [0] * 10_000, {"__proto__": {}, "constructor": {}},
    "../../../../etc/passwd", "file:///etc/passwd", "'; DROP TABLE models; --", "%s%n%x", "{{7*7}}",
    "a\r\nSet-Cookie: x=y", "=" * 33,
]  # fmt: skip
"""Values that go where others are expected."""
NO_JSON = {
    "not utf-8": b'{"inputs": "\xff\xfe\xc3\x28"}',
    "nan": b'{"inputs": NaN}',
    "infinity": b'{"inputs": [-Infinity]}',
    "huge number": b'{"inputs": 1' + b"0" * 20_000 + b"}",
    "huge exponent": b'{"inputs": [1e9999999, -1e-9999999]}',
    "nested": b"[" * 50_000,
    "nested and closed": b'{"inputs": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "nested objects": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    # Whoever looks for the end of a string again from each quote takes hours over this one.
    "quotes": b'{"inputs": [' + b"[]," * 20 + b'"' + b'\\"' * 50_000,
    "surrogate": b'{"inputs": "\\ud800"}',
    "surrogate in a name": b'{"\\udfff": 1, "inputs": ["a"]}',
    "raw control": b'{"inputs": "a\x00\x01b"}',
    "empty": b"",
    "blank": b" \n\t " * 1000,
    "single quotes": b"{'inputs': 'a'}",
    "comment": b'{"inputs": /* a */ "b"}',
}
"""Bodies that are no JSON, or JSON that readers differ about."""
MEDIA = [
    "", "text/plain", "application/xml", "application/x-www-form-urlencoded", "image/png", FORM, "a/b/c",
    "application/json; charset=utf-7", "application/json, text/html", "\xff\xfe", ";" * 50, "*/*",
    "multipart/form-data; boundary=", f"multipart/form-data; boundary={'x' * 5000}",
]  # fmt: skip
MARK = "b0undary"
PART = f'--{MARK}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n'
END = f"--{MARK}--\r\n"
FORMS = {
    "open": PART + "\r\nabc",
    "no head": f"--{MARK}\r\n\r\nabc\r\n{END}",
    "no name": f"--{MARK}\r\nContent-Disposition: form-data\r\n\r\nabc\r\n{END}",
    "other boundary": (PART + f"\r\nabc\r\n{END}").replace(MARK, "other"),
    "empty": "",
    "only the end": END,
    "long head": PART + f"X: {'y' * 20_000}\r\n\r\nabc\r\n{END}",
    "many heads": PART + "X: y\r\n" * 2000 + f"\r\nabc\r\n{END}",
    "many parts": (PART + "\r\nabc\r\n") * 1500 + END,
    "path": PART.replace("a.png", "../../etc/passwd") + f"\r\nabc\r\n{END}",
    "zero": PART.replace("a.png", "a\0.png") + f"\r\n\0\r\n{END}",
    "encoded": PART + f"Content-Transfer-Encoding: base64\r\n\r\n====\r\n{END}",
    "newlines": (PART + f"\r\nabc\r\n{END}").replace("\r\n", "\n"),
}
"""Multipart that does not hold together, or holds no picture."""


class Fuzzer:
    """Attempts in a fixed order.

    Args:
        document: The server's OpenAPI document.
        names: Values of path parameters.
        seed: All that is drawn depends on it.
    """

    def __init__(self, document: dict[str, Any], names: dict[str, str], seed: int) -> None:
        self.rng = random.Random(seed)
        self.sampler = Sampler(document, self.rng, picture())
        self.operations = list(self.sampler.operations(names))
        self.posts = [each for each in self.operations if JSON in each.bodies]
        self.uploads = [each for each in self.operations if FORM in each.bodies]
        # How often each is drawn: what costs much to send is seldom.
        self.ways: list[tuple[Callable[[], Attempt], int]] = [
            (self.wrong_value, 30), (self.broken_json, 20), (self.wrong_media, 8), (self.form, 8),
            (self.framing, 12), (self.target, 10), (self.headers, 12), (self.rubbish, 10),
            (self.picture, 5), (self.bomb, 1), (self.large, 1),
        ]  # fmt: skip

    def attempts(self, count: int) -> Iterator[Attempt]:
        """So many."""
        ways, weights = zip(*self.ways, strict=True)
        for way in self.rng.choices(ways, weights, k=count):
            yield way()

    def valid(self) -> tuple[Operation, Any]:
        """An operation that takes JSON, and a value that it answers."""
        operation = self.rng.choice(self.posts)
        value = self.sampler.value(operation.bodies[JSON])
        # What a schema does not say: a tensor has as many elements as its shape tells, and versions and
        # outputs are some of those that there are.
        if operation.path.endswith("/infer"):
            value["inputs"][0] |= {"shape": [2], "data": [self._element(), self._element()]}
        for name in ("version", "outputs"):
            value.pop(name, None)
        return operation, value

    # -- values ----------------------------------------------------------------------------------------------

    def wrong_value(self) -> Attempt:
        """One place of a valid value holds another, is missing, or has company."""
        operation, value = self.valid()
        at = self.rng.choice(list(_places(value)))
        way = self.rng.choice(["other", "other", "missing", "extra", "wrapped", "deep"])
        changes: dict[str, Callable[[Any], Any]] = {
            "other": lambda old: self.rng.choice(ODD),
            "extra": lambda old: {**old, "extra": 1} if isinstance(old, dict) else [old, 1],
            "wrapped": lambda old: {"value": old},
            "deep": lambda old: _nested(self.rng.choice([20, 60])),
        }
        changed = _without(value, at) if way == "missing" else _changed(value, at, changes[way])
        return Attempt(f"value {way}", post(operation.path, json.dumps(changed).encode()), bad=False)

    def broken_json(self) -> Attempt:
        """Bytes that are no JSON, or JSON that readers differ about."""
        operation, value = self.valid()
        body = json.dumps(value).encode()
        at = self.rng.randrange(1, len(body))
        made = {
            "cut": body[:at],
            "rubbish after": body + b" }{",
            "bytes": body[:at] + self.rng.randbytes(self.rng.randint(1, 4)) + body[at:],
            "utf-16": json.dumps(value).encode("utf-16"),
            "compressed": zlib.compress(body),
        }
        ways = {**NO_JSON, **made}
        way = self.rng.choice(list(ways))
        # Bytes that fall into a string may leave it whole, and some readers know UTF-16 by its mark.
        return Attempt(f"json {way}", post(operation.path, ways[way]), bad=way not in {"bytes", "utf-16"})

    def wrong_media(self) -> Attempt:
        """A good body under a wrong name."""
        operation, value = self.valid()
        media = {"Content-Type": self.rng.choice(MEDIA)}
        return Attempt("media type", post(operation.path, json.dumps(value).encode(), media), bad=False)

    def form(self) -> Attempt:
        """Multipart that does not hold together."""
        operation = self.rng.choice(self.uploads or self.posts)
        way = self.rng.choice(list(FORMS))
        headers = {"Content-Type": f"{FORM}; boundary={MARK}"}
        return Attempt(f"form {way}", post(operation.path, FORMS[way].encode(), headers))

    # -- files and sizes -------------------------------------------------------------------------------------

    def picture(self) -> Attempt:
        """Something that is no picture, or one that is not to be decoded, in each of the ways to send one."""
        way, data = self.rng.choice(list(pictures().items()))
        if self.uploads and self.rng.random() < 0.5:
            body = f"{PART}\r\n".encode() + data + f"\r\n{END}".encode()
            headers = {"Content-Type": f"{FORM}; boundary={MARK}"}
            return Attempt(f"picture {way}", post(self.rng.choice(self.uploads).path, body, headers))
        operation = self.rng.choice(self.posts)
        text = base64.b64encode(data).decode()
        inputs = [text, [text], [{"b64": text}], f"data:image/png;base64,{text}"]
        value: Any = {"inputs": self.rng.choice(inputs)}
        if operation.path.endswith("/infer"):
            value = {"inputs": [{"name": "input", "shape": [1], "datatype": "BYTES", "data": [text]}]}
        # To a model of texts a long word is a text.
        bad = bool(self.uploads)
        return Attempt(f"picture {way}", post(operation.path, json.dumps(value).encode()), bad=bad)

    def bomb(self) -> Attempt:
        """A little that becomes much once it is unpacked."""
        coding = {"Content-Encoding": self.rng.choice(["gzip", "deflate", "gzip, gzip"])}
        return Attempt("gzip bomb", post(self.rng.choice(self.posts).path, gzip_bomb(), coding))

    def large(self) -> Attempt:
        """More than is read: said beforehand, or found out."""
        path = self.rng.choice(self.posts).path
        if self.rng.random() < 0.5:
            promise = {"Content-Length": str(self.rng.choice([10**9, 10**12, 2**63 - 1]))}
            return Attempt("large promise", post(path, b"{", promise), http=False, ends=True)
        many = self.rng.choice([["a"] * 200_000, ["a " * 500_000], [["a"] * 100_000]])
        return Attempt("large body", post(path, json.dumps({"inputs": many}).encode()))

    # -- HTTP ------------------------------------------------------------------------------------------------

    def framing(self) -> Attempt:
        """See `serve_wire`."""
        operation, value = self.valid()
        return serve_wire.framing(self.rng, operation.path, json.dumps(value).encode())

    def target(self) -> Attempt:
        """See `serve_wire`."""
        return serve_wire.target(self.rng, self.rng.choice(self.operations).path)

    def headers(self) -> Attempt:
        """See `serve_wire`."""
        operation, value = self.valid()
        return serve_wire.headers(self.rng, operation.path, json.dumps(value).encode())

    def rubbish(self) -> Attempt:
        """See `serve_wire`."""
        return serve_wire.rubbish(self.rng)

    def _element(self) -> str:
        """An input as a string, as JSON has it."""
        if self.uploads:
            return self.sampler.file
        return str(self.sampler.value({"type": "string"}))


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each part of a value, itself first."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from _places(part, (*path, key))


def _changed(value: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """A copy in which one place is another."""
    if not path:
        return change(value)
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _changed(value[path[0]], path[1:], change)
    return copy


def _without(value: Any, path: tuple[Any, ...]) -> Any:
    """A copy that lacks one place; null where that is all there is."""
    if not path:
        return None
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) > 1:
        copy[path[0]] = _without(value[path[0]], path[1:])
    else:
        del copy[path[0]]
    return copy


@cache
def _nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value
