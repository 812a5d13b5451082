"""Workers that run orders on their own, in an order that a seed decides: what a strategy sees of a
cluster."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np

from luthier.search.base import Order, Report, Strategy


class Workers:
    """Asks a strategy whenever a worker is free, and tells of epochs as they end, in any order.

    Args:
        strategy: A fresh one.
        score: Of an order after an epoch (1-based); None: the trial fails there.
        count: Workers.
        seed: Of the order in which things happen.
        make: Makes a fresh strategy: it is saved and restored after every step; None: never.
    """

    def __init__(
        self,
        strategy: Strategy,
        score: Callable[[Order, int], float | None],
        count: int = 4,
        seed: int = 0,
        make: Callable[[], Strategy] | None = None,
    ) -> None:
        self.strategy, self._score, self._count, self._make = strategy, score, count, make
        self._rng = np.random.default_rng(seed)
        self.orders: list[Order] = []
        self.running: dict[int, Order] = {}
        self.reached: dict[int, int] = {}
        self.scores: dict[int, float] = {}

    def run(self, trials: int) -> Workers:
        """Goes on until that many trials were begun, or the strategy is finished and nothing runs."""
        while len(self.reached) < trials:
            free = self._count - len(self.running)
            got = self.strategy.ask(free) if free else []
            assert len(got) <= free
            for order in got:
                assert order.trial not in self.running
                assert self.reached.setdefault(order.trial, 0) < order.until <= order.recipe.epochs
                self.orders.append(order)
                self.running[order.trial] = order
            self._reborn()
            if not self.running:
                assert self.strategy.finished, "gives no order while nothing runs, and is not finished"
                break
            self._epoch(int(self._rng.choice(sorted(self.running))))
        return self

    def _epoch(self, trial: int) -> None:
        order = self.running[trial]
        epoch = self.reached[trial] + 1
        score = self._score(order, epoch)
        if score is None:
            del self.running[trial]
            self.strategy.tell(Report(trial, epoch - 1, "failed", reason="out of memory"))
            self._reborn()
            return
        self.reached[trial] = epoch
        self.scores[trial] = max(score, self.scores.get(trial, -math.inf))
        self.strategy.tell(Report(trial, epoch, "running", score))
        if epoch == order.until:
            del self.running[trial]
            self.strategy.tell(Report(trial, epoch, "completed", self.scores[trial]))
        self._reborn()

    def _reborn(self) -> None:
        if self._make is not None:
            state = json.loads(json.dumps(self.strategy.state()))
            self.strategy = self._make()
            self.strategy.restore(state)
