"""The webhook: told once, again where the other side fails, never elsewhere, and no secret in a log."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from luthier.errors import SettingError
from luthier.monitor import webhook


class Listener(HTTPServer):
    """Answers with the statuses it is given, the last one for ever; keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses = [200]
        self.paths: list[str] = []
        self.bodies: list[dict] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook?token=secret"


class Handler(BaseHTTPRequestHandler):
    server: Listener

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.append(self.path)
        self.server.bodies.append(json.loads(body))
        statuses = self.server.statuses
        self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self.send_error(404)

    def log_message(self, *arguments: object) -> None:
        """Keeps quiet."""


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def test_it_is_told_once(listener) -> None:
    assert webhook.send(listener.url, {"event": "alarm", "value": math.nan, "ends": (1.0, math.inf)})
    assert listener.bodies == [{"event": "alarm", "value": None, "ends": [1.0, None]}]
    assert listener.paths == ["/hook?token=secret"]


def test_it_is_told_again_where_the_other_side_fails(listener) -> None:
    listener.statuses = [500, 503, 204]
    pauses: list[float] = []
    assert webhook.send(listener.url, {"event": "alarm"}, sleep=pauses.append)
    assert len(listener.bodies) == 3 and pauses == [1.0, 2.0]


def test_it_gives_up(listener, caplog) -> None:
    listener.statuses = [500]
    pauses: list[float] = []
    assert not webhook.send(listener.url, {}, sleep=pauses.append)
    assert len(listener.bodies) == webhook.TRIES and len(pauses) == webhook.TRIES - 1
    assert "status 500" in caplog.text and "secret" not in caplog.text and "hook?" not in caplog.text


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 404])
def test_it_follows_nothing_elsewhere_and_does_not_insist(listener, status) -> None:
    listener.statuses = [status]
    assert not webhook.send(listener.url, {}, sleep=lambda seconds: None)
    assert listener.paths == ["/hook?token=secret"]


def test_nobody_there(caplog) -> None:
    assert not webhook.send("http://127.0.0.1:9/secret", {}, sleep=lambda seconds: None)
    assert "http://127.0.0.1" in caplog.text and "secret" not in caplog.text


@pytest.mark.parametrize(
    "url",
    ["ftp://x/secret", "file:///etc/secret", "x/secret", "http://", "https:///secret", "http://x:99999/secret",
     "http://x/a b", "http://[secret", ""],
)  # fmt: skip
def test_what_is_no_webhook_is_refused_and_not_repeated(url) -> None:
    with pytest.raises(SettingError) as caught:
        webhook.check(url)
    assert "secret" not in str(caught.value)
