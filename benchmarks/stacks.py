"""What a trial costs, in seconds and in memory, as more of them train in one stack.

Each size runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

import table
from jobs import JOBS, LIMITS, Job, load, say

SIZES = (1, 4, 16, 64, 256)
# A larger stack is left out if, going by the one before it, its process would take longer than this.
LONGEST = 500.0
SCALED: dict[str, Job] = {
    "scaling-probe": replace(JOBS["trec6-probe-64"], trials=max(SIZES)),
    "scaling-last1": replace(JOBS["trec6-last1-16"], trials=max(SIZES), epochs=1),
}


def scaling(name: str) -> list[dict[str, Any]]:
    """Rows of one kind of trial, three for each size."""
    found: list[dict[str, Any]] = []
    alone: dict[str, float] = {}
    before = 0
    seconds = 0.0
    for size in sorted({min(size, LIMITS.get("TRIALS", size)) for size in SIZES}):
        if before and seconds * size / before > LONGEST:
            say(f"{name}: no stack of {size}, it would take {seconds * size / before:.0f} s")
            break
        measured = in_own_process(name, size)
        before, seconds = size, measured["empty"] + measured["cached"]
        alone = alone or measured
        found += rows(name, size, measured, alone)
    return found


def rows(name: str, size: int, measured: dict[str, float], alone: dict[str, float]) -> list[dict[str, Any]]:
    """One size: seconds a trial, all in and with features cached, and peak memory."""
    job = SCALED[name]
    epochs = f"{job.epochs} epoch{'s' if job.epochs > 1 else ''}"
    label = f"{name} {size:3d} in one stack"
    return [
        table.row(
            f"{label}, seconds a trial", measured["empty"] / size, "s",
            peer=f"one trial {alone['empty']:.2f} s; {epochs} of {job.data}",
            ratio=alone["empty"] * size / measured["empty"],
        ),
        table.row(
            f"{label}, seconds a trial, features cached", measured["cached"] / size, "s",
            peer=f"one trial {alone['cached']:.2f} s; {epochs} of {job.data}",
            ratio=alone["cached"] * size / measured["cached"],
        ),
        table.row(
            f"{label}, peak memory", measured["peak"] / 2**20, "MiB",
            peer=f"one trial {alone['peak'] / 2**20:.0f} MiB, before it {alone['start'] / 2**20:.0f} MiB",
            ratio=measured["peak"] / alone["peak"],
        ),
    ]  # fmt: skip


def in_own_process(name: str, size: int) -> dict[str, float]:
    command = [sys.executable, __file__, name, str(size)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    measured: dict[str, float] = json.loads(output.splitlines()[-1])
    mebibytes = measured["peak"] / 2**20
    say(f"  {measured['empty']:.2f} s, {measured['cached']:.2f} s with features cached, {mebibytes:.0f} MiB")
    return measured


def measure(name: str, size: int) -> dict[str, float]:
    """Seconds from an empty cache and from a full one; bytes in use before training and at most."""
    work = load(replace(SCALED[name], trials=size))
    start = psutil.Process().memory_info().rss
    with tempfile.TemporaryDirectory() as folder:
        empty, _ = work.run(Path(folder), stack=size)
        cached, _ = work.run(Path(folder), stack=size)
    return {"empty": empty, "cached": cached, "start": start, "peak": peak_memory()}


def peak_memory() -> int:
    """Largest resident set of this process in bytes.

    Not getrusage's: a process inherits that from the one that started it.
    """
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
