"""Strategies at scale: 1,000 simulated workers and 100,000 trials, and what a strategy itself costs.

Workers report each epoch of each trial and are given the next order as soon as they are free. A decision is
one `ask` and every `tell` since the last one. Each strategy runs in a process of its own, whose peak memory
is read at its end; it holds the simulation too. Nothing is trained. Where others use the machine, the rarest
decisions by the clock are those that had to wait for it: CPU time shows what they took.

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
from collections.abc import Iterator
from contextlib import contextmanager
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
    """Another strategy, and the seconds it takes for each decision, by the clock and of the processor."""

    def __init__(self, inner: Strategy) -> None:
        super().__init__(inner.space, inner.seed, inner.option)
        self.inner = inner
        self.decisions: list[tuple[float, float]] = []
        self._clock = self._processor = 0.0

    @contextmanager
    def _timed(self) -> Iterator[None]:
        clock, processor = time.perf_counter(), time.thread_time()
        yield
        self._processor += time.thread_time() - processor
        self._clock += time.perf_counter() - clock

    def ask(self, room: int) -> list[Order]:
        """A decision ends with it."""
        with self._timed():
            orders = self.inner.ask(room)
        self.decisions.append((self._clock, self._processor))
        self._clock = self._processor = 0.0
        return orders

    def tell(self, report: Report) -> None:
        """Belongs to the next decision."""
        with self._timed():
            self.inner.tell(report)

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
    clock, processor = zip(*strategy.decisions, strict=True)
    tenth = len(clock) // 10
    return {
        "median": 1000 * statistics.median(clock),
        "percentile": 1000 * statistics.quantiles(clock, n=100)[-1],
        "processor": 1000 * statistics.quantiles(processor, n=100)[-1],
        "growth": statistics.median(processor[-tenth:]) / statistics.median(processor[:tenth]),
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
    spread = (
        f"99th percentile {found['percentile']:.3g} ({found['processor']:.3g} of CPU time), "
        f"last tenth {found['growth']:.2f} times the first"
    )
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
