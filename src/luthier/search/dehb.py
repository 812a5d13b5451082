"""`Dehb`: differential evolution with Hyperband's brackets, one subpopulation for each number of epochs.

The brackets' bookkeeping and the evolution live here; plain evolution of whole trainings lives in
`generations`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np

from luthier.recipe import Recipe
from luthier.search.base import Order, Report, Strategy
from luthier.search.cube import Cube
from luthier.search.points import Points
from luthier.search.recipes import most_epochs, plain, rebuilt
from luthier.search.variation import differential
from luthier.space import Space

ETA = 3
"""Each level trains this times as many epochs as the one below it, and Hyperband gives it as much fewer
trials."""
FEWEST = 6
"""Trials that a bracket begins with at least: rand/1 needs three beside the target."""
_TRIES = 50
"""Children that may turn out to be known recipes before a quasi-random point takes their place."""
_FRESH = -1


@dataclass
class _Bracket:
    """One successive halving.

    Attributes:
        start: The level it begins at.
        rung: How many levels above that it stands.
        issued: Trials of this rung that were ordered.
        done: Trials of this rung that have ended.
        before: Trials of the rung below.
    """

    start: int
    rung: int = 0
    issued: int = 0
    done: list[int] = field(default_factory=list)
    before: list[int] = field(default_factory=list)

    @property
    def level(self) -> int:
        return self.start + self.rung


class Dehb(Strategy):
    """DEHB (Awad et al. 2021, algorithm 1), with trials that go on where a recipe is promoted unchanged.

    Level ``l`` of ``L`` trains a share ``3 ** (l + 1 - L)`` of a recipe's epochs, at least one. ``L`` is
    such that the longest recipes begin with an epoch or two. Each level has a subpopulation, as large as the
    largest number of trials that a bracket of Hyperband gives it. The first bracket is plain successive
    halving over quasi-random recipes, and what it promotes fills the subpopulations above. From then on each
    slot of a rung evolves one member: a mutant of three of the best of the level below (of the level itself
    in a bracket's first rung), by rand/1 with F = 1/2, and a binomial crossover with the member at CR = 1/2.
    It trains to the level's epochs from the start, and takes the member's place unless it is worse.

    A categorical coordinate mutates, where the two that are subtracted differ in it, by being redrawn from
    its prior. While a rung is out the next bracket begins (the paper's asynchronous form, section 4). When
    the space is used up, trials are taken to their last epoch, the best first, and the search is finished.
    """

    name: ClassVar[str] = "dehb"

    def __init__(self, space: Space, seed: int = 0, option: str = "") -> None:
        super().__init__(space, seed, option)
        self._points = Points(space, seed)
        self._cube = Cube(space)
        self._levels = 1 + int(math.log(most_epochs(space)) / math.log(ETA) + 1e-9)
        self._recipes: list[Recipe] = []
        self._genes: list[np.ndarray] = []
        self._reached: dict[int, int] = {}
        self._losses: list[dict[int, float]] = [{} for _ in range(self._levels)]
        self._members: list[list[int]] = [[] for _ in range(self._levels)]
        self._turns = [0] * self._levels
        self._brackets: dict[int, _Bracket] = {}
        self._begun = 0
        self._unsound: set[int] = set()
        """Trials whose last epoch had no score: diverged, whatever their best one was."""
        self._out: dict[int, tuple[int, int, int]] = {}
        """Of each trial in training: its bracket, its level, and the slot it is to replace (or `_FRESH`)."""

    # -- sizes ----------------------------------------------------------------------------------------------

    def _count(self, start: int, rung: int) -> int:
        """Trials of a bracket's rung (Li et al. 2018, algorithm 1)."""
        above = self._levels - 1 - start
        first = max(math.ceil(self._levels / (above + 1) * ETA**above), FEWEST if above == 0 else 1)
        return int(max(1, first // ETA**rung))

    def _size(self, level: int) -> int:
        return max(self._count(start, level - start) for start in range(level + 1))

    def _until(self, trial: int, level: int) -> int:
        epochs = self._recipes[trial].epochs
        return max(1, math.ceil(epochs / float(ETA ** (self._levels - 1 - level)) - 1e-9))

    # -- asking ---------------------------------------------------------------------------------------------

    def ask(self, room: int) -> list[Order]:
        """The next slots of the brackets under way, and of a new one where those wait for results."""
        orders: list[Order] = []
        while len(orders) < room:
            order = self._last_ones() if self._points.upcoming is None else self._slot()
            if order is None:
                break
            orders.append(order)
        return orders

    def _slot(self) -> Order:
        for number in list(self._brackets):
            while self._advance(number):
                if order := self._order(number):
                    return order
        number, self._begun = self._begun, self._begun + 1
        self._brackets[number] = _Bracket(number % self._levels)
        order = self._order(number)
        assert order is not None, "the first slot of a bracket is always a new trial"
        return order

    def _advance(self, number: int) -> bool:
        """Whether a bracket has a slot to fill now. Where all of a rung has ended it goes up, or ends."""
        bracket = self._brackets[number]
        if bracket.issued < self._count(bracket.start, bracket.rung):
            return True
        if len(bracket.done) < bracket.issued:
            return False
        if bracket.level == self._levels - 1:
            del self._brackets[number]
            return False
        bracket.before, bracket.done, bracket.issued = bracket.done, [], 0
        bracket.rung += 1
        return True

    def _order(self, number: int) -> Order | None:
        """Fills a slot; None where what is promoted has no more epochs to train at this level."""
        bracket = self._brackets[number]
        bracket.issued += 1
        level = bracket.level
        slot = _FRESH
        if len(self._members[level]) < self._size(level):
            trial = self._promoted(bracket)
            if trial is None:
                trial = self._new(self._points.take())
            self._members[level].append(trial)
        else:
            slot = self._turns[level] % len(self._members[level])
            self._turns[level] += 1
            trial = self._new(self._child(bracket, slot))
        until = self._until(trial, level)
        if until <= self._reached.get(trial, 0):
            self._losses[level][trial] = self._losses[level - 1][trial]
            bracket.done.append(trial)
            return None
        self._out[trial] = (number, level, slot)
        return Order(trial, self._recipes[trial], until)

    def _new(self, recipe: Recipe) -> int:
        self._points.add(recipe)
        self._recipes.append(recipe)
        self._genes.append(self.space.encode(recipe))
        return len(self._recipes) - 1

    def _promoted(self, bracket: _Bracket) -> int | None:
        """The best trial of the rung below that is not at this level yet."""
        level = bracket.level
        able = [t for t in bracket.before if t not in self._members[level] and t not in self._out]
        below = self._losses[level - 1]
        able = [t for t in able if math.isfinite(below.get(t, math.nan))]
        return min(able, key=lambda t: (below[t], t), default=None)

    def subpopulations(self) -> list[list[int]]:
        """The trials that stand for each level, from the fewest epochs to the most."""
        return [list(level) for level in self._members]

    # -- evolving -------------------------------------------------------------------------------------------

    def _child(self, bracket: _Bracket, slot: int) -> Recipe:
        target = self._genes[self._members[bracket.level][slot]]
        pool = np.array([self._genes[trial] for trial in self._pool(bracket)])
        for attempt in range(_TRIES):
            rng = np.random.default_rng([self.seed, len(self._recipes), attempt])
            child = differential(target, pool, self._cube.categorical, rng)
            recipe = self.space.sample(child)
            if recipe not in self._points:
                return recipe
        assert self._points.upcoming is not None
        return self._points.upcoming

    def _pool(self, bracket: _Bracket) -> list[int]:
        """What mutants are made of: the best of the level below, filled up to three from all trials."""
        level = bracket.level
        if bracket.rung == 0:
            pool = list(self._members[level])
        else:
            below = self._losses[level - 1]
            ranked = sorted(self._members[level - 1], key=lambda t: (_or_worst(below.get(t)), t))
            pool = ranked[: self._count(bracket.start, bracket.rung)]
        others = [trial for trial in range(len(self._recipes)) if trial not in pool]
        rng = np.random.default_rng([self.seed, len(self._recipes)])
        missing = max(0, 3 - len(pool))
        return pool + [int(t) for t in rng.permutation(others)[:missing]]

    # -- the end --------------------------------------------------------------------------------------------

    def _unfinished(self) -> list[int]:
        """Trials that could train further, the best first: those of the highest level before others."""
        standing: dict[int, tuple[int, float]] = {}
        for level, losses in enumerate(self._losses):
            standing |= {trial: (-level, loss) for trial, loss in losses.items()}
        able = [
            trial
            for trial, (_, loss) in standing.items()
            if math.isfinite(loss) and self._reached.get(trial, 0) < self._recipes[trial].epochs
        ]
        return sorted((t for t in able if t not in self._out), key=lambda t: (*standing[t], t))

    def _last_ones(self) -> Order | None:
        for trial in self._unfinished():
            self._out[trial] = (_FRESH, self._levels - 1, _FRESH)
            return Order(trial, self._recipes[trial], self._recipes[trial].epochs)
        return None

    # -- being told -----------------------------------------------------------------------------------------

    def tell(self, report: Report) -> None:
        """Takes a trial's end into its level's subpopulation."""
        trial = report.trial
        if trial not in self._out:
            return
        if report.status == "running":
            self._unsound.discard(trial)
            if not math.isfinite(report.score):
                self._unsound.add(trial)
            return
        number, level, slot = self._out.pop(trial)
        lost = report.status == "failed" or trial in self._unsound
        loss = math.nan if lost else -float(report.score)
        self._losses[level][trial] = loss
        until = self._until(trial, level)
        # What stopped by its own patience has its final score: it counts at the levels above as it is.
        ended = report.status != "completed" or report.epoch < until or bool(report.reason)
        self._reached[trial] = self._recipes[trial].epochs if ended else until
        if number in self._brackets:
            self._brackets[number].done.append(trial)
        if slot != _FRESH:
            target = self._members[level][slot]
            if _or_worst(loss) <= _or_worst(self._losses[level].get(target)):
                self._members[level][slot] = trial

    @property
    def finished(self) -> bool:
        """Whether the space is used up and every trial has been taken to its end."""
        return self._points.upcoming is None and not self._out and not self._unfinished()

    def state(self) -> dict[str, Any]:
        """Trials, their losses a level, subpopulations and brackets."""
        return {
            "recipes": [plain(recipe) for recipe in self._recipes],
            "reached": [[trial, epoch] for trial, epoch in self._reached.items()],
            "losses": [
                [[t, None if math.isnan(x) else x] for t, x in level.items()] for level in self._losses
            ],
            "members": [list(level) for level in self._members],
            "turns": list(self._turns),
            "begun": self._begun,
            "brackets": [[number, asdict(bracket)] for number, bracket in self._brackets.items()],
            "unsound": sorted(self._unsound),
            "out": [[trial, *where] for trial, where in self._out.items()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        for values in state["recipes"]:
            self._new(rebuilt(values))
        self._reached = dict(state["reached"])
        self._losses = [{t: math.nan if x is None else x for t, x in level} for level in state["losses"]]
        self._members = [list(level) for level in state["members"]]
        self._turns = list(state["turns"])
        self._begun = state["begun"]
        self._brackets = {number: _Bracket(**kept) for number, kept in state["brackets"]}
        self._unsound = set(state["unsound"])
        self._out = {trial: (number, level, slot) for trial, number, level, slot in state["out"]}


def _or_worst(loss: float | None) -> float:
    return math.inf if loss is None or math.isnan(loss) else loss
