"""`Generations`: evolution of whole trainings, in which a cheap model of the scores chooses among children.

How children come about lives in `variation`, the model in `rbf`, what it sees in `cube`.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from luthier.recipe import Recipe
from luthier.search.base import Order, Report, Strategy
from luthier.search.cube import Cube
from luthier.search.points import Points
from luthier.search.rbf import Interpolant, compressed, distances
from luthier.search.recipes import plain, rebuilt
from luthier.search.variation import children
from luthier.space import Space

ELITE = 8
"""Parents: the best trials (since the last restart)."""
LITTER = 200
"""Children bred from the elite, and as many from its best alone, of which one is trained."""
WEIGHTS = (0.3, 0.5, 0.8, 0.95)
"""What the guessed score weighs against the distance from all trials, in turn (Regis & Shoemaker 2007,
section 3.2)."""
STEP = 0.2
"""Standard deviation of mutations at first and at most, as a share of a range (of its prior's mass)."""
SMALLEST_STEP = STEP / 64
"""Below it the neighbourhood of the best is used up, and the search restarts."""
WINS = 3
"""Improvements in a row after which the step size doubles."""
LOSSES = 5
"""Children in a row without one after which it is halved, or as many as there are dimensions if that is
more."""
HORIZON = 90
"""Children over which the share of coordinates that mutate falls from all to few."""
FEWEST_MUTATED = 0.1
FRESH = 5
"""Quasi-random trials after a restart."""
_TRIES = 50
"""Children that may turn out to be known recipes before a quasi-random point takes their place."""
_SAME = 1e-6


class Generations(Strategy):
    """A steady-state evolutionary search: each child is bred from all that is known when it is asked for.

    Trial 0 is the space's default, and a few quasi-random points follow. From then on the `ELITE` best
    trials are parents, which makes the best immortal. Of `LITTER` children by binary tournament, uniform
    crossover and normal mutation, and as many mutants of the best trial, one is trained: the one with the
    best weighted sum of the score that a radial basis function model guesses and of the distance from all
    trials, with weights that go round from exploring to exploiting. This is how a hundred trials suffice
    where evolution by itself needs thousands; mutation and choice follow DYCORS (Regis & Shoemaker 2013,
    algorithm 1 and section 2.3): the share of coordinates that mutate falls with the logarithm of the
    trials, and the step size doubles after improvements and is halved after failures. When it has become too
    small, the search restarts from fresh points: only trials since then are parents, while the model keeps
    all.

    It searches the unit cube of the space, so that a mutation is as likely to cross any two parts of a range
    with equal prior mass. A categorical setting mutates by being redrawn from its prior; a setting that no
    parent has comes from its prior too. Every trial goes to the last epoch its recipe allows. A failed trial
    counts as the worst. No recipe is proposed twice; when the space brings nothing new for long, the search
    is finished.

    Attributes:
        step: Standard deviation of mutations now.
    """

    name: ClassVar[str] = "generations"

    def __init__(self, space: Space, seed: int = 0, option: str = "") -> None:
        super().__init__(space, seed, option)
        self._cube = Cube(space)
        self._points = Points(space, seed)
        self._initial = max(6, len(space.dimensions) + 4)
        self._recipes: list[Recipe] = []
        self._genes: list[np.ndarray] = []
        self._losses: dict[int, float] = {}
        self.step = STEP
        self._wins = 0
        self._failures = 0
        self._origin = 0
        """The first trial since the last restart."""

    # -- asking ---------------------------------------------------------------------------------------------

    def ask(self, room: int) -> list[Order]:
        """The next ``room`` recipes, fewer where the space is used up."""
        orders: list[Order] = []
        while len(orders) < room and not self.finished:
            recipe = self._proposal()
            orders.append(Order(len(self._recipes), recipe, recipe.epochs))
            self._add(recipe)
        return orders

    def _add(self, recipe: Recipe) -> None:
        self._points.add(recipe)
        self._recipes.append(recipe)
        self._genes.append(self.space.encode(recipe))

    def _proposal(self) -> Recipe:
        assert self._points.upcoming is not None
        fresh = FRESH if self._origin else self._initial
        parents = self.parents()
        if len(self._recipes) < self._origin + fresh or len(parents) < 2:
            return self._points.upcoming
        rng = np.random.default_rng([self.seed, len(self._recipes)])
        litter = self._litter(np.array([self._genes[trial] for trial in parents]), rng)
        for at in self._choice(litter):
            recipe = self.space.sample(litter[at])
            if recipe not in self._points:
                return recipe
        return self._points.upcoming

    def parents(self) -> list[int]:
        """The trials that children are bred from now, the best first."""
        able = [t for t in sorted(self._losses) if t >= self._origin and math.isfinite(self._losses[t])]
        return sorted(able, key=self._losses.__getitem__)[:ELITE]

    def _litter(self, elite: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(n, dimensions) children of the elite and of its best, each where its recipe lies."""
        bred = max(0, len(self._recipes) - self._origin - self._initial)
        falling = 1.0 - math.log(bred + 1) / math.log(HORIZON)
        rate = max(falling, 1.0 / len(self.space.dimensions), FEWEST_MUTATED)
        litter = [
            children(parents, self._cube.categorical, LITTER, self.step, rate, rng)
            for parents in (elite, elite[:1])
        ]
        if self._cube.uneven:
            # Children of few parents fall on few recipes.
            litter.append(rng.random((LITTER, len(self.space.dimensions))))
            made = [self.space.encode(self.space.sample(point)) for point in np.vstack(litter)]
            return np.unique(np.array(made), axis=0)
        return np.vstack(litter)

    def _choice(self, litter: np.ndarray) -> list[int]:
        """Rows of the litter, the one to train first, without those that are trials already."""
        told = sorted(self._losses)
        everyone, made = self._cube(np.array(self._genes)), self._cube(litter)
        losses = np.array([self._losses[trial] for trial in told])
        guess = Interpolant(everyone[told], compressed(losses))(made)
        # Trials in training count here, which keeps those that run at the same time apart.
        away = distances(made, everyone).min(axis=1)
        weight = WEIGHTS[len(self._recipes) % len(WEIGHTS)]
        merit = weight * _scaled(guess) + (1.0 - weight) * _scaled(-away)
        ranked = np.argsort(merit, kind="stable")
        return [int(row) for row in ranked if away[row] > _SAME][:_TRIES]

    # -- being told -----------------------------------------------------------------------------------------

    def tell(self, report: Report) -> None:
        """Takes a trial's end into account: for the model, for parenthood, and for the step size."""
        if report.status == "running" or not 0 <= report.trial < len(self._recipes):
            return
        loss = math.nan if report.status == "failed" else -float(report.score)
        bred = report.trial >= self._origin + (FRESH if self._origin else self._initial)
        if bred and report.trial not in self._losses:
            self._adapt(loss)
        self._losses[report.trial] = loss

    def _adapt(self, loss: float) -> None:
        """Success-based adaptation of the step size."""
        known = [one for t, one in self._losses.items() if t >= self._origin and math.isfinite(one)]
        improved = loss < min(known, default=math.inf)
        self._wins, self._failures = (self._wins + 1, 0) if improved else (0, self._failures + 1)
        if self._wins >= WINS:
            self.step, self._wins = min(2.0 * self.step, STEP), 0
        if self._failures >= max(LOSSES, len(self.space.dimensions)):
            self.step, self._failures = self.step / 2.0, 0
        if self.step < SMALLEST_STEP:
            self.step, self._origin = STEP, len(self._recipes)

    @property
    def finished(self) -> bool:
        """Whether the space brings nothing new."""
        return self._points.upcoming is None

    def state(self) -> dict[str, Any]:
        """All trials with their losses, and how far the step size has come."""
        return {
            "recipes": [plain(recipe) for recipe in self._recipes],
            "losses": [[t, loss if math.isfinite(loss) else None] for t, loss in self._losses.items()],
            "step": self.step,
            "wins": self._wins,
            "failures": self._failures,
            "origin": self._origin,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        for values in state["recipes"]:
            self._add(rebuilt(values))
        self._losses = {trial: math.nan if loss is None else loss for trial, loss in state["losses"]}
        self.step, self._wins = state["step"], state["wins"]
        self._failures, self._origin = state["failures"], state["origin"]


def _scaled(values: np.ndarray) -> np.ndarray:
    """Values from 0 to 1, all 0 where they are the same."""
    span = float(np.ptp(values))
    return (values - values.min()) / span if span > 0.0 else np.zeros(len(values))
