"""How fast `luthier serve` is: requests a second and their 99th percentile, beside LitServe and a handler
written by hand, with the same weights, the same threads and the same texts, one text a request.

All servers are up from the start and paused but for the one whose turn it is. Each number of connections is
gone through on each side in turn, ROUNDS times; a ratio is of one round, its spread that of the rounds. The
load comes from one process with one thread (`load`), on the same cores as the server; a row says what share
of one it took. What each server answers is first held against what the model itself says.

Ours runs in two ways, as the start-up check would choose: with torch, where there is the run alone, and with
ONNX Runtime, where an export of it lies beside it. Each is held against every peer, by the same bars.

LitServe runs in three ways (`outside`): with batches as large as ours, padded as they come; with batches that
are sorted by length and computed in parts, as somebody would who knows that his texts differ in length; and
with its defaults, which make no batches. SECONDS and ROUNDS make it shorter or longer, ROW picks numbers of
connections ("1 32") or ``idle``; what is shorter than usual is not recorded.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import served
import table
from outside.environment import Unavailable, interpreter
from served import say
from servers import LUTHIER, Server, Side

HERE = Path(__file__).parent
# torch and transformers as ours are; the rest is exact, so that the figures can be had again.
REQUIREMENTS = [
    "litserve==0.2.19", "fastapi==0.165.0", "uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0",
    "torch==2.13.0", "transformers==5.23.0",
]  # fmt: skip
CONNECTIONS = (1, 8, 32, 128)
USUAL = 7.0
SECONDS = float(os.environ.get("SECONDS") or USUAL)
ROUNDS = int(os.environ.get("ROUNDS") or 5)
THREADS = int(os.environ.get("THREADS") or os.cpu_count() or 1)
BATCH = 32
# Of 0, 2 and 10 ms and of parts of 4 and 8, what made LitServe the fastest.
GATHERS, PART = 0.002, 4
IDLE = 20.0
OURS = {"luthier": "", "luthier-onnx": ", ONNX Runtime"}
"""The ways of ours, and what rows add for them."""
APART = 1e-3
"""How far a probability may be from the model's own: a batch is padded, and sums run in another order."""


@dataclass(frozen=True)
class Round:
    """What one side did in one round.

    Attributes:
        rate: Requests a second.
        p50: Milliseconds.
        p99: Milliseconds.
        generator: The load generator's share of a core.
    """

    rate: float
    p50: float
    p99: float
    generator: float = 0.0


Measured = dict[int, dict[str, list[Round]]]
"""By connections and side."""


def sides(run: Path) -> list[Side]:
    """All that are compared, ours first.

    Raises:
        Unavailable: The environment of the others cannot be made.
    """
    python, folder, outside = str(interpreter(REQUIREMENTS)), str(run / "model"), HERE / "outside"

    def ours(place: Path, backend: str) -> Any:
        options = [f"--threads={THREADS}", f"--max-batch={BATCH}", f"--backend={backend}"]
        return lambda port: [*LUTHIER, str(place), f"--port={port}", *options]

    def litserve(batch: int, gathers: float, part: int) -> Any:
        script, options = str(outside / "litserve_text.py"), (THREADS, batch, gathers, part)
        return lambda port: [python, script, str(port), folder, *map(str, options)]

    def fastapi(port: int) -> list[str]:
        return [python, str(outside / "fastapi_text.py"), str(port), folder, str(THREADS)]

    def first(body: Any) -> Any:
        return body["predictions"][0]

    return [
        Side("luthier", "luthier serve", ours(run, "torch"), first, outside=False),
        Side("luthier-onnx", "luthier serve", ours(served.exported(run), "auto"), first, outside=False),
        Side("litserve", f"LitServe, batches of {BATCH}", litserve(BATCH, GATHERS, BATCH)),
        Side("litserve-parts", f"LitServe, batches in parts of {PART}", litserve(BATCH, GATHERS, PART)),
        Side("litserve-defaults", "LitServe, its defaults", litserve(1, 0.0, 1)),
        Side("fastapi", "FastAPI by hand", fastapi),
    ]


def send(server: Server, bodies: Sequence[Any], connections: int, seconds: float | None) -> dict[str, Any]:
    """What the load generator found, in a process of its own.

    Raises:
        AssertionError: Something was answered with another status than 200, or not at all.
    """
    job = {"port": server.port, "path": "/predict", "bodies": list(bodies), "connections": connections}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(job | {"seconds": seconds}, file)
        file.flush()
        command = [sys.executable, str(HERE / "load.py"), file.name]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=600)
    found: dict[str, Any] = json.loads(done.stdout)
    assert set(found["statuses"]) <= {"200"}, f"answers other than 200: {found['statuses']}"
    return found


def summed(found: Mapping[str, Any]) -> Round:
    """A round from what the generator found."""
    latencies = sorted(found["latencies"])
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    rate = found["answered"] / found["seconds"]
    return Round(rate, 1000 * cuts[49], 1000 * cuts[98], found["cpu"] / found["seconds"])


def compare_answers(side: Side, server: Server, texts: Sequence[str], said: Sequence[dict[str, Any]]) -> None:
    """Holds every answer, given under load, against what the model itself said.

    Raises:
        AssertionError: One differs; says which.
    """
    found = send(server, [{"inputs": text} for text in texts], connections=16, seconds=None)["answers"]
    for at, expected in enumerate(said):
        answer = side.answer(json.loads(found[str(at)]))
        apart = max(abs(answer["probabilities"][name] - p) for name, p in expected["probabilities"].items())
        assert apart < APART, f"{side.name} answers text {at} with {answer}, the model with {expected}"


def measure(
    running: Mapping[str, Server], bodies: Sequence[Any], connections: Sequence[int], rounds: int
) -> Measured:
    """All sides in turn, round after round."""
    found: Measured = {count: {name: [] for name in running} for count in connections}
    for number in range(rounds):
        for count in connections:
            for name, server in running.items():
                server.resume()
                done = summed(send(server, bodies, count, SECONDS))
                server.pause()
                found[count][name].append(done)
                say(f"round {number + 1}, {count} connections, {name}: {done.rate:.1f}/s, p99 {done.p99:.0f}")
    return found


def idle(running: Mapping[str, Server], seconds: float = IDLE) -> dict[str, float]:
    """The share of a core, in percent, that each takes while nobody asks."""
    for server in running.values():
        server.resume()
    time.sleep(2.0)
    before = {name: server.cpu() for name, server in running.items()}
    time.sleep(seconds)
    shares = {name: 100 * (server.cpu() - before[name]) / seconds for name, server in running.items()}
    for server in running.values():
        server.pause()
    return shares


def rows(measured: Measured, titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row for each number of connections, peer, way of ours and figure."""
    return [
        row
        for count, found in measured.items()
        for peer in found
        if peer not in OURS
        for way in OURS
        if way in found
        for row in (_rate(count, way, peer, found, titles), _tail(count, way, peer, found, titles))
    ]


def _rate(
    count: int, way: str, peer: str, found: Mapping[str, list[Round]], titles: Mapping[str, str]
) -> Any:
    own, other = ([each.rate for each in found[side]] for side in (way, peer))
    ratios = [one / two for one, two in zip(own, other, strict=True)]
    ratio, bar, met = statistics.median(ratios), "", None
    if count >= 32 and peer.startswith("litserve"):
        bar, met = "at least 1.5 times", ratio >= 1.5
    elif count == 1 and peer == "fastapi":
        bar, met = "no slower, within the spread", max(ratios) >= 1
    share = statistics.median(each.generator for each in found[way])
    return table.row(
        f"{count}/{peer}: throughput{OURS[way]}", statistics.median(own), "requests/s",
        peer=f"{titles[peer]} {statistics.median(other):.1f}; the load takes {share:.0%} of a core",
        ratio=ratio, spread=f"{min(ratios):.2f} to {max(ratios):.2f} over {len(own)} rounds",
        bar=bar, met=met,
    ) | {"connections": count}  # fmt: skip


def _tail(
    count: int, way: str, peer: str, found: Mapping[str, list[Round]], titles: Mapping[str, str]
) -> Any:
    own, other = ([each.p99 for each in found[side]] for side in (way, peer))
    ratios = [one / two for one, two in zip(own, other, strict=True)]
    mine, theirs = (statistics.median(each.p50 for each in found[side]) for side in (way, peer))
    ratio, barred = statistics.median(ratios), count >= 32 and peer.startswith("litserve")
    return table.row(
        f"{count}/{peer}: p99{OURS[way]}", statistics.median(own), "ms",
        peer=f"{titles[peer]} {statistics.median(other):.1f}; medians {mine:.1f} against {theirs:.1f}",
        ratio=ratio, spread=f"{min(ratios):.2f} to {max(ratios):.2f} over {len(own)} rounds",
        bar="below 1" if barred else "", met=ratio < 1 if barred else None,
    ) | {"connections": count}  # fmt: skip


def idle_row(shares: Mapping[str, float], titles: Mapping[str, str]) -> dict[str, Any]:
    """What ours takes while nobody asks."""
    own = max(share for name, share in shares.items() if name in OURS)
    others = ", ".join(f"{titles[name]} {share:.1f}" for name, share in shares.items() if name not in OURS)
    return table.row(
        "idle", own, "% of a core", peer=others, spread=f"over {IDLE:.0f} s",
        bar="under 1", met=own < 1,
    )  # fmt: skip


def chosen(wanted: Sequence[str]) -> tuple[list[int], bool]:
    """Numbers of connections, and whether idling is measured; all for no names.

    Raises:
        ValueError: A name is neither.
    """
    known = [str(count) for count in CONNECTIONS]
    if unknown := set(wanted) - {*known, "idle"}:
        raise ValueError(f"No such row: {', '.join(sorted(unknown))}. There are {', '.join(known)} and idle.")
    return [
        count for count in CONNECTIONS if not wanted or str(count) in wanted
    ], not wanted or "idle" in wanted


def main() -> int:
    try:
        connections, idles = chosen(os.environ.get("ROW", "").split())
        run = served.model()
        compared = sides(run)
    except (ValueError, Unavailable) as error:
        say(str(error))
        return 2
    from luthier.deploy.predictor import Predictor

    texts, titles = served.texts(), {side.name: side.title for side in compared}
    said = Predictor.load(run / "model", "cpu").predict(texts)
    bodies, made = [{"inputs": text} for text in texts], []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        running: dict[str, Server] = {}
        for side in compared:
            log = Path(folder) / f"{side.name}.log"
            server = Server(side.command, log, outside=side.outside, body=bodies[0])
            running[side.name] = stack.enter_context(server)
            compare_answers(side, server, texts, said)
            server.pause()
            say(f"{side.name}: up, and answers {len(texts)} texts as the model does")
        if idles:
            made.append(idle_row(idle(running), titles))
        made += rows(measure(running, bodies, connections, ROUNDS), titles)
    table.show(made)
    if SECONDS < USUAL:
        say(f"Not recorded: SECONDS is {SECONDS:g}, not {USUAL:g}.")
    else:
        table.merge("serve", made)
    return 0 if all(row["met"] is not False for row in made) else 1


if __name__ == "__main__":
    sys.exit(main())
