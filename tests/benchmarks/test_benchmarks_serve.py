"""The load that servers are compared under: what it counts, which rows and bars are made of it, and whether a
server's memory is said to grow."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from serve_sender import Found

import fuzz
import load
import serve
import served
import soak
from servers import Server, Unserved

TITLES = {"luthier": "ours", "litserve": "LitServe", "fastapi": "FastAPI"}
ECHO = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200 if b"text" in body else 422)
        self.send_header("CONTENT-LENGTH", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST
    log_message = lambda *_: None
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    log = tmp_path_factory.mktemp("echo") / "log"
    with Server(lambda port: [sys.executable, "-c", ECHO, str(port)], log, body={"inputs": "text"}) as server:
        yield server


def rounds(rate, p99, count=3):
    return [serve.Round(rate * (1 + 0.01 * at), p99 / 3, p99 * (1 + 0.01 * at), 0.1) for at in range(count)]


def row(found, name):
    return next(each for each in found if each["name"] == name)


def test_a_load_counts_answers_and_their_times(echo):
    bodies = [{"inputs": f"text {number}"} for number in range(7)]
    found = asyncio.run(load.Load([load.request("/predict", each) for each in bodies], 0.3).run(echo.port, 3))
    assert set(found["statuses"]) == {"200"} and found["answered"] == found["statuses"]["200"] > 3
    assert len(found["latencies"]) == found["answered"] and 0 < min(found["latencies"]) < 1


def test_each_request_once_gives_all_answers(echo):
    bodies = [{"inputs": f"text {number}"} for number in range(20)]
    found = serve.send(echo, bodies, connections=4, seconds=None)["answers"]
    assert [json.loads(found[str(number)]) for number in range(20)] == bodies


def test_other_answers_than_200_end_the_comparison(echo):
    with pytest.raises(AssertionError, match="422"):
        serve.send(echo, [{"inputs": "text"}, {"inputs": "refused"}], connections=1, seconds=None)


@pytest.mark.parametrize("off", [1e-5, 0.01])
def test_answers_are_held_against_the_model(echo, off):
    said = [{"label": "a", "probabilities": {"a": 0.7, "b": 0.3}}]
    answer = {"label": "a", "probabilities": {"a": 0.7, "b": 0.3 + off}}
    side = serve.Side("x", "X", lambda port: [], lambda body: answer)
    if off < serve.APART:
        serve.compare_answers(side, echo, ["text"], said)
    else:
        with pytest.raises(AssertionError, match="x answers text 0"):
            serve.compare_answers(side, echo, ["text"], said)


def test_an_answer_without_a_length_cannot_be_measured():
    assert load.content_length(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n") == 12
    with pytest.raises(ValueError, match="Content-Length"):
        load.content_length(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")


def test_a_round_is_summed():
    found = {"latencies": [at / 1000 for at in range(1, 1001)], "answered": 1000, "seconds": 10.0, "cpu": 2.0}
    done = serve.summed(found)
    assert (done.rate, done.generator) == (100.0, 0.2)
    assert done.p50 == pytest.approx(500, rel=0.01) and done.p99 == pytest.approx(990, rel=0.01)


def test_bars_are_at_the_connections_they_are_meant_for():
    slow = {"luthier": rounds(140, 50), "litserve": rounds(100, 60), "fastapi": rounds(150, 40)}
    fast = {"luthier": rounds(160, 50), "litserve": rounds(100, 40), "fastapi": rounds(150, 60)}
    found = serve.rows({1: slow, 8: slow, 32: fast, 128: slow}, TITLES)
    assert len(found) == 4 * 2 * 2
    assert row(found, "1/fastapi: throughput")["met"] is False
    assert row(found, "1/litserve: throughput")["met"] is None is row(found, "8/litserve: p99")["met"]
    assert row(found, "32/litserve: throughput")["met"] is True
    assert row(found, "32/litserve: p99")["met"] is False
    assert row(found, "128/litserve: throughput")["met"] is False
    assert row(found, "128/litserve: p99")["met"] is True
    assert row(found, "128/litserve: throughput")["ratio"] == pytest.approx(1.4)


def test_both_ways_of_ours_are_held_against_every_peer():
    sides = {"luthier": rounds(100, 50), "luthier-onnx": rounds(200, 30), "litserve": rounds(100, 60)}
    found = serve.rows({32: sides}, TITLES)
    assert not row(found, "32/litserve: throughput")["met"]
    assert row(found, "32/litserve: throughput, ONNX Runtime")["met"]
    assert row(found, "32/litserve: p99, ONNX Runtime")["ratio"] == 0.5
    assert len(found) == 4


def test_ratios_are_of_the_same_round():
    # The machine was twice as fast in one round than in another: no matter for the ratio.
    ours, theirs = ([serve.Round(rate * scale, 1, 1) for scale in (1, 2, 0.5)] for rate in (150, 100))
    found = row(serve.rows({32: {"luthier": ours, "litserve": theirs}}, TITLES), "32/litserve: throughput")
    assert found["ratio"] == pytest.approx(1.5) and found["met"]
    assert found["spread"] == "1.50 to 1.50 over 3 rounds"


def test_rows_are_chosen_by_connections():
    assert serve.chosen([]) == ([1, 8, 32, 128], True)
    assert serve.chosen(["128", "1"]) == ([1, 128], False)
    assert serve.chosen(["idle"]) == ([], True)
    with pytest.raises(ValueError, match="No such row: 7"):
        serve.chosen(["7"])


def test_idling_is_under_a_hundredth_of_a_core():
    found = serve.idle_row({"luthier": 0.2, "litserve": 12.0}, TITLES)
    assert found["met"] and found["peer"] == "LitServe 12.0"
    assert not serve.idle_row({"luthier": 0.1, "luthier-onnx": 1.5}, TITLES)["met"]


def test_texts_are_of_mixed_lengths_and_the_same_each_time():
    texts = served.texts()
    words = sorted(len(text.split()) for text in texts)
    assert texts == served.texts() and len(set(texts)) > 350
    assert words[len(words) // 2] < 25 < 60 < words[int(0.97 * len(words))]


def test_a_server_that_ends_at_once_says_why(tmp_path: Path):
    with pytest.raises(Unserved, match="no such thing"):
        Server(lambda port: [sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path / "log")


def test_a_paused_server_takes_no_time_and_goes_on(echo):
    echo.pause()
    before = echo.cpu()
    echo.resume()
    assert echo.ask("POST", "/", "text")[0] == 200
    assert echo.cpu() >= before and echo.memory() > 2**20


# -- wrong requests ------------------------------------------------------------------------------------------


def test_a_wrong_answer_or_a_dead_server_fails():
    counts = Counter({"422": 3, "413": 1, "200": 2, "closed": 4})
    good = fuzz.row("text", Found(counts, [], 0.2), 1.0, 2.0, alive=True)
    assert good["met"] and good["peer"] == "10 requests in 1 s: 2 2xx, 4 4xx, 4 closed; +2 MiB"
    assert not fuzz.row("text", Found(counts, ["one"], 0.2), 1.0, 2.0, alive=True)["met"]
    assert not fuzz.row("text", Found(counts, [], 0.2), 1.0, 2.0, alive=False)["met"]


# -- soaking -------------------------------------------------------------------------------------------------


def samples(memory):
    return [soak.Sample(5.0 * at, each, 20, 9) for at, each in enumerate(memory)]


@settings(deadline=None, max_examples=30)
@for_all(st.integers(0, 10_000), st.floats(100, 2000), st.floats(-0.2, 0.2))
def test_growth_is_found_whatever_the_noise(seed, size, share):
    noise = np.random.default_rng(seed).normal(scale=0.001 * size, size=360)
    # All there is in the first half is start-up, and does not count.
    ramp = np.clip(np.arange(360) / 180 - 1, 0, None)
    found, (low, high) = soak.growth(samples(size * (1 + share * ramp) + noise))
    assert low <= found <= high
    assert found == pytest.approx(share / (1 + share / 2), abs=0.003)


def test_a_single_leap_is_no_growth_and_a_leak_is():
    flat = 500 + np.random.default_rng(0).normal(size=360)
    leap = flat.copy()
    leap[200] += 300
    clients = SimpleNamespace(counts=Counter({"good 200": 5}), wrong=[])
    for memory, met in ((flat, True), (leap, True), (flat + np.arange(360) * 0.1, False)):
        found = soak.rows(samples(memory), clients)
        assert row(found, "memory")["met"] is met
        assert row(found, "files and threads")["met"] and row(found, "answers")["met"]


def test_files_left_open_and_wrong_answers_are_told():
    taken = [*samples([500.0] * 100), soak.Sample(500.0, 500.0, 40, 9)]
    clients = SimpleNamespace(counts=Counter({"good 500": 1}), wrong=["one"])
    found = soak.rows(taken, clients)
    assert not row(found, "files and threads")["met"] and not row(found, "answers")["met"]
