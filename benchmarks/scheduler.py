"""Strategies at scale: 1,000 simulated workers and 100,000 trials, and what a strategy itself costs.

Workers report each epoch of each trial and are given the next order as soon as they are free. A decision is
one `ask` and every `tell` since the last one. Each strategy runs in a process of its own, whose peak memory
is read at its end; it holds the simulation too. Nothing is trained.

ROW picks strategies, of those that the names below list; all if it is not given.
"""

from __future__ import annotations

import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import table
from luthier.search import registry
from luthier.search.base import Order, Report, Strategy
from luthier.search.defaults import default_space
from luthier.search.workers import Workers, reports

WORKERS = 1_000
TRIALS = 100_000
MILLISECONDS = 5.0
GIGABYTES = 2.0
# Those that are meant for so many trials. A model that looks at all earlier trials for each new one is not; a
# grid of this space does not exist.
NAMES = ("hyperband", "hyperband:asha", "random")
SPACE = default_space("text", "example", ["minilm"], num_examples=1000, num_blocks=6)


class Timed(Strategy):
    """Another strategy, and the seconds that it takes for each decision."""

    def __init__(self, inner: Strategy) -> None:
        super().__init__(inner.space, inner.seed, inner.option)
        self.inner = inner
        self.decisions: list[float] = []
        self._told = 0.0

    def ask(self, room: int) -> list[Order]:
        """A decision ends with it."""
        started = time.perf_counter()
        orders = self.inner.ask(room)
        self.decisions.append(time.perf_counter() - started + self._told)
        self._told = 0.0
        return orders

    def tell(self, report: Report) -> None:
        """Belongs to the next decision."""
        started = time.perf_counter()
        self.inner.tell(report)
        self._told += time.perf_counter() - started

    @property
    def finished(self) -> bool:
        """As the other says."""
        return self.inner.finished

    def state(self) -> dict[str, Any]:
        """The other's."""
        return self.inner.state()

    def restore(self, state: dict[str, Any]) -> None:
        """The other's."""
        self.inner.restore(state)


def drawn(trial: int, salt: int) -> float:
    """A number in [0, 1) that looks random, the same in every run."""
    return (trial * 2654435761 + salt * 40503) % 2**32 / 2**32


def score(order: Order, epoch: int) -> float:
    """A learning curve: better for some learning rates, rising with epochs, and a trial's own luck."""
    quality = -abs(math.log10(order.recipe.learning_rate) + 4) / 4
    return quality + 0.2 * drawn(order.trial, 1) - math.exp(-epoch / 5)


def fate(order: Order, begun: int) -> list[Report]:
    """One trial in twenty fails."""
    return reports(order, begun, None if drawn(order.trial, 2) < 0.05 else score)


def measure(name: str) -> dict[str, Any]:
    """Runs one strategy in this process: milliseconds a decision, bytes, and how much there was to do."""
    strategy = Timed(registry.create(name, SPACE))
    workers = Workers(strategy, WORKERS, fate, pace=lambda trial: 0.5 + 1.5 * drawn(trial, 3))
    workers.run(trials=TRIALS)
    milliseconds = [1000 * seconds for seconds in strategy.decisions]
    return {
        "median": statistics.median(milliseconds),
        "percentile": statistics.quantiles(milliseconds, n=100)[-1],
        "slowest": max(milliseconds),
        "decisions": len(milliseconds),
        "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "trials": len(workers.recipes),
        "orders": len(workers.orders),
    }


def rows(name: str) -> list[dict[str, Any]]:
    """Measures one strategy in a process of its own."""
    command = [sys.executable, __file__, name]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    work = f"{found['trials']} trials, {found['orders']} orders, {WORKERS} workers"
    print(f"{name}: {work}", file=sys.stderr)
    spread = f"99th percentile {found['percentile']:.3g}, slowest {found['slowest']:.3g}; {work}"
    return [
        table.row(
            f"{name} decision, median", found["median"], "ms", spread=spread,
            bar=f"below {MILLISECONDS:g}", met=found["median"] < MILLISECONDS,
        ),
        table.row(
            f"{name} peak memory", found["bytes"] / 1e9, "GB", spread=work,
            bar=f"below {GIGABYTES:g}", met=found["bytes"] / 1e9 < GIGABYTES,
        ),
    ]  # fmt: skip


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
        return
    picked = os.environ.get("ROW", "").split() or list(NAMES)
    if unknown := [name for name in picked if name not in NAMES]:
        sys.exit(f"ROW: {unknown[0]!r} is unknown; there are {', '.join(NAMES)}")
    found = [row for name in picked for row in rows(name)]
    table.merge("scheduler", found)
    table.show(found)


if __name__ == "__main__":
    main()
