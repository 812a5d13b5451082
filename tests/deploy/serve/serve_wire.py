"""What can be wrong about HTTP itself: lengths and chunks, methods and paths, headers, and bytes that are no
HTTP. What is wrong with bodies is `serve_malformed`'s affair.
"""

from __future__ import annotations

import random

from serve_attempt import Attempt, message, post

LENGTHS = {
    "negative": "-1", "words": "ten", "plus": "+5", "hex": "0x10", "two values": "5, 6", "huge": "9" * 40,
    "float": "1.5", "blank": " ", "twice": "3\r\nContent-Length: 4",
}  # fmt: skip
METHODS = ["PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"]
NO_METHODS = ["BREW", "get", "X" * 200, "G\0T", "GET/", "\xff"]
PATHS = [
    "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/%00", "/%ff%fe", "//", "/" + "a" * 8000, "/a" * 2000,
    "/predict/", "/predict%20", "/PREDICT", "/predict;a=b", "/v2/models/", "/v2/models//infer",
    "/v2/models/%2e%2e/infer", "/v2/models/" + "x" * 3000 + "/infer", "/v2/models/none/versions/0/infer",
    "/v2/models/none/versions/-1/ready", "/metrics/../predict", "/.git/config",
]  # fmt: skip
NO_PATHS = ["/\xff", "/日本", "*", "http://elsewhere.example/predict", "predict", "?", "/a b"]
IDS = ["x" * 5000, "a b\tc", "\x7f", "é" * 10, "${jndi:ldap://x}", "<script>", ";", "\\"]

REFUSED: dict[str, dict[str, str]] = {
    "other host": {"Host": "elsewhere.example"},
    "host rubbish": {"Host": "a b@c:d:e"},
    "host list": {"Host": "127.0.0.1, elsewhere"},
    "no host": {"Host": ""},
    "other origin": {"Origin": "http://elsewhere.example"},
    "null origin": {"Origin": "null"},
    "br": {"Content-Encoding": "br"},
    "gzip": {"Content-Encoding": "gzip"},
    "unknown coding": {"Content-Encoding": "x"},
}
"""Headers with which nothing may be answered."""
STRANGE: dict[str, dict[str, str]] = {
    "long field": {"X-Long": "x" * 200_000},
    "many fields": {f"X-{at}": "y" for at in range(3000)},
    "no name": {"": "x"},
    "blank in a name": {"X Y": "z"},
    "control": {"X": "a\0b"},
    "folded": {"X": "a\r\n b"},
    "bare return": {"X": "a\rb"},
    "two hosts": {"Host": "127.0.0.1\r\nHost: elsewhere"},
    "expect": {"Expect": "100-continue"},
    "expect rubbish": {"Expect": "teapot"},
    "websocket": {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "x"},
    "h2c": {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "A"},
    "bearer": {"Authorization": "Bearer"},
    "basic": {"Authorization": "Basic \xff"},
    "long token": {"Authorization": "Bearer " + "x" * 9000},
    "accept": {"Accept": "text/html;q=x", "Accept-Encoding": "br;q=9"},
    "forwarded": {"X-Forwarded-For": "1.2.3.4," * 500, "Forwarded": "for=;;;"},
    "close": {"Connection": "close, close, keep-alive"},
}
"""Headers that a server may refuse, pass over or heed."""


def framing(rng: random.Random, path: str, body: bytes) -> Attempt:
    """A good body, with a length or chunks that do not add up."""
    size = f"{len(body):x}".encode()
    end = b"\r\n0\r\n\r\n"
    chunks = {
        "chunk size": b"zz\r\n" + body + end,
        "negative chunk": b"-5\r\n" + body + end,
        "huge chunk": b"f" * 20 + b"\r\n" + body,
        "chunk too short": b"2\r\n" + body + end,
        "chunk too long": size + b"f\r\n" + body,
        "no last chunk": size + b"\r\n" + body + b"\r\n",
        "long extension": size + b";" + b"x" * 70_000 + b"\r\n" + body + end,
    }
    lengths = {**LENGTHS, "too long": str(len(body) + 10), "too short": str(len(body) // 2)}
    way = rng.choice([*lengths, *chunks, "both"])
    if way in lengths:
        data = post(path, body, {"Content-Length": lengths[way]})
    elif way in chunks:
        data = post(path, chunks[way], {"Transfer-Encoding": "chunked"}, length=False)
    else:
        headers = {"Transfer-Encoding": "chunked", "Content-Length": "4"}
        data = post(path, size + b"\r\n" + body + end, headers)
    # Chunks hold where both are given or an extension is long.
    bad = way not in {"both", "long extension"}
    return Attempt(f"framing {way}", data, http=False, bad=bad, ends=True)


def target(rng: random.Random, path: str) -> Attempt:
    """A method or a path that is not there, or is none."""
    body = b"{}" if rng.random() < 0.3 else b""
    way = rng.choice(["method", "no method", "path", "no path"])
    if way in {"method", "no method"}:
        method = rng.choice(METHODS if way == "method" else NO_METHODS)
        return Attempt(f"target {way}", message(method, path, body), http=way == "method")
    path = rng.choice(PATHS if way == "path" else NO_PATHS)
    data = message(rng.choice(["GET", "POST"]), path, body)
    return Attempt(f"target {way}", data, http=way == "path")


def headers(rng: random.Random, path: str, body: bytes) -> Attempt:
    """A good request with header fields that are too many, too long, or not what they should be."""
    way = rng.choice([*REFUSED, *STRANGE, "request id"])
    fields = REFUSED.get(way) or STRANGE.get(way) or {"X-Request-ID": rng.choice(IDS)}
    bad = way in REFUSED or way == "request id"
    return Attempt(f"header {way}", post(path, body, fields), http=False, bad=bad)


def rubbish(rng: random.Random) -> Attempt:
    """What is no HTTP, or another one."""
    ways = {
        "random": rng.randbytes(rng.randint(1, 600)),
        "zeros": bytes(rng.randint(1, 5000)),
        "newlines": b"\r\n" * rng.randint(1, 3000),
        "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(500),
        "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + rng.randbytes(30),
        "http 0.9": b"GET /predict\r\n\r\n",
        "http 9.9": b"GET /predict HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",
        "no version": b"POST /predict\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}",
        "endless line": b"GET /" + b"a" * 300_000,
        "endless field": b"GET / HTTP/1.1\r\nX: " + b"a" * 300_000,
        "half a head": b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le",
        "redis": b"*1\r\n$4\r\nPING\r\n",
        "smtp": b"EHLO elsewhere\r\nMAIL FROM:<a@b>\r\n",
        "nothing": b"",
    }
    way = rng.choice(list(ways))
    return Attempt(f"rubbish {way}", ways[way], http=False, ends=True)
