"""Ten thousand requests that are wrong in some way, at `luthier serve` with a tiny model of texts and one of
images: how many got an answer that they should not have, and what it took.

What is sent, and what is wrong about an answer, is the tests' (`serve_malformed`, `serve_sender`); `make
bench-fuzz` puts them within reach. COUNT is how many, SEED where the drawing begins.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from serve_malformed import Fuzzer
from serve_sender import Found, send

import table
from served import say
from servers import LUTHIER, Server

USUAL = 10_000
COUNT = int(os.environ.get("COUNT") or USUAL)
SEED = int(os.environ.get("SEED") or 0)
KINDS = {"text": ("distilbert", 0.75), "image": ("vit", 0.25)}
"""A tiny model of each kind, and its share of the requests."""
NAME = "fuzzed"


def attack(server: Server, count: int) -> tuple[Found, float, float]:
    """Sends so many.

    Returns:
        What came back, seconds, and by how many MiB the server grew after the first tenth.
    """
    document = json.loads(server.ask("GET", "/openapi.json")[1])
    fuzzer = Fuzzer(document, {"name": NAME}, SEED)
    began = time.perf_counter()
    # What is loaded when first needed is no growth.
    found = asyncio.run(send(server.port, fuzzer.attempts(count // 10)))
    start = server.memory()
    rest = asyncio.run(send(server.port, fuzzer.attempts(count - count // 10)))
    found = Found(found.statuses + rest.statuses, found.wrong + rest.wrong, max(found.slowest, rest.slowest))
    return found, time.perf_counter() - began, (server.memory() - start) / 2**20


def row(kind: str, found: Found, seconds: float, grown: float, *, alive: bool) -> dict[str, Any]:
    """A result."""
    groups = Counter(
        status if status == "closed" else f"{status[0]}xx" for status in found.statuses.elements()
    )
    told = ", ".join(f"{count:,} {status}" for status, count in sorted(groups.items()))
    return table.row(
        f"fuzz: {kind}", len(found.wrong), "wrong answers",
        peer=f"{found.sent:,} requests in {seconds:.0f} s: {told}; {grown:+.0f} MiB",
        spread=f"slowest {found.slowest:.1f} s", bar="none, and it answers afterwards",
        met=not found.wrong and alive,
    )  # fmt: skip


def measure(kind: str) -> dict[str, Any]:
    """Serves a model, sends what is wrong, and asks whether it still answers."""
    import deploy_models

    model, share = KINDS[kind]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        made = deploy_models.finish(folder, model)

        def command(port: int) -> list[str]:
            return [*LUTHIER, str(made.folder), f"--port={port}", f"--name={NAME}"]

        with Server(command, folder / "log", path="/v2/health/ready") as server:
            found, seconds, grown = attack(server, int(share * COUNT))
            alive = server.ask("GET", "/v2/health/ready")[0] == 200 and "Traceback" not in server.printed()
    for wrong in found.wrong[:20]:
        say(wrong)
    return row(kind, found, seconds, grown, alive=alive)


def main() -> int:
    rows = [measure(kind) for kind in KINDS]
    table.show(rows)
    if COUNT < USUAL:
        say(f"Not recorded: COUNT is {COUNT:,}, not {USUAL:,}.")
    else:
        table.merge("fuzz", rows)
    return 0 if all(each["met"] for each in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
