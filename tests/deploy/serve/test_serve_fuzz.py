"""Ten thousand requests that are wrong in some way, at real servers: each is refused for what it is, none is
the server's own failure, and right requests are answered as before, in between and afterwards. FUZZ says how
many, where it should be more or fewer.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serve_attempt import JSON, Attempt, post
from serve_bombs import SIDE, UNPACKED, gzip_bomb, picture, pictures
from serve_malformed import Fuzzer
from serve_schema import Sampler
from serve_sender import send, verdict

from luthier.deploy.serve import protocol
from luthier.deploy.serve.base import Refused
from luthier.deploy.serve.guard import Bounds, parse_json
from servers import Server

ATTEMPTS = int(os.environ.get("FUZZ") or 10_000)
NAME = "fuzzed"
GROWTH = 200 * 2**20
"""Bytes that a server may grow by meanwhile: less than any of the bombs would take."""
KINDS = {"text": ("distilbert", 0.75), "image": ("vit", 0.25)}
"""A tiny model of each kind, and its share of the requests."""


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(
    kind: str, finished: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = finished(KINDS[kind][0]).folder
    options = [f"--name={NAME}", "--threads=1"]

    def command(port: int) -> list[str]:
        return [sys.executable, "-m", "luthier.cli.main", "serve", str(folder), f"--port={port}", *options]

    log = tmp_path_factory.mktemp("log") / "server.log"
    with Server(command, log, path="/v2/health/ready") as running:
        yield running


def described(server: Server) -> dict[str, Any]:
    status, body = server.ask("GET", "/openapi.json")
    assert status == 200
    document: dict[str, Any] = json.loads(body)
    return document


def fuzzer(server: Server, seed: int = 0) -> Fuzzer:
    return Fuzzer(described(server), {"name": NAME}, seed)


def test_what_its_own_description_allows_is_answered(server: Server) -> None:
    made = fuzzer(server)
    assert made.posts and len(made.operations) > 5
    for _ in range(60):
        operation, value = made.valid()
        status, body = server.ask(operation.method, operation.path, value)
        assert status == 200, (operation, value, body)


def test_wrong_requests_are_refused_and_right_ones_answered(server: Server, kind: str) -> None:
    count = int(KINDS[kind][1] * ATTEMPTS)
    made = fuzzer(server, seed=1)
    operation, value = made.valid()
    before = json.loads(server.ask("POST", operation.path, value)[1])
    right = Attempt("right", post(operation.path, json.dumps(value).encode()), bad=False)
    # First all ways once, so that what is loaded when first needed counts as no growth.
    asyncio.run(send(server.port, made.attempts(150)))
    start = server.memory()

    def mixed() -> Iterator[Attempt]:
        for number, attempt in enumerate(made.attempts(count)):
            yield attempt
            if number % 50 == 0:
                yield right

    found = asyncio.run(send(server.port, mixed()))
    assert not found.wrong, "\n".join([f"{len(found.wrong)} of {found.sent}:", *found.wrong[:20]])
    assert found.sent > count and found.statuses["200"] >= count // 50
    assert server.memory() - start < GROWTH
    after = json.loads(server.ask("POST", operation.path, value)[1])
    assert _told(after) == _told(before)
    assert "Traceback" not in server.printed()


def _told(answer: dict[str, Any]) -> Any:
    """Without what is new in each answer."""
    if "predictions" in answer:
        return [{key: value for key, value in each.items() if key != "id"} for each in answer["predictions"]]
    return [each["data"] for each in answer["outputs"] if each["name"] != "id"]


# -- what it found -------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from('a"\\[]{}'), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(['"', "[", "{\\"]), inner, max_size=2)
    ),
)


@settings(deadline=None)
@given(VALUES, st.integers(0, 6))
def test_nesting_is_counted_outside_of_strings(value: Any, depth: int) -> None:
    body = json.dumps(value).encode()
    if _nested(value) > depth:
        with pytest.raises(Refused, match="nested"):
            parse_json(body, depth)
    else:
        assert parse_json(body, depth) == value


def _nested(value: Any) -> int:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if parts is None else 1 + max(map(_nested, parts), default=0)


@pytest.mark.parametrize(
    "body", [b'"' + b'\\"' * 100_000, b'"\\', b'"' * 200_001, b'["a' + b"\\\\" * 100_000 + b"\\"]
)
def test_open_strings_are_looked_at_once(body: bytes) -> None:
    """Going back to each quote would take minutes."""
    began = time.process_time()
    with pytest.raises(Refused, match="not JSON"):
        parse_json(b"[" + b"[]," * 20 + body, 16)
    assert time.process_time() - began < 2


def test_an_id_that_cannot_be_given_back_is_refused() -> None:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}
    body = {"inputs": [tensor], "id": "schön"}
    assert protocol.read(json.dumps(body).encode(), None, "text", Bounds()).id == "schön"
    with pytest.raises(Refused, match="id must be a string"):
        protocol.read(json.dumps({**body, "id": "\ud800"}).encode(), None, "text", Bounds())


# -- the fuzzer itself ---------------------------------------------------------------------------------------

TEXTS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
TREE = {"$ref": "#/components/schemas/Tree"}
ASK: dict[str, Any] = {
    "type": "object",
    "required": ["inputs"],
    "additionalProperties": False,
    "properties": {
        "inputs": {"anyOf": [TEXTS, {"type": "string"}]},
        "kind": {"enum": ["a", "b"]},
        "count": {"type": "integer", "minimum": 2, "maximum": 4},
        "share": {"type": ["number", "null"], "exclusiveMinimum": 0},
        "tree": TREE,
    },
}
BODY = {"content": {JSON: {"schema": {"$ref": "#/components/schemas/Ask"}}}}
DOCUMENT: dict[str, Any] = {
    "paths": {"/predict": {"post": {"requestBody": BODY}}, "/models/{name}": {"get": {}}},
    "components": {
        "schemas": {
            "Ask": ASK,
            "Tree": {"type": "object", "properties": {"left": TREE, "on": {"type": "boolean"}}},
        }
    },
}


def test_drawn_values_are_what_the_schema_allows() -> None:
    sampler = Sampler(DOCUMENT, random.Random(0), b"file")
    asking, telling = sampler.operations({"name": "x"})
    assert (telling.path, telling.bodies) == ("/models/x", {})
    schema = {**asking.bodies[JSON], "components": DOCUMENT["components"]}
    drawn = [sampler.value(asking.bodies[JSON]) for _ in range(200)]
    for value in drawn:
        jsonschema.validate(value, schema)
    assert {type(value["inputs"]) for value in drawn} == {str, list}
    assert {value.get("count") for value in drawn} == {None, 2, 3, 4}


def test_attempts_depend_on_the_seed_alone_and_are_of_every_kind() -> None:
    first, again, other = ([*Fuzzer(DOCUMENT, {}, seed).attempts(400)] for seed in (3, 3, 4))
    assert first == again != other
    kinds = {attempt.kind.split()[0] for attempt in first}
    names = {"value", "json", "media", "form", "picture", "framing", "target", "header", "rubbish"}
    assert kinds >= names


def test_the_verdict_is_on_servers_that_fail() -> None:
    whole, broken = Attempt("x", b""), Attempt("x", b"", http=False)
    assert verdict(whole, 422) == verdict(broken, 400) == verdict(broken, None) == ""
    assert verdict(whole, 500) == "answered with 500"
    assert verdict(whole, 200) == "answered with 200"
    assert verdict(Attempt("x", b"", bad=False), 200) == ""
    assert verdict(whole, None) == "closed without an answer"


def test_bombs_are_small_and_large() -> None:
    assert len(gzip_bomb()) * 100 < UNPACKED
    bomb = pictures()["bomb"]
    assert len(bomb) * 100 < SIDE * SIDE // 8
    assert picture().startswith(b"\x89PNG") and not picture("JPEG").startswith(b"\x89PNG")
