"""`Workers`: a study without an engine, whose simulated workers finish in a mixed order; `Ledger` watches the
contract of orders. What must hold of every strategy lives in `conformance`.
"""

from __future__ import annotations

import heapq
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

from luthier.recipe import Recipe
from luthier.search.base import Order, Report, Status, Strategy

Outcome = Callable[[Order, int], float | None]
"""The score of an order's trial after an epoch; None: it fails in this epoch."""
Fate = Callable[[Order, int], list[Report]]
"""What an engine says of an order whose trial stands at an epoch: an epoch each, then how it ended."""

STRUCTURE = (
    "model",
    "init",
    "adaptation",
    "last_k",
    "lora_rank",
    "lora_alpha",
    "lora_targets",
    "head",
    "pooling",
)
"""Settings without which one trial's weights mean nothing to another."""


def require(holds: bool, message: str) -> None:
    """Raises AssertionError with the message unless ``holds``, with and without Python's -O."""
    if not holds:
        raise AssertionError(message)


def reports(order: Order, begun: int, outcome: Outcome | None) -> list[Report]:
    """What an engine says of an order with this outcome; without one, that it failed at once."""
    epochs: list[Report] = []
    for epoch in range(begun + 1, order.until + 1):
        score = None if outcome is None else outcome(order, epoch)
        if score is None:
            return [*epochs, Report(order.trial, epoch - 1, "failed", reason="out of memory")]
        epochs.append(Report(order.trial, epoch, "running", score, {"loss": 1.0}, 1.0))
    best = max((r.score for r in epochs if not math.isnan(r.score)), default=math.nan)
    return [*epochs, Report(order.trial, order.until, "completed", best)]


def rebirth(make: Callable[[], Strategy]) -> Callable[[Strategy], Strategy]:
    """Lets a strategy die and a new one go on from its state, by way of JSON; for ``reborn``.

    Args:
        make: Makes one with the same arguments.
    """

    def reborn(strategy: Strategy) -> Strategy:
        state = json.loads(json.dumps(strategy.state()))
        fresh = make()
        fresh.restore(state)
        require(json.loads(json.dumps(fresh.state())) == state, "its state changes by being restored")
        return fresh

    return reborn


def mixed(outcome: Outcome) -> Fate:
    """Trials of which half go well and each of the others goes wrong in a way of its own.

    By number modulo ten: 1 fails at once; 3 fails, 5 gives NaN, and 7 is stopped from outside when it is
    continued; 9 loses its patience after the first epoch of whatever it is ordered to.
    """

    def fate(order: Order, begun: int) -> list[Report]:
        kind = order.trial % 10
        told = reports(order, begun, None if kind == 1 else outcome)
        if kind == 9:
            return [told[0], replace(told[-1], epoch=begun + 1, reason="no better for 1 epoch")]
        if not begun or kind not in {3, 5, 7}:
            return told
        if kind == 5:
            return [replace(one, score=math.nan) for one in told]
        status: Status = "failed" if kind == 3 else "stopped"
        return [
            told[0],
            replace(told[-1], epoch=begun + 1, status=status, reason="out of memory, or asked to"),
        ]

    return fate


class Ledger:
    """What a strategy ordered and was told; raises AssertionError where an order breaks the contract.

    Attributes:
        orders: All orders, in the order in which they were given.
        recipes: By trial.
        parents: By trial: the one whose weights it started from.
        out: Orders that are being trained, by trial.
    """

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.recipes: dict[int, Recipe] = {}
        self.parents: dict[int, int | None] = {}
        self.out: dict[int, Order] = {}
        self._reached: Counter[int] = Counter()
        self._over: dict[int, str] = {}
        self._heard: set[int] = set()

    def reached(self, trial: int) -> int:
        """The epoch at which a trial stands between two orders."""
        return self._reached[trial]

    def root(self, trial: int) -> int:
        """The first trial of those whose weights became this one's."""
        while (parent := self.parents[trial]) is not None:
            trial = parent
        return trial

    def take(self, order: Order) -> None:
        """Notes an order that begins."""
        trial, known = order.trial, len(self.recipes)
        require(trial not in self.out, f"trial {trial} is ordered while it is being trained")
        require(trial not in self._over, f"trial {trial} is ordered again; it had {self._over.get(trial)}")
        if trial not in self.recipes:
            require(trial == known, f"trial {trial} follows trial {known - 1}")
            self._check_parent(order)
            self.recipes[trial], self.parents[trial] = order.recipe, order.parent
        else:
            require(order.parent is None, f"trial {trial} has begun, and is given a parent")
            self._check_children(trial)
        require(order.recipe == self.recipes[trial], f"the recipe of trial {trial} changed")
        at, most = self._reached[trial], order.recipe.epochs
        require(order.until > at, f"trial {trial} is ordered to epoch {order.until}, and is at {at}")
        require(order.until <= most, f"trial {trial} is ordered to epoch {order.until} of {most}")
        self.orders.append(order)
        self.out[trial] = order

    def _check_parent(self, order: Order) -> None:
        """What a new trial starts from is there, fits, and stands still."""
        parent = order.parent
        if parent is None:
            return
        what = f"trial {order.trial} starts from trial {parent}, which"
        require(parent not in self.out, f"{what} is being trained")
        require(self._reached[parent] > 0, f"{what} has not finished an epoch")
        require(self._over.get(parent) != "failed", f"{what} failed")
        for name in STRUCTURE:
            same = getattr(order.recipe, name) == getattr(self.recipes[parent], name)
            require(same, f"{what} has another {name}")

    def _check_children(self, trial: int) -> None:
        """Until a trial's copies were heard of they may have yet to read its weights."""
        for child in (out.trial for out in self.out.values() if out.parent == trial):
            require(
                child in self._heard,
                f"trial {trial} is taken further, and trial {child}, which starts from it, was not heard of",
            )

    def hear(self, report: Report) -> None:
        """Notes a report on an order; with its last one the trial pauses, or is over if it did not do what
        was ordered.
        """
        self._heard.add(report.trial)
        if report.status == "running":
            return
        del self.out[report.trial]
        self._reached[report.trial] = report.epoch
        if report.status != "completed" or report.reason:
            self._over[report.trial] = report.status


class Workers(Ledger):
    """Simulated workers, each with one order at a time; the strategy is asked as soon as one of them is free.

    Reports of different trials are interleaved as a clock has it: an epoch of a trial takes its pace, which
    differs between trials, so orders end in another order than they were given in.

    Args:
        strategy: A fresh one.
        count: How many workers.
        fate: What becomes of orders.
        pace: Seconds that an epoch of a trial takes, > 0.
        reborn: Called after every call of the strategy: the strategy to go on with.
    """

    def __init__(
        self,
        strategy: Strategy,
        count: int,
        fate: Fate,
        pace: Callable[[int], float] = lambda trial: 1.0 + trial * 7 % 5,
        reborn: Callable[[Strategy], Strategy] = lambda strategy: strategy,
    ) -> None:
        super().__init__()
        self.strategy = strategy
        self._count, self._fate, self._pace, self._reborn = count, fate, pace, reborn
        self._queue: list[tuple[float, int, Iterator[Report], Report]] = []
        self._now = 0.0

    def run(self, orders: float = math.inf, trials: float = math.inf) -> Workers:
        """Goes on until so many orders have been given, or to so many trials, and all of them have ended; or
        the strategy is finished.
        """
        while True:
            while (more := self._asks(orders, trials)) and len(self.out) < self._count and self._ask():
                pass
            if not self._queue:
                break
            self._advance()
        require(
            not more or self.strategy.finished,
            "gives no order while nothing runs, and is not finished: the study would wait for ever",
        )
        return self

    def _asks(self, orders: float, trials: float) -> bool:
        return len(self.orders) < orders and len(self.recipes) < trials

    def _ask(self) -> bool:
        """Asks for as many orders as workers are free; whether there were any."""
        room, over = self._count - len(self.out), self.strategy.finished
        found = self.strategy.ask(room)
        self.strategy = self._reborn(self.strategy)
        require(len(found) <= room, f"gave {len(found)} orders where there was room for {room}")
        require(not (found and over), "gave orders after it was finished")
        for order in found:
            begun = self.reached(order.trial)
            self.take(order)
            told = iter(self._fate(order, begun))
            self._push(next(told), told)
        return bool(found)

    def _push(self, report: Report, rest: Iterator[Report]) -> None:
        """A closing report comes right after the last epoch; what fails at once takes half an epoch."""
        share = 1.0 if report.status == "running" else 0.5
        at = self._now + share * self._pace(report.trial)
        heapq.heappush(self._queue, (at, report.trial, rest, report))

    def _advance(self) -> None:
        """Lets the clock run to the next report, and tells it."""
        self._now, _, rest, report = heapq.heappop(self._queue)
        self.hear(report)
        if report.status == "running":
            self._push(next(rest), rest)
        self.strategy.tell(report)
        self.strategy = self._reborn(self.strategy)
