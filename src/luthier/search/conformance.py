"""What every strategy must keep to, as checks that any implementation can run, also one from another package.

With pytest::

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_conforms(check):
        check(MyStrategy)
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from itertools import cycle
from typing import Any

from luthier.recipe import Recipe
from luthier.search.base import Order, Report, Strategy
from luthier.space import Space

Make = Callable[[Space, int], Strategy]
Outcome = Callable[[Order, int], float]

STEPS = 40
"""How many times a check asks at most."""

POINT = Space.from_dict({"model": "m", "epochs": 2})
CONDITIONAL = Space.from_dict(
    {
        "model": ["m", "n"],
        "adaptation": {"values": ["full", "last_k", "probe"], "weights": [0.5, 0.3, 0.2]},
        "last_k": {"low": 1, "high": 3, "when": {"adaptation": "last_k"}},
        "learning_rate": [
            {"low": 1e-3, "high": 1e-2, "log": True, "steps": 2, "when": {"adaptation": "probe"}},
            {"low": 1e-5, "high": 1e-3, "log": True, "steps": 3, "prior": 1e-4},
        ],
        "batch_size": [16, 32],
        "epochs": {"low": 1, "high": 4},
        "forbidden": [{"adaptation": "full", "batch_size": 32}],
    }
)
BELIEVED = Space.from_dict(
    {"model": "m", "learning_rate": {"low": 1e-6, "high": 1.0, "log": True, "prior": 1e-3, "steps": 50}}
)
_SHARES = (
    "dropout",
    "head_dropout",
    "lora_dropout",
    "weight_decay",
    "l1",
    "l2_start",
    "label_smoothing",
    "momentum",
    "warmup",
)
_FACTORS = ("head_lr_ratio", "layer_decay", "clip_norm", "lora_alpha", "learning_rate")
_COUNTS = ("last_k", "lora_rank", "batch_size", "accumulate", "patience")
WIDE = Space.from_dict(
    {
        "model": "m",
        "optimizer": ["adamw", "adam", "sgd", "lion"],
        "schedule": ["constant", "linear", "cosine"],
    }
    | {name: {"low": 0.0, "high": 0.5, "steps": 3} for name in _SHARES}
    | {name: {"low": 0.01, "high": 1.0, "log": True, "steps": 3} for name in _FACTORS}
    | {name: {"low": 1, "high": 64} for name in _COUNTS}
)
SPACES = {"point": POINT, "conditional": CONDITIONAL, "believed": BELIEVED, "wide": WIDE}


def _peak(order: Order, epoch: int) -> float:
    """A score with one best learning rate that grows with epochs."""
    return -abs(math.log10(order.recipe.learning_rate) + 4) - 1 / epoch


def _nothing(order: Order, epoch: int) -> float:
    return math.nan


def _tie(order: Order, epoch: int) -> float:
    return 0.5


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def _reports(order: Order, begun: int, outcome: Outcome | None) -> list[Report]:
    """What an engine says of an order: an epoch each, then how it ended; without an outcome, that it failed
    at once.
    """
    if outcome is None:
        return [Report(order.trial, begun, "failed", reason="out of memory")]
    epochs = [
        Report(order.trial, epoch, "running", outcome(order, epoch), {"loss": 1.0}, 1.0)
        for epoch in range(begun + 1, order.until + 1)
    ]
    best = max((r.score for r in epochs if not math.isnan(r.score)), default=math.nan)
    return [*epochs, Report(order.trial, order.until, "completed", best)]


class _Driver:
    """A study without an engine: asks, answers, and watches that the contract is kept.

    Args:
        strategy: A fresh one.
        reborn: Called after every step: the strategy to go on with.
    """

    def __init__(
        self, strategy: Strategy, reborn: Callable[[Strategy], Strategy] = lambda strategy: strategy
    ) -> None:
        self.strategy, self._reborn = strategy, reborn
        self.orders: list[Order] = []
        self.recipes: dict[int, Recipe] = {}
        self._reached: Counter[int] = Counter()

    def run(self, outcome: Callable[[int], Outcome | None], steps: int | None = None) -> _Driver:
        """Asks until the strategy is finished, ``steps`` times (or STEPS) at most; ``outcome`` says how a
        trial goes.
        """
        for room, _ in zip(cycle([1, 3, 2]), range(steps or STEPS), strict=False):
            if self.strategy.finished:
                break
            orders = self.strategy.ask(room)
            self.strategy = self._reborn(self.strategy)
            _require(len(orders) <= room, f"gave {len(orders)} orders where there was room for {room}")
            _require(
                bool(orders) or self.strategy.finished,
                "gives no order while nothing runs, and is not finished: the study would wait for ever",
            )
            for order in orders:
                self._take(order)
            for order in orders:
                for report in _reports(order, self._reached[order.trial], outcome(order.trial)):
                    self.strategy.tell(report)
                    self.strategy = self._reborn(self.strategy)
                self._reached[order.trial] = order.until
        return self

    def _take(self, order: Order) -> None:
        new = order.trial not in self.recipes
        if new:
            _require(
                order.trial == len(self.recipes), f"trial {order.trial} follows trial {len(self.recipes) - 1}"
            )
            self.recipes[order.trial] = order.recipe
        _require(order.recipe == self.recipes[order.trial], f"the recipe of trial {order.trial} changed")
        reached = self._reached[order.trial]
        _require(
            order.until > reached,
            f"trial {order.trial} is ordered to epoch {order.until}, and is at {reached}",
        )
        _require(
            order.until <= order.recipe.epochs,
            f"trial {order.trial} is ordered to epoch {order.until} of {order.recipe.epochs}",
        )
        self.orders.append(order)


def _outcomes() -> dict[str, Callable[[int], Outcome | None]]:
    return {
        "scores": lambda trial: _peak,
        "failures": lambda trial: None,
        "some failures": lambda trial: None if trial % 3 == 1 else _peak,
        "NaN": lambda trial: _nothing,
        "ties": lambda trial: _tie,
    }


def check_contract(make: Make) -> None:
    """Room, trial numbers, recipes and epochs are as agreed, whatever becomes of the trials."""
    for space in SPACES.values():
        for outcome in _outcomes().values():
            driver = _Driver(make(space, 0)).run(outcome)
            _require(bool(driver.orders), "proposed nothing")


def check_space(make: Make) -> None:
    """Every recipe is one the space can draw: conditions hold, inactive settings are at their defaults,
    nothing forbidden.
    """
    for space in SPACES.values():
        for recipe in _Driver(make(space, 1)).run(lambda trial: _peak).recipes.values():
            _require(space.contains(recipe), f"proposed a recipe outside its space: {recipe!r}")


def check_no_repeats(make: Make) -> None:
    """No recipe is proposed as two trials while the space has others."""
    for space in SPACES.values():
        recipes = list(_Driver(make(space, 2)).run(lambda trial: _peak).recipes.values())
        _require(len(set(recipes)) == len(recipes), "proposed a recipe twice")


def check_priors(make: Make) -> None:
    """Where a strategy uses priors, the third of a range around the centre gets more than a third of the
    trials.
    """
    if not make(BELIEVED, 0).uses_priors:
        return
    rates = [r.learning_rate for r in _Driver(make(BELIEVED, 0)).run(lambda trial: _tie).recipes.values()]
    near = sum(1e-4 <= rate <= 1e-2 for rate in rates) / len(rates)
    _require(near > 0.45, f"{near:.0%} of the trials lie in the third of the range around the prior")


def check_one_point(make: Make) -> None:
    """A space with one recipe gives one trial, and then the strategy is finished."""
    driver = _Driver(make(POINT, 0)).run(lambda trial: _peak)
    _require(
        list(driver.recipes.values()) == [POINT.default()], "did not propose the one recipe there is, once"
    )
    _require(driver.strategy.finished, "is not finished after the only recipe")


def check_finished(make: Make) -> None:
    """A finished strategy gives no orders, and stays finished."""
    driver = _Driver(make(POINT, 0)).run(lambda trial: _peak)
    driver.strategy.tell(Report(0, 2, "completed", 1.0))
    _require(driver.strategy.ask(5) == [] and driver.strategy.finished, "went on after it was finished")


def check_total(make: Make) -> None:
    """Where the number of trials is said beforehand, it is right."""
    small = Space.from_dict({"model": "m", "batch_size": [8, 16], "optimizer": ["sgd", "adamw"]})
    strategy = make(small, 0)
    if strategy.total() is not None:
        driver = _Driver(strategy).run(lambda trial: _peak)
        _require(
            len(driver.recipes) == strategy.total(), f"{len(driver.recipes)} trials, not {strategy.total()}"
        )


def check_deterministic(make: Make) -> None:
    """Equal arguments and reports give equal orders."""
    for space in SPACES.values():
        first, second = (_Driver(make(space, 3)).run(lambda trial: _peak).orders for _ in range(2))
        _require(first == second, "the same seed and reports gave other orders")


def check_restored(make: Make) -> None:
    """Saved, written as JSON, and restored after every call, it gives the same orders as one that was left
    alone.
    """
    for space in SPACES.values():
        for outcome in _outcomes().values():

            def reborn(strategy: Strategy, space: Space = space) -> Strategy:
                state: dict[str, Any] = json.loads(json.dumps(strategy.state()))
                fresh = make(space, 4)
                fresh.restore(state)
                _require(
                    json.loads(json.dumps(fresh.state())) == state, "its state changes by being restored"
                )
                return fresh

            alone = _Driver(make(space, 4)).run(outcome, min(8, STEPS))
            restored = _Driver(make(space, 4), reborn).run(outcome, min(8, STEPS))
            _require(alone.orders == restored.orders, "after being restored it gave other orders")
            _require(alone.strategy.finished == restored.strategy.finished, "being finished was not restored")


CHECKS: list[Callable[[Make], None]] = [
    check_contract,
    check_space,
    check_no_repeats,
    check_priors,
    check_one_point,
    check_finished,
    check_total,
    check_deterministic,
    check_restored,
]
"""All checks; each takes what makes a strategy from a space and a seed, and raises AssertionError with what
is wrong.
"""
