"""Whether `luthier serve` stays as it is under half an hour of everything at once: good requests, wrong ones,
oversized ones, clients that leave before their answer and clients that send a byte now and then.

Memory, open files and threads of the server are taken every few seconds. What counts is the second half: the
slope of the memory over time, by Theil and Sen (the median over all pairs of samples) with its 95% interval,
over means of stretches, since neighbouring samples are alike. MINUTES makes it shorter; nothing is recorded
then.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from serve_attempt import post
from serve_malformed import Fuzzer
from serve_sender import close, read_answer, send

import served
import table
from served import say
from servers import LUTHIER, Server

USUAL = 30.0
MINUTES = float(os.environ.get("MINUTES") or USUAL)
EVERY = 5.0
"""Seconds between samples."""
STRETCHES = 30
"""That the second half is cut into."""
BAR = 0.01
GOOD, BAD, LEAVING, SLOW = 6, 1, 2, 4
"""Clients of each kind."""


@dataclass(frozen=True)
class Sample:
    """What the server took at a moment.

    Attributes:
        time: Seconds since the start.
        memory: Resident MiB of all its processes.
        files: Open file descriptors.
        threads: Of all its processes.
    """

    time: float
    memory: float
    files: int
    threads: int


class Clients:
    """All that is done to a server until it is over.

    Attributes:
        counts: Answers by what was asked and what came back.
        wrong: Answers that should not have been.
    """

    def __init__(self, server: Server, texts: Sequence[str], seconds: float) -> None:
        self.port = server.port
        self.requests = [post("/predict", json.dumps({"inputs": text}).encode()) for text in texts]
        self.document = json.loads(server.ask("GET", "/openapi.json")[1])
        self.end = time.monotonic() + seconds
        self.rng = random.Random(0)
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    async def run(self) -> None:
        """All kinds at once."""
        kinds: list[tuple[Callable[[int], Awaitable[None]], int]] = [
            (self.good, GOOD), (self.bad, BAD), (self.leaving, LEAVING), (self.slow, SLOW),
        ]  # fmt: skip
        await asyncio.gather(*(kind(number) for kind, count in kinds for number in range(count)))

    @property
    def over(self) -> bool:
        """Whether the time has come."""
        return time.monotonic() >= self.end

    async def good(self, number: int) -> None:
        """Asks one text after the other on one connection, and expects each to be answered on it."""
        while not self.over:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            stays = True
            while stays and not self.over:
                writer.write(self.rng.choice(self.requests))
                try:
                    status, stays = await read_answer(reader)
                except (ConnectionError, asyncio.IncompleteReadError):
                    status, stays = 0, False
                self.counts[f"good {status}"] += 1
                if status != 200 or not stays:
                    self.wrong.append(f"a good request came back with {status}, connection kept: {stays}")
                await asyncio.sleep(self.rng.expovariate(20))
            await close(writer)

    async def bad(self, number: int) -> None:
        """Sends what the fuzzer draws, oversized bodies and bombs among it."""
        seed = 0
        while not self.over:
            seed += 1
            fuzzer = Fuzzer(self.document, {}, seed)
            found = await send(self.port, fuzzer.attempts(50), connections=2)
            for status, count in found.statuses.items():
                self.counts["bad closed" if status == "closed" else f"bad {status[0]}xx"] += count
            self.wrong += found.wrong
            await asyncio.sleep(1)

    async def leaving(self, number: int) -> None:
        """Asks, and is gone before the answer or in the middle of the question."""
        while not self.over:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            data = self.rng.choice(self.requests)
            writer.write(data[: self.rng.choice([len(data), len(data) // 2])])
            await asyncio.sleep(self.rng.choice([0.0, 0.002, 0.02]))
            await close(writer)
            self.counts["left"] += 1
            await asyncio.sleep(self.rng.expovariate(10))

    async def slow(self, number: int) -> None:
        """Sends a byte a second, until it is told that this takes too long."""
        while not self.over:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            told = asyncio.ensure_future(reader.read())
            for byte in self.rng.choice(self.requests)[: 60 if number % 2 else 400]:
                if told.done() or self.over:
                    break
                writer.write(bytes([byte]))
                await asyncio.sleep(1)
            self.counts["slow"] += 1
            told.cancel()
            await asyncio.gather(told, return_exceptions=True)
            await close(writer)


def take(server: Server, began: float) -> Sample:
    """A sample."""
    processes = server.tree()
    files, threads = sum(each.num_fds() for each in processes), sum(each.num_threads() for each in processes)
    return Sample(time.monotonic() - began, server.memory() / 2**20, files, threads)


async def watched(clients: Clients, server: Server) -> list[Sample]:
    """Samples taken while the clients are at it, and one a while after all have gone."""
    began, samples = time.monotonic(), [take(server, time.monotonic())]
    running = asyncio.ensure_future(clients.run())
    while not running.done():
        await asyncio.wait([running], timeout=EVERY)
        samples.append(take(server, began))
        say(f"{samples[-1].time / 60:.1f} min: {samples[-1].memory:.1f} MiB, {samples[-1].files} files")
    await running
    await asyncio.sleep(2 * EVERY)
    return [*samples, take(server, began)]


def growth(samples: Sequence[Sample]) -> tuple[float, tuple[float, float]]:
    """By which share of itself the memory grows in the second half, with its 95% interval."""
    from scipy.stats import theilslopes

    times = np.array([each.time for each in samples])
    memory = np.array([each.memory for each in samples])
    half = times >= times[-1] / 2
    count = min(STRETCHES, int(half.sum()))
    x, y = (np.array([part.mean() for part in np.array_split(all_[half], count)]) for all_ in (times, memory))
    slope, _, low, high = theilslopes(y, x)
    # From stretch to stretch it is less than all of the half.
    scale = (times[-1] - times[half][0]) / y.mean()
    return float(slope * scale), (float(low * scale), float(high * scale))


def rows(samples: Sequence[Sample], clients: Clients) -> list[dict[str, Any]]:
    """What is told of it."""
    share, (low, high) = growth(samples)
    middle = samples[len(samples) // 2]
    asked = ", ".join(f"{count:,} {kind}" for kind, count in sorted(clients.counts.items()))
    last = samples[-1]
    return [
        table.row(
            "memory", 100 * share, "% in the second half",
            peer=f"{middle.memory:.0f} MiB in the middle, {last.memory:.0f} at the end",
            spread=f"95% {100 * low:+.2f} to {100 * high:+.2f}", bar="under 1, or an interval that holds 0",
            met=share < BAR or low <= 0 <= high,
        ),
        table.row(
            "files and threads", last.files - samples[0].files, "files more than at the start",
            peer=f"{samples[0].files} files and {samples[0].threads} threads at the start, {last.files} and"
            f" {last.threads} at the end",
            bar="at most 5 more of each",
            met=last.files - samples[0].files <= 5 and last.threads - samples[0].threads <= 5,
        ),
        table.row(
            "answers", len(clients.wrong), "wrong", peer=asked, bar="none", met=not clients.wrong,
        ),
    ]  # fmt: skip


def main() -> int:
    run, texts = served.model(), served.texts()

    def command(port: int) -> list[str]:
        return [*LUTHIER, str(run), f"--port={port}"]

    with (
        tempfile.TemporaryDirectory() as folder,
        Server(command, Path(folder) / "log", body={"inputs": texts[0]}) as server,
    ):
        clients = Clients(server, texts, 60 * MINUTES)
        samples = asyncio.run(watched(clients, server))
        if "Traceback" in server.printed():
            clients.wrong.append("the server printed a traceback")
    for wrong in clients.wrong[:20]:
        say(wrong)
    found = rows(samples, clients)
    table.show(found)
    if MINUTES < USUAL:
        say(f"Not recorded: MINUTES is {MINUTES:g}, not {USUAL:g}.")
    else:
        table.merge("soak", found)
    return 0 if all(each["met"] for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
