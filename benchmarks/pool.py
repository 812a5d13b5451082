"""QuickTune datasets as spaces with a simulated engine, so that strategies can be compared by real learning
curves in no time: `pools`, `simulate`, `regret`. Which strategies are compared, and tables, live elsewhere.

A pool is the list of recipes that were run on one dataset, with each run's accuracy and seconds by epoch. A
strategy searches `Pool.space(seed)` with one worker; the recorded seconds are the clock::

    for pool in pools(folder):
        trace = simulate(registry.create("random", pool.space(seed), seed), pool, limit=16 * pool.cost)
        print(pool.name, regret(trace, pool))

Stable: `Pool`, `pools`, `Trace`, `simulate`, `regret`, `MULTIPLES`, `folder`.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from luthier.search.base import Order, Report, Strategy
from luthier.search.past import PastStudy
from luthier.search.quicktune import read
from luthier.space import Listed

MULTIPLES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Budgets at which regret is read, in units of `Pool.cost`."""
_IDLE = 100_000
"""Orders in a row that cost nothing, after which a strategy is going in circles."""


@dataclass(frozen=True)
class Pool:
    """One dataset's runs.

    Attributes:
        study: Recipes, scores (accuracy, shares of one), seconds and features, a run each.
    """

    study: PastStudy

    @property
    def name(self) -> str:
        """The dataset's."""
        return self.study.name.removeprefix("quicktune:")

    def space(self, seed: int = 0) -> Listed:
        """The recipes as a space, in an order drawn with ``seed``: the first of a list is its default, and no
        strategy should gain from one that happens to be good.
        """
        order = np.random.default_rng([seed, 7]).permutation(len(self.study.recipes))
        recipes = [self.study.recipes[at] for at in order]
        names = self.study.feature_names
        return Listed(recipes, self.study.features[order] if names else None, names)

    @cached_property
    def index(self) -> dict[object, int]:
        """Recipe to its run."""
        return {recipe: at for at, recipe in enumerate(self.study.recipes)}

    @cached_property
    def cost(self) -> float:
        """Mean seconds of a whole run, the unit of budgets."""
        return float(np.mean([sum(seconds) for seconds in self.study.seconds]))

    @cached_property
    def best(self) -> float:
        """The best score of any epoch of any run."""
        return max(max(scores) for scores in self.study.scores)

    @cached_property
    def worst(self) -> float:
        """The lowest of the runs' best scores."""
        return min(max(scores) for scores in self.study.scores)


@dataclass(frozen=True)
class Trace:
    """What one search saw: ``seconds`` on the clock at the end of each epoch, its score, trial and epoch, all
    of one length, in order.
    """

    seconds: list[float]
    scores: list[float]
    trials: list[int]
    epochs: list[int]


def folder() -> Path:
    """Where the runs are: under SHARED if that is set, or in ``shared`` beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    return Path(os.environ.get("SHARED", beside)) / "data" / "quicktune"


def pools(place: str | Path | None = None) -> list[Pool]:
    """All datasets, in the order of their names."""
    return [Pool(study) for study in read(folder() if place is None else place)]


def simulate(strategy: Strategy, pool: Pool, limit: float) -> Trace:
    """Drives a strategy over a pool, one order at a time, until it is finished or the clock reaches ``limit``
    seconds.

    A trial taken further pays for its further epochs only. A run has as many epochs as were recorded: where
    an order goes beyond them, its trial ends as ``stopped`` at the last, with the best score as its own, and
    any later order for it ends the same way at no cost.

    Args:
        strategy: Fresh, over ``pool.space(seed)``.
        pool: Has the curves.
        limit: Seconds; the epoch that crosses it is cut off, and is not in the trace.
    """
    trace = Trace([], [], [], [])
    reached: Counter[int] = Counter()
    clock, idle = 0.0, 0
    while clock < limit and not strategy.finished:
        orders = strategy.ask(1)
        if not orders and strategy.finished:
            break
        if not orders:
            raise RuntimeError(f"{strategy.name} gives no order though nothing runs, and is not finished")
        spent = _carry_out(strategy, pool, orders[0], reached, trace, clock, limit)
        idle = 0 if spent else idle + 1
        if idle > _IDLE:
            raise RuntimeError(f"{strategy.name} goes on ordering what costs nothing")
        clock += spent
    return trace


def _carry_out(
    strategy: Strategy,
    pool: Pool,
    order: Order,
    reached: Counter[int],
    trace: Trace,
    clock: float,
    limit: float,
) -> float:
    """Runs one order; returns the seconds it took."""
    run = pool.index[order.recipe]
    scores, seconds = pool.study.scores[run], pool.study.seconds[run]
    begun, spent = reached[order.trial], 0.0
    for epoch in range(begun + 1, min(order.until, len(scores)) + 1):
        spent += seconds[epoch - 1]
        if clock + spent > limit:
            return spent
        reached[order.trial] = epoch
        for values, value in zip(
            (trace.seconds, trace.scores, trace.trials, trace.epochs),
            (clock + spent, scores[epoch - 1], order.trial, epoch),
            strict=True,
        ):
            values.append(value)  # type: ignore[attr-defined]
        strategy.tell(Report(order.trial, epoch, "running", scores[epoch - 1], {}, seconds[epoch - 1]))
    done = reached[order.trial]
    ended = done < order.until
    best = int(np.argmax(scores[:done]))
    strategy.tell(
        Report(
            order.trial, done, "stopped" if ended else "completed", scores[best],
            reason="the recorded run ends here" if ended else "", best_epoch=best + 1,
        )
    )  # fmt: skip
    return spent


def regret(trace: Trace, pool: Pool, multiples: Sequence[float] = MULTIPLES) -> np.ndarray:
    """Normalised regret at each budget, (len(multiples),): ``(best - found) / (best - worst)``.

    ``found`` is the best score of any epoch that had ended by then, ``best`` and ``worst`` are the pool's
    (`Pool.best`, `Pool.worst`); 1 before the first epoch has ended, and for a score below ``worst``. With it
    random search without repeats has, on the 18 datasets, a mean of .49 at one mean run's cost, .39 at two
    and .27 at four; published for all 26: .505, .404 and .264.
    """
    found = np.maximum.accumulate([-math.inf, *np.nan_to_num(trace.scores, nan=-math.inf)])
    at = np.searchsorted(trace.seconds, np.asarray(multiples) * pool.cost, side="right")
    return np.clip((pool.best - found[at]) / (pool.best - pool.worst), 0.0, 1.0)
