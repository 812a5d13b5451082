"""What every strategy must keep to, as checks that any implementation can run, also one from another package.

With pytest::

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_conforms(check):
        check(MyStrategy)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, cycle
from typing import Any, Literal, get_args, get_origin

from luthier.errors import SettingError
from luthier.recipe import Recipe
from luthier.search.base import Order, Report, Strategy
from luthier.search.workers import Ledger, Outcome, Workers, mixed, rebirth, reports, require
from luthier.space import Space

Make = Callable[[Space, int], Strategy]

STEPS = 40
"""How many times a check asks at most; a slow strategy may set it lower."""
_FEWEST = 10
"""Orders to workers, which ask for one or two at a time, at least."""

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
_CHOICES: dict[str, list[Any]] = {
    "model": ["m", "n"],
    "dropout": [None, 0.0, 0.2],
    "nesterov": [True, False],
    "gradient_checkpointing": [True, False],
}
_SHARES = (
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
_COUNTS = ("last_k", "lora_rank", "batch_size", "accumulate", "patience", "max_length", "image_size")
WIDE = Space.from_dict(
    {
        name: list(get_args(field.annotation))
        for name, field in Recipe.model_fields.items()
        if get_origin(field.annotation) is Literal
    }
    | _CHOICES
    | {name: {"low": 0.0, "high": 0.5, "steps": 3} for name in _SHARES}
    | {name: {"low": 0.01, "high": 1.0, "log": True, "steps": 3} for name in _FACTORS}
    | {name: {"low": 16, "high": 64} for name in _COUNTS}
    | {"epochs": {"low": 1, "high": 12}}
)
"""Every setting varies, and there is no wider space: a dimension is a setting, and a recipe has each once."""
LONG = Space.from_dict(
    {
        "model": "m",
        "learning_rate": {"low": 1e-6, "high": 1.0, "log": True, "steps": 20},
        "batch_size": [8, 16, 32],
        "epochs": {"low": 2, "high": 30, "prior": 12},
    }
)
"""Recipes of so many epochs that it is worth while to pause them."""
FEW = Space.from_dict({"model": "m", "batch_size": [8, 16], "optimizer": ["sgd", "adamw"], "epochs": 9})
SPACES = {"point": POINT, "conditional": CONDITIONAL, "believed": BELIEVED, "wide": WIDE, "long": LONG}


def _accepted(make: Make, seed: int, *spaces: Space) -> list[Space]:
    """Those of the spaces, or of all, that a strategy can search; it refuses others with a `SettingError`."""
    accepted = [space for space in spaces or SPACES.values() if not _refuses(make, space, seed)]
    require(bool(accepted), "refuses every space")
    return accepted


def _refuses(make: Make, space: Space, seed: int = 0) -> bool:
    try:
        make(space, seed)
    except SettingError:
        return True
    return False


def _peak(order: Order, epoch: int) -> float:
    """A score with one best learning rate that grows with epochs."""
    return -abs(math.log10(order.recipe.learning_rate) + 4) - 1 / epoch


def _nothing(order: Order, epoch: int) -> float:
    return math.nan


def _tie(order: Order, epoch: int) -> float:
    return 0.5


class _Driver(Ledger):
    """A study without an engine: asks, answers, and watches that the contract is kept.

    Args:
        strategy: A fresh one.
        reborn: Called after every step: the strategy to go on with.
    """

    def __init__(
        self, strategy: Strategy, reborn: Callable[[Strategy], Strategy] = lambda strategy: strategy
    ) -> None:
        super().__init__()
        self.strategy, self._reborn = strategy, reborn

    def run(self, outcome: Callable[[int], Outcome | None], steps: int | None = None) -> _Driver:
        """Asks until the strategy is finished, ``steps`` times (or STEPS) at most; ``outcome`` says how a
        trial goes.
        """
        for room, _ in zip(cycle([1, 3, 2]), range(steps or STEPS), strict=False):
            if self.strategy.finished:
                break
            orders = self.strategy.ask(room)
            self.strategy = self._reborn(self.strategy)
            require(len(orders) <= room, f"gave {len(orders)} orders where there was room for {room}")
            require(
                bool(orders) or self.strategy.finished,
                "gives no order while nothing runs, and is not finished: the study would wait for ever",
            )
            for order in orders:
                self.take(order)
            for order in orders:
                for report in reports(order, self.reached(order.trial), outcome(order.trial)):
                    self.hear(report)
                    self.strategy.tell(report)
                    self.strategy = self._reborn(self.strategy)
        return self


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
    for space in _accepted(make, 0):
        for outcome in _outcomes().values():
            driver = _Driver(make(space, 0)).run(outcome)
            require(bool(driver.orders), "proposed nothing")
            alone = all(order.parent is None for order in driver.orders)
            require(driver.strategy.inherits or alone, "names parents, and does not say that it inherits")


def check_space(make: Make) -> None:
    """Every recipe is one the space can draw: conditions hold, inactive settings are at their defaults,
    nothing forbidden. One that starts from another trial's weights may have fewer epochs than that.
    """
    for space in _accepted(make, 1):
        driver = _Driver(make(space, 1)).run(lambda trial: _peak)
        for trial, recipe in driver.recipes.items():
            parent, first = driver.parents[trial], driver.recipes[driver.root(trial)]
            most = recipe.epochs if parent is None else driver.recipes[parent].epochs
            require(recipe.epochs <= most, f"trial {trial} has more epochs than the one it starts from")
            whole = recipe.model_copy(update={"epochs": first.epochs})
            require(space.contains(whole), f"proposed a recipe outside its space: {recipe!r}")


def check_no_repeats(make: Make) -> None:
    """No recipe is proposed as two trials while the space has others."""
    for space in _accepted(make, 2):
        recipes = list(_Driver(make(space, 2)).run(lambda trial: _peak).recipes.values())
        require(len(set(recipes)) == len(recipes), "proposed a recipe twice")


def check_priors(make: Make) -> None:
    """Where a strategy uses priors, the third of a range around the centre gets more than a third of the
    trials.
    """
    if _refuses(make, BELIEVED) or not make(BELIEVED, 0).uses_priors:
        return
    rates = [r.learning_rate for r in _Driver(make(BELIEVED, 0)).run(lambda trial: _tie).recipes.values()]
    near = sum(1e-4 <= rate <= 1e-2 for rate in rates) / len(rates)
    require(near > 0.45, f"{near:.0%} of the trials lie in the third of the range around the prior")


def check_one_point(make: Make) -> None:
    """A space with one recipe gives one trial, and then the strategy is finished."""
    if _refuses(make, POINT):
        return
    driver = _Driver(make(POINT, 0)).run(lambda trial: _peak)
    require(
        list(driver.recipes.values()) == [POINT.default()], "did not propose the one recipe there is, once"
    )
    require(driver.strategy.finished, "is not finished after the only recipe")


def check_finished(make: Make) -> None:
    """A finished strategy gives no orders, and stays finished."""
    if _refuses(make, POINT):
        return
    driver = _Driver(make(POINT, 0)).run(lambda trial: _peak)
    driver.strategy.tell(Report(0, 2, "completed", 1.0))
    require(driver.strategy.ask(5) == [] and driver.strategy.finished, "went on after it was finished")


def check_total(make: Make) -> None:
    """Where the number of trials is said beforehand, it is right."""
    small = Space.from_dict({"model": "m", "batch_size": [8, 16], "optimizer": ["sgd", "adamw"]})
    if _refuses(make, small):
        return
    strategy = make(small, 0)
    if strategy.total() is not None:
        driver = _Driver(strategy).run(lambda trial: _peak)
        require(
            len(driver.recipes) == strategy.total(), f"{len(driver.recipes)} trials, not {strategy.total()}"
        )


def check_deterministic(make: Make) -> None:
    """Equal arguments and reports give equal orders."""
    for space in _accepted(make, 3):
        first, second = (_Driver(make(space, 3)).run(lambda trial: _peak).orders for _ in range(2))
        require(first == second, "the same seed and reports gave other orders")


def check_restored(make: Make) -> None:
    """Saved, written as JSON, and restored after every call, it gives the same orders as one that was left
    alone.
    """
    for space in _accepted(make, 4):
        for outcome in _outcomes().values():
            alone = _Driver(make(space, 4)).run(outcome, min(8, STEPS))
            restored = _Driver(make(space, 4), rebirth(partial(make, space, 4))).run(outcome, min(8, STEPS))
            require(alone.orders == restored.orders, "after being restored it gave other orders")
            require(alone.strategy.finished == restored.strategy.finished, "being finished was not restored")


def check_asynchronous(make: Make) -> None:
    """With workers that finish in a mixed order it is asked while orders are out: no trial is ordered twice
    or after its end, no recipe is proposed as two trials, and the search neither stands still nor goes on
    after it was finished.
    """
    for space in _accepted(make, 5, CONDITIONAL, WIDE, LONG):
        for fate in (mixed(_peak), mixed(_nothing), mixed(_tie)):
            recipes = list(Workers(make(space, 5), 4, fate).run(max(STEPS, _FEWEST)).recipes.values())
            require(len(set(recipes)) == len(recipes), "proposed a recipe twice")
    if not _refuses(make, FEW):
        Workers(make(FEW, 5), 2, mixed(_peak)).run(STEPS)
    if _refuses(make, POINT):
        return
    workers = Workers(make(POINT, 5), 4, mixed(_peak)).run(STEPS)
    require(len(workers.recipes) == 1, "did not propose the one recipe there is, once")
    require(workers.strategy.finished, "is not finished after the only recipe")


def check_restored_asynchronous(make: Make) -> None:
    """Restored while orders are out, at every third call, it gives the same orders as one that was left
    alone: nothing is lost, nothing ordered twice.
    """
    for space in _accepted(make, 6, CONDITIONAL, LONG):
        restart, calls = rebirth(partial(make, space, 6)), count(1)

        def reborn(
            strategy: Strategy,
            restart: Callable[[Strategy], Strategy] = restart,
            calls: Iterator[int] = calls,
        ) -> Strategy:
            return strategy if next(calls) % 3 else restart(strategy)

        alone = Workers(make(space, 6), 3, mixed(_peak)).run(max(STEPS // 2, _FEWEST))
        restored = Workers(make(space, 6), 3, mixed(_peak), reborn=reborn).run(max(STEPS // 2, _FEWEST))
        require(alone.orders == restored.orders, "restored with orders out it gave other orders")
        require(alone.strategy.finished == restored.strategy.finished, "being finished was not restored")


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
    check_asynchronous,
    check_restored_asynchronous,
]
"""All checks; each takes what makes a strategy from a space and a seed, and raises AssertionError with what
is wrong.
"""
