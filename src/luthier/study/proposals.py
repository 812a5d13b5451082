"""`Proposals`: what a study will train next, and what its strategy has yet to hear.

It stands between the two, so that a strategy never notices how its orders were run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from luthier.recipe import Recipe
from luthier.search.base import Strategy
from luthier.trial import Order, Report

# Beside the strategy's own state, and only while there is something to keep.
_WAITING, _UNTOLD = "$waiting", "$untold"


class Proposals:
    """A strategy's orders, under the study's numbers and seeds, a round at a time.

    A round is what the strategy gives before it is told anything more. When all of a round has ended it is
    told of that, trial by trial in the order of their numbers, each with its epochs and then its end; only
    then is it asked again. So neither which trial ends first, nor time that is too short for a whole round,
    nor a process that dies in the middle changes what a strategy is asked and told.

    Args:
        strategy: Fresh.
        first: Recipes that come before the strategy's own, as the first trials; it is not told of them.
        seed: Of the run.

    Attributes:
        waiting: Orders of this round that were not begun, in the order in which they are to be.
    """

    def __init__(self, strategy: Strategy, first: Sequence[Recipe], seed: int) -> None:
        self.waiting: list[Order] = []
        self._strategy = strategy
        self._first = list(first)
        self._seed = seed
        self._open: set[int] = set()
        self._untold: list[Report] = []

    def ask(self, begun: int, room: int, together: Callable[[Recipe], bool] = lambda recipe: True) -> None:
        """Begins a round where the last one is over; otherwise there are orders `waiting` already.

        Args:
            begun: Trials begun so far.
            room: Orders at most (>= 1).
            together: Whether trials of such a recipe gain by others beside them. A round ends with the first
                that does not: what comes after it is better chosen when its result is known.
        """
        if self.waiting:
            return
        firsts = list(enumerate(self._first))[begun : begun + room]
        # The run's own seed: what was trained before the study, such as a probe, is met again as it was.
        self.waiting = [Order(number, recipe, recipe.epochs, self._seed) for number, recipe in firsts]
        while len(self.waiting) < room and all(together(order.recipe) for order in self.waiting[-1:]):
            given = self._strategy.ask(1)
            if not given:
                return
            self.waiting += [self._numbered(order) for order in given]

    def _numbered(self, order: Order) -> Order:
        """A strategy's order as the study knows it."""
        number = order.trial + len(self._first)
        parent = None if order.parent is None else order.parent + len(self._first)
        return replace(order, trial=number, parent=parent, seed=self._trial_seed(number))

    def begin(self, count: int) -> None:
        """Takes note that the first ``count`` of the orders `waiting` begin."""
        self._open |= {order.trial for order in self.waiting[:count]}
        self.waiting = self.waiting[count:]

    def put_back(self, orders: Sequence[Order]) -> None:
        """Lets orders wait again that were to begin and did not."""
        self._open -= {order.trial for order in orders}
        self.waiting = sorted([*orders, *self.waiting], key=lambda order: order.trial)

    def drop(self, orders: Sequence[Order], reason: str) -> None:
        """Ends orders `waiting` that will never begin; the strategy hears that they were stopped."""
        dropped = {order.trial for order in orders}
        self.waiting = [order for order in self.waiting if order.trial not in dropped]
        for trial in sorted(dropped):
            self.take(Report(trial, 0, "stopped", reason=reason))

    def take(self, report: Report) -> None:
        """Keeps a report, and tells the strategy of the whole round if it is the last one of it."""
        self._untold.append(report)
        if report.status == "running":
            return
        self._open.discard(report.trial)
        if not self._open and not self.waiting:
            # Sorting is stable: the reports of one trial stay in the order in which they came.
            for told in sorted(self._untold, key=lambda one: one.trial):
                if told.trial >= len(self._first):
                    self._strategy.tell(replace(told, trial=told.trial - len(self._first)))
            self._untold = []

    def state(self) -> dict[str, Any]:
        """Everything needed to continue, as JSON values: the strategy's state, and what it has yet to hear.

        Trials in training are not in it: they are trained, and heard of, anew.
        """
        state = self._strategy.state()
        if self.waiting:
            state = state | {_WAITING: [_plain_order(order) for order in self.waiting]}
        if ended := [report for report in self._untold if report.trial not in self._open]:
            state = state | {_UNTOLD: [_plain_report(report) for report in ended]}
        return state

    def restore(self, state: dict[str, Any] | None, unfinished: Collection[int]) -> None:
        """Continues from what ``state()`` returned.

        Args:
            state: As it was stored; None: nothing was.
            unfinished: Numbers of the trials that were in training.
        """
        self._open = set(unfinished)
        if state is None:
            return
        own = {name: value for name, value in state.items() if name not in {_WAITING, _UNTOLD}}
        self._strategy.restore(own)
        self.waiting = [
            Order(**kept | {"recipe": Recipe.parse(kept["recipe"])}) for kept in state.get(_WAITING, [])
        ]
        self._untold = [Report(**kept) for kept in state.get(_UNTOLD, [])]

    def _trial_seed(self, trial: int) -> int:
        """A function of the run's seed and the trial's number alone."""
        return int(np.random.SeedSequence([self._seed, trial]).generate_state(1)[0] % 2**31)


def _plain_order(order: Order) -> dict[str, Any]:
    return {
        "trial": order.trial,
        "recipe": order.recipe.model_dump(),
        "until": order.until,
        "seed": order.seed,
        "parent": order.parent,
    }


def _plain_report(report: Report) -> dict[str, Any]:
    """Numbers may come as NumPy's or torch's own, which JSON does not know."""
    metrics = {name: float(value) for name, value in report.metrics.items()}
    numbers = {"score": float(report.score), "seconds": float(report.seconds), "metrics": metrics}
    return asdict(report) | numbers | {"peak_memory": int(report.peak_memory)}
