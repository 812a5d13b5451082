"""Whole searches against each other on real data, ten minutes each: how soon, and how far.

For each dataset: `luthier tune` with its default strategy, beside Optuna's TPE with transformers' `Trainer`,
both on the packaged MiniLM with the same splits, and beside logistic regression on the model's embeddings. A
side is a process of its own (`racers.py`), and its clock starts before it imports anything.

ROW picks datasets (trec6, sst2, banking77), or sides of them (trec6/luthier); all if it is not given. SECONDS
makes the race shorter, to see that it works; nothing is recorded then. Data lies in ../shared beside the
checkout, or where SHARED says.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import table

DATASETS = ("trec6", "sst2", "banking77")
SIDES = ("optuna", "luthier", "embeddings")
BUDGET = float(os.environ.get("SECONDS", "600"))
RECORDED = BUDGET == 600
# What a side left, so that the sides of a row can run alone.
LEFT = Path(os.environ.get("LEFT", Path(__file__).parent / "results" / "race"))
SHARE = 0.2
RESAMPLES = 2000


def race(data: str, side: str) -> dict[str, Any]:
    """Runs a side in a process of its own and keeps what it says."""
    LEFT.mkdir(parents=True, exist_ok=True)
    out = LEFT / f"{data}-{side}.json"
    command = [sys.executable, str(Path(__file__).with_name("racers.py")), side, data, str(BUDGET), str(out)]
    subprocess.run(command, check=True, env={**os.environ, "STARTED": repr(time.time())})
    found: dict[str, Any] = json.loads(out.read_text())
    print(f"{data} {side}: test {accuracy(found):.4f}, {found['trials']} trials", file=sys.stderr, flush=True)
    return found


def accuracy(found: dict[str, Any]) -> float:
    return float(np.mean(np.array(found["answers"]) == np.array(found["truth"])))


def reached(curve: list[list[float]], level: float) -> float | None:
    """Seconds after which a side's best validation score is at a level; None if it never is."""
    return next((seconds for seconds, score in curve if score >= level), None)


def best(curve: list[list[float]]) -> float:
    return max(score for _, score in curve)


def soon(data: str, ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """When ours is where theirs ends."""
    level = best(theirs["curve"])
    seconds = reached(ours["curve"], level)
    marks = [0.9 * level, 0.95 * level, 0.98 * level]
    times = ", ".join(
        f"{mark:.3f} at {reached(ours['curve'], mark) or float('nan'):.0f} and "
        f"{reached(theirs['curve'], mark) or float('nan'):.0f} s"
        for mark in marks
    )
    return table.row(
        f"{data} seconds to where Optuna and Trainer end", float("inf") if seconds is None else seconds, "s",
        peer=f"validation accuracy {level:.4f} after {BUDGET:.0f} s, {theirs['trials']} trials; ours ends at "
        f"{best(ours['curve']):.4f}; ours and theirs reach {times}",
        ratio=None if seconds is None else seconds / BUDGET, bar=f"ratio at most {SHARE}",
        met=seconds is not None and seconds <= SHARE * BUDGET,
    )  # fmt: skip


def far(data: str, ours: dict[str, Any], theirs: dict[str, Any], name: str) -> dict[str, Any]:
    """Test accuracies, and the paired bootstrap interval of their difference."""
    truth = np.array(ours["truth"])
    assert (truth == np.array(theirs["truth"])).all(), "The sides were judged on different rows."
    gain = (np.array(ours["answers"]) == truth).astype(float) - (np.array(theirs["answers"]) == truth)
    draws = np.random.default_rng(0).integers(len(gain), size=(RESAMPLES, len(gain)))
    low, high = np.quantile(gain[draws].mean(axis=1), [0.025, 0.975])
    mine, other = accuracy(ours), accuracy(theirs)
    return table.row(
        f"{data} test accuracy over {name}", mine, "accuracy",
        peer=f"{name} {other:.4f} ({theirs['trials']} trials, {theirs['seconds']:.0f} s)",
        ratio=mine / other, spread=f"{100 * gain.mean():+.1f} points, {100 * low:+.1f} to {100 * high:+.1f}",
        bar="higher", met=mine > other,
    )  # fmt: skip


def rows(data: str, found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    ours = found["luthier"]
    made = []
    if "optuna" in found:
        made += [soon(data, ours, found["optuna"]), far(data, ours, found["optuna"], "Optuna and Trainer")]
    if "embeddings" in found:
        made.append(far(data, ours, found["embeddings"], "embeddings and logistic regression"))
    return made


def main() -> None:
    wanted = os.environ.get("ROW", "").split() or list(DATASETS)
    known = [*DATASETS, *(f"{data}/{side}" for data in DATASETS for side in SIDES)]
    if unknown := set(wanted) - set(known):
        sys.exit(f"No such row: {', '.join(sorted(unknown))}. There are {', '.join(known)}.")
    made: list[dict[str, Any]] = []
    for data in DATASETS:
        sides = [side for side in SIDES if data in wanted or f"{data}/{side}" in wanted]
        for side in sides:
            race(data, side)
        paths = {side: LEFT / f"{data}-{side}.json" for side in SIDES}
        found = {side: json.loads(path.read_text()) for side, path in paths.items() if path.exists()}
        if sides and "luthier" in found:
            made += rows(data, found)
    table.show(table.merge("race", made) if RECORDED else made)


if __name__ == "__main__":
    main()
