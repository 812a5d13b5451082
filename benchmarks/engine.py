"""The engine against what people use today, and against plain PyTorch: many fine-tunings of one model, timed.

The engine runs each job with all its trials at once, three times (twice where that takes minutes), each time
from an empty cache. Between
these runs, in the same process, an Optuna study drives a Trainer through the same recipes a trial at a time.
Then the same trainings are run one at a time from cached features. A ratio is the other side's seconds over
the engine's; its spread goes from that side's fastest trial over the engine's slowest run to the reverse.
Where a side would take too long, a random part of its trials is measured and scaled to all, and the row says
so.

ROW picks rows, by the names that an unknown one is answered with; all if it is not given. Data and the image
model lie in ../shared beside the checkout, or where SHARED says.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import stacks
import table
from jobs import JOBS, LIMITS, SEED, Job, Work, load, say
from luthier.trial import Order
from peer import Peer
from plain import Plain

RUNS, LONG_RUNS = 3, 2
# Seconds from which a run of ours is long.
LONG = 60.0
# A row aims to stay below this, by measuring fewer trials of the slower sides, and never fewer than two.
ROW_SECONDS = 700.0
PEER_SECONDS = 200.0
LEAST = 2


class Side:
    """One way to train a job's trials one at a time, measured on as many of them as there is time for.

    Args:
        train: Trains a trial; seconds and the validation loss.
        work: The job.
        label: For the progress.
    """

    def __init__(self, train: Callable[[Order], tuple[float, float]], work: Work, label: str) -> None:
        self.train = train
        self.label = label
        self.trials = len(work.orders)
        self.left = [work.orders[i] for i in np.random.default_rng(SEED).permutation(self.trials)]
        self.seconds: list[float] = []
        self.losses: dict[int, float] = {}

    def measure(self, allowed: float, least: int, most: int) -> None:
        """Trains until ``most`` trials are measured, or another would exceed the seconds allowed in all."""
        while self.left and len(self.seconds) < most:
            if len(self.seconds) >= least and sum(self.seconds) + statistics.mean(self.seconds) > allowed:
                break
            order = self.left.pop(0)
            seconds, self.losses[order.trial] = self.train(order)
            self.seconds.append(seconds)
            say(f"  {self.label}: trial {order.trial} in {seconds:.2f} s")

    @property
    def total(self) -> float:
        """Seconds for all trials."""
        return statistics.mean(self.seconds) * self.trials

    @property
    def note(self) -> str:
        """What a reader should know of the total."""
        measured = len(self.seconds)
        return f" ({measured} of {self.trials} trials measured, scaled)" if measured < self.trials else ""

    def spread(self, ours: list[float]) -> str:
        """Lowest to highest ratio to our runs, each trial taken for all."""
        low = min(self.seconds) * self.trials / max(ours)
        return f"{low:.3g} to {max(self.seconds) * self.trials / min(ours):.3g}"

    def differences(self, losses: dict[int, float]) -> list[float]:
        """How far the losses lie from ours."""
        return [abs(loss - losses[trial]) for trial, loss in self.losses.items()]


def compare(job: Job) -> list[dict[str, Any]]:
    """All rows of one job."""
    work = load(job)
    cached = work.recipe.adaptation in ("probe", "last_k")
    ours: list[float] = []
    with tempfile.TemporaryDirectory() as folder:

        def run() -> dict[int, float]:
            seconds, losses = work.run(Path(folder) / str(len(ours)))
            ours.append(seconds)
            say(f"  luthier: all {len(work.orders)} trials in {seconds:.2f} s")
            return losses

        losses = run()
        runs = RUNS if ours[0] < LONG else LONG_RUNS
        cached = cached and runs == RUNS
        left = max(0.0, ROW_SECONDS - (runs + cached) * ours[0])
        peer = Side(Peer(work).train, work, "Optuna and Trainer")
        for part in range(1, runs):
            share = part / (runs - 1)
            most = max(part, round(share * len(work.orders)))
            least = LEAST if part == runs - 1 else min(part, LEAST)
            peer.measure(share * min(PEER_SECONDS, left * 2 / 3), least=least, most=most)
            run()
        plain = Side(Plain(work).train, work, "plain PyTorch")
        plain.measure(left / 3, least=LEAST, most=len(work.orders))
        warm = work.run(Path(folder) / str(runs - 1))[0] if cached else None
    return rows(job, ours, peer, plain, losses, warm)


def rows(
    job: Job, ours: list[float], peer: Side, plain: Side, losses: dict[int, float], warm: float | None
) -> list[dict[str, Any]]:
    """What was measured, as rows of the table."""
    median = statistics.median(ours)
    name, size = job.name, job.settings.get("image_size")
    cuts = job.settings["adaptation"] in ("probe", "last_k")
    at = f", {size} px" if size else ""
    ratio = peer.total / median
    apart, from_plain = peer.differences(losses), plain.differences(losses)
    found = [
        table.row(
            name, median, "s",
            peer=f"Optuna and Trainer {peer.total:.0f} s{peer.note}{at}",
            ratio=ratio, spread=peer.spread(ours),
            bar="" if job.bar is None else f"ratio at least {job.bar:g}",
            met=None if job.bar is None else ratio >= job.bar,
        ),
        table.row(
            f"{name} plain PyTorch{' on cached features' if cuts else ''}", plain.total, "s",
            peer=f"luthier {median:.2f} s{plain.note}{at}",
            ratio=plain.total / median, spread=plain.spread(ours),
        ),
        table.row(
            f"{name} largest difference in validation loss", max(apart), "nats",
            peer=f"Optuna and Trainer, median {statistics.median(apart):.2g} of {len(apart)} trials",
        ),
        table.row(
            f"{name} largest difference in validation loss on the same batches", max(from_plain), "nats",
            peer=f"plain PyTorch, median {statistics.median(from_plain):.2g} of {len(from_plain)} trials",
        ),
    ]  # fmt: skip
    if warm is not None:
        found.append(
            table.row(
                f"{name} again with its features cached", warm, "s",
                peer=f"luthier {median:.2f} s from an empty cache", ratio=median / warm,
            )
        )  # fmt: skip
    return found


ROWS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    **{name: lambda job=job: compare(job) for name, job in JOBS.items()},
    **{name: lambda name=name: stacks.scaling(name) for name in stacks.SCALED},
}


def main() -> None:
    wanted = os.environ.get("ROW", "").split() or list(ROWS)
    if unknown := set(wanted) - set(ROWS):
        sys.exit(f"No such row: {', '.join(sorted(unknown))}. There are {', '.join(ROWS)}.")
    found = []
    for name in wanted:
        fresh = ROWS[name]()
        found = [*found, *fresh] if LIMITS else table.merge("engine", fresh)
    table.show(found)
    if LIMITS:
        say(f"Not recorded: made smaller by {', '.join(LIMITS)}.")


if __name__ == "__main__":
    main()
