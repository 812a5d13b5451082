"""The main job against its bars: whole `luthier tune` commands on real data, ten minutes each.

ROW picks rows: trec6-0, trec6-1, trec6-2 (seeds), cifar10, wnut17, startup; all if it is not given. Data
and the image model lie in ../shared beside the checkout, or where SHARED says.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import table

SHARED = Path(os.environ.get("SHARED", Path(__file__).parents[1].parent / "shared"))
BUDGET = 600.0
SEEDS = (0, 1, 2)
LUTHIER = [sys.executable, "-m", "luthier.cli.main"]
# The budget is kept within 5%, measured around the whole command with the interpreter's start and imports.
SLACK = 1.05


def tune(data: str, *options: str) -> tuple[dict[str, Any], float]:
    """Runs one command; the evaluation it left and its wall-clock seconds."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        started = time.monotonic()
        command = [
            *LUTHIER,
            "tune",
            str(SHARED / "data" / data),
            f"--budget={BUDGET:.0f}s",
            "--out",
            str(out),
            *options,
        ]
        subprocess.run(command, check=True)
        seconds = time.monotonic() - started
        evaluation = json.loads((out / "evaluation.json").read_text())
    return evaluation, seconds


def baseline(evaluation: dict[str, Any], starts: str) -> dict[str, Any]:
    return next(found for found in evaluation["baselines"] if found["name"].startswith(starts))


def against(name: str, evaluation: dict[str, Any], starts: str, bar: float | None = None) -> dict[str, Any]:
    """The gain over a baseline in points of the metric, with the interval of the paired difference."""
    peer = baseline(evaluation, starts)
    metric = evaluation["metric"]
    value, other = evaluation["metrics"][metric], peer["metrics"][metric]
    low, high = peer["difference_interval"]
    note = f" ({peer['note']})" if peer["note"] else ""
    return table.row(
        f"{name} gain over {starts}",
        100 * peer["difference"],
        "points",
        peer=f"{peer['name']} {other:.3f}{note}",
        ratio=value / other if other else None,
        spread=f"{100 * low:.1f} to {100 * high:.1f}",
        bar="" if bar is None else f"at least {bar:g}",
        met=None if bar is None else 100 * peer["difference"] >= bar,
    )


def score(name: str, evaluation: dict[str, Any], peer: str) -> dict[str, Any]:
    metric = evaluation["metric"]
    low, high = evaluation["intervals"][metric]
    found = baseline(evaluation, peer)
    other, value = found["metrics"][metric], evaluation["metrics"][metric]
    return table.row(
        f"{name} {metric}", value, metric, peer=f"{found['name']} {other:.3f}",
        ratio=value / other if other else None, spread=f"{low:.3f} to {high:.3f}",
    )  # fmt: skip


def budget(name: str, seconds: float) -> dict[str, Any]:
    return table.row(
        f"{name} time over budget", seconds, "s", peer=f"budget {BUDGET:.0f} s", ratio=seconds / BUDGET,
        bar=f"ratio at most {SLACK}", met=seconds / BUDGET <= SLACK,
    )  # fmt: skip


def trec6(seed: int) -> list[dict[str, Any]]:
    evaluation, seconds = tune("trec6", "--model=minilm", f"--seed={seed}")
    name = f"trec6 seed {seed}"
    rows = [
        score(name, evaluation, "TF-IDF"),
        against(name, evaluation, "The same recipe"),
        budget(name, seconds),
    ]
    known = {each["name"]: each["value"] for each in [*table.load("tune"), *rows]}
    values = [known[f"trec6 seed {s} accuracy"] for s in SEEDS if f"trec6 seed {s} accuracy" in known]
    if len(values) == len(SEEDS):
        mean = statistics.mean(values)
        rows.append(
            table.row(
                "trec6 mean accuracy of three seeds",
                mean,
                "accuracy",
                peer=rows[0]["peer"],
                spread=f"{min(values):.3f} to {max(values):.3f}",
                bar="at least 0.96",
                met=mean >= 0.96,
            )
        )
    return rows


def cifar10() -> list[dict[str, Any]]:
    model = SHARED / "models" / "mobilenet_v2_1.0_224"
    evaluation, seconds = tune("cifar10", f"--model={model}")
    return [
        score("cifar10", evaluation, "Always"),
        against("cifar10", evaluation, "The same recipe", 15),
        against("cifar10", evaluation, "pixels", 0),
        budget("cifar10", seconds),
    ]


def wnut17() -> list[dict[str, Any]]:
    evaluation, seconds = tune("wnut17", "--model=minilm")
    return [
        score("wnut17", evaluation, "Always"),
        against("wnut17", evaluation, "The same recipe"),
        budget("wnut17", seconds),
    ]


def startup() -> list[dict[str, Any]]:
    """CPU seconds of `luthier --help`, the best of five: noise only adds."""
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*LUTHIER, "--help"], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return [
        table.row(
            "luthier --help",
            min(seconds),
            "CPU s",
            spread=f"{min(seconds):.2f} to {max(seconds):.2f}",
            bar="below 0.5",
            met=min(seconds) < 0.5,
        )
    ]


ROWS = {
    **{f"trec6-{seed}": lambda seed=seed: trec6(seed) for seed in SEEDS},
    "cifar10": cifar10,
    "wnut17": wnut17,
    "startup": startup,
}


def main() -> None:
    wanted = os.environ.get("ROW", "").split() or list(ROWS)
    if unknown := set(wanted) - set(ROWS):
        sys.exit(f"No such row: {', '.join(sorted(unknown))}. There are {', '.join(ROWS)}.")
    for name in wanted:
        rows = table.merge("tune", ROWS[name]())
    table.show(rows)


if __name__ == "__main__":
    main()
