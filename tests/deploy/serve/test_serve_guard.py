from __future__ import annotations

import contextlib
import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import serve_live
from hypothesis import given, settings
from hypothesis import strategies as st
from serve_live import TOKEN, Live

from luthier.deploy.serve.backend import Backend
from luthier.deploy.serve.base import Refused
from luthier.deploy.serve.connections import Connection
from luthier.deploy.serve.guard import Bounds, Guard, parse_json, read_tokens
from luthier.deploy.serve.settings import ServeSettings
from luthier.errors import SettingError


def status(server: Live, **headers: str) -> int:
    return server.predict(["a"], headers=headers).status_code


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:9", "127.0.0.1:80", "[::1]:8080", "10.1.2.3", "LOCALHOST."]
)
def test_hosts_that_no_page_can_claim(server: Live, host: str) -> None:
    assert status(server, host=host) == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "a@b", ""]
)
def test_names_bound_to_this_address_are_refused(server: Live, host: str) -> None:
    assert status(server, host=host) == 403


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://localhost:1", 200),
        ("http://evil.example", 403),
        ("null", 403),
        ("http://localhost:2", 403),
        ("file://localhost:1", 403),
    ],
)
def test_pages_of_other_origins_are_refused(server: Live, origin: str, expected: int) -> None:
    assert status(server, host="localhost:1", origin=origin) == expected


def test_a_form_of_another_site_without_an_origin_is_refused(server: Live) -> None:
    assert status(server, **{"sec-fetch-site": "cross-site"}) == 403
    assert status(server, **{"sec-fetch-site": "same-origin"}) == 200


@pytest.mark.parametrize("name", ["a b", "x" * 65, "a/b", "é", "a\tb"])
def test_request_ids_are_checked(server: Live, name: str) -> None:
    said = server.client.post("/predict", json={"inputs": "a"}, headers=[(b"x-request-id", name.encode())])
    assert said.status_code == 400
    assert name not in said.text


def test_a_token_opens_and_nothing_else_does(backend: Backend) -> None:
    with serve_live.live(
        backend, tokens=(TOKEN, "another-token-of-enough"), hosts=("models.example",)
    ) as running:
        assert status(running) == 401
        assert running.predict("a").headers["www-authenticate"] == "Bearer"
        for wrong in ("Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN):
            assert status(running, authorization=wrong) == 401
        assert status(running, authorization=f"Bearer {TOKEN}") == 200
        assert status(running, authorization="bearer another-token-of-enough") == 200
        assert status(running, authorization=f"Bearer {TOKEN}", host="models.example") == 200
        for path, expected in (
            ("/v2/health/live", 200),
            ("/docs", 200),
            ("/metrics", 401),
            ("/openapi.json", 401),
        ):
            assert running.client.get(path).status_code == expected


def test_bodies_that_are_too_large(backend: Backend) -> None:
    with serve_live.live(backend, bounds=Bounds(body=1000)) as running:
        for size in (1001, 3000, 100_000):
            said = running.client.post("/predict", content=b"x" * size)
            assert (said.status_code, said.json()["error"]["code"]) == (413, "body_too_large")
        parts = iter([b"x" * 600] * 3)
        assert running.client.post("/predict", content=parts).status_code == 413
        assert running.predict("a").status_code == 200
        zipped = running.client.post("/predict", content=b"x", headers={"content-encoding": "gzip"})
        assert zipped.status_code == 415


def raw(server: Live) -> socket.socket:
    found = socket.create_connection(("127.0.0.1", server.port))
    found.settimeout(10)
    return found


def read_all(client: socket.socket) -> bytes:
    parts = []
    try:
        while part := client.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def test_slow_clients_time_out_and_hold_nobody_up(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "head_seconds", 0.5)
    with serve_live.live(backend, bounds=Bounds(seconds=0.5)) as running:
        silent, head, body = (raw(running) for _ in range(3))
        head.sendall(b"POST /predict HTTP/1.1\r\nHost: loc")
        body.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 50\r\n\r\n{"
        )
        assert running.predict("the cat").status_code == 200
        assert read_all(silent) == b""
        assert b" 408 " in read_all(head).split(b"\r\n")[0]
        assert b" 408 " in read_all(body).split(b"\r\n")[0]


def test_a_head_without_end_is_cut_off(server: Live) -> None:
    client, start = raw(server), time.monotonic()
    client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
    with contextlib.suppress(OSError):
        for _ in range(40):
            client.sendall(b"X-More: " + b"x" * 4000 + b"\r\n")
    # Where it was still sending, the system may have thrown away what it was told.
    assert read_all(client)[:12] in (b"HTTP/1.1 431", b"")
    assert time.monotonic() - start < Connection.head_seconds / 2
    assert server.predict("a").status_code == 200


def test_connections_are_limited(backend: Backend) -> None:
    with serve_live.live(backend, connections=5) as running:
        clients = [raw(running) for _ in range(5)]
        time.sleep(0.2)
        assert b" 503 " in read_all(raw(running)).split(b"\r\n")[0]
        for client in clients:
            client.close()
        time.sleep(0.2)
        assert running.predict("a").status_code == 200


@settings(deadline=None, max_examples=50)
@given(st.text() | st.binary().map(repr))
def test_brackets_in_strings_do_not_nest(text: str) -> None:
    assert parse_json(json.dumps({"a": "[" * 40 + text}).encode(), 4)["a"].endswith(text)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 30))
def test_nesting_is_counted(depth: int) -> None:
    body = b"[" * depth + b"1" + b"]" * depth
    if depth > 8:
        with pytest.raises(Refused, match="nested"):
            parse_json(body, 8)
    else:
        parse_json(body, 8)


@pytest.mark.parametrize(
    ("text", "mode", "match"),
    [
        ("", 0o600, "no token"),
        ("short", 0o600, "too short"),
        (TOKEN, 0o644, "Everybody"),
        ("a " * 20, 0o600, "spaces"),
    ],
)
def test_token_files(tmp_path: Path, text: str, mode: int, match: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(SettingError, match=match) as caught:
        read_tokens(file)
    assert TOKEN not in str(caught.value)
    file.write_text(f"# mine\n\n{TOKEN}\n")
    file.chmod(0o600)
    assert read_tokens(file) == [TOKEN]


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": "0.0.0.0"}, {"host": "192.168.1.5"}, {"host": "models.example"}, {"port": 70000},
        {"workers": 0}, {"max_batch": 0}, {"queue": 0}, {"timeout": 0}, {"threads": 0},
        {"name": "a/b"}, {"name": ""},
        {"token_file": "/no/such/file"},
    ],
)  # fmt: skip
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        ServeSettings("model", **wrong).check()


def test_a_name_is_made_of_the_folders() -> None:
    assert ServeSettings("runs/my reviews").model_name == "my-reviews"
    assert ServeSettings("runs/reviews/model").model_name == "reviews"


def test_tokens_are_compared_whole() -> None:
    guard = Guard([TOKEN])
    guard.check_token({b"authorization": f"Bearer {TOKEN}".encode()})
    for cut in range(len(TOKEN)):
        with pytest.raises(Refused):
            guard.check_token({b"authorization": f"Bearer {TOKEN[:cut]}".encode()})
