"""`Bayesian`: proposes the recipe from which a model of the scores so far expects the most. What a recipe is
worth is decided in `judge`, where recipes come from in `candidates`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from luthier.recipe import Recipe
from luthier.search.base import Order, Report, Strategy
from luthier.search.candidates import Candidates, everything, search
from luthier.search.encoding import Encoded, Encoding
from luthier.search.judge import Judge, Kind
from luthier.search.observations import Observations
from luthier.search.points import Points, sobol
from luthier.space import Space

_FIRST = (4, 10)
"""Trials before a model is asked, at least and at most; in between, two more than the space's dimensions."""
_SCORED = 2
"""Different scores without which no model is fitted: it could not tell one recipe from another."""
_POOL = 256
"""Recipes spread over a space that is not finite."""
_GOOD = 5
"""Trials around which recipes are looked for."""
MANY = 50
"""Dimensions above which trees are the usual form."""
CONDITIONAL = 0.7
"""Share of settings that do not apply to a recipe, on average, above which trees are the usual form. At 0.64,
four branches with settings of their own, a Gaussian process still came to the optimum sooner."""


class Bayesian(Strategy):
    """Bayesian optimization of recipes, with a Gaussian process or with trees.

    Trial 0 is the space's default, the next few are quasi-random; then each is the recipe with the largest
    noisy expected improvement, given what is still being trained, for the root of each second it is predicted
    to cost. The space's beliefs on ranges shape the coordinates, those on choices are a factor that fades.
    Failures count as the worst score seen, and trials that were stopped count with the share of their
    training that they had. No recipe is proposed twice; a finite space is finished when used up.

    The usual form is a Gaussian process; trees where the space has more than `MANY` dimensions, or where more
    than the share `CONDITIONAL` of its settings do not apply to a recipe, on average: there, distances
    between recipes say little. The options ``gp`` and ``trees`` decide otherwise.

    Nothing is kept between proposals but what was ordered and told: models are fitted anew, on one thread, so
    that equal reports give equal proposals.

    The Gaussian process is our own. To fit one to 100 observations of 20 settings, BoTorch 0.18 takes 2.7 s
    of processor time, and 31 s with warped inputs, where ours takes 0.06 s; and it would bring torch into the
    search.
    """

    name: ClassVar[str] = "bayesian"
    options: ClassVar[Sequence[str]] = ("gp", "trees")

    def __init__(self, space: Space, seed: int = 0, option: str = "") -> None:
        super().__init__(space, seed, option)
        size = len(space.dimensions)
        self._encoding = Encoding(space)
        self._observations = Observations()
        self._first = min(max(size + 2, _FIRST[0]), _FIRST[1])
        self._points = Points(space, seed)
        self._used_up = False

    @cached_property
    def kind(self) -> Kind:
        """The surrogate: as the option says, or as suits the space."""
        if self.option:
            return "trees" if self.option == "trees" else "gp"
        if len(self.space.dimensions) > MANY:
            return "trees"
        inactive = np.isnan(self._pool.units).mean() if self.space.dimensions else 0.0
        return "trees" if float(inactive) > CONDITIONAL else "gp"

    @cached_property
    def _finite(self) -> list[Recipe] | None:
        return everything(self.space)

    @cached_property
    def _pool(self) -> Encoded:
        """Recipes that are compared each time: all of a finite space, otherwise some spread evenly."""
        if self._finite is not None:
            return self._encoding.points(self._finite)
        points = sobol(len(self.space.dimensions), [self.seed, 1]).random(_POOL)
        recipes = [self.space.sample(point) for point in points]
        return self._encoding.points(list(dict.fromkeys(recipes)))

    def ask(self, room: int) -> list[Order]:
        """The ``room`` recipes worth most, each chosen knowing that those before it will be trained."""
        if not self._learns:
            return self._orders(room, None)
        # SciPy brings a BLAS of its own, which must be there to be held to one thread.
        import scipy.linalg  # noqa: F401
        from threadpoolctl import threadpool_limits

        # Matrices this small gain nothing from threads, and sums in another order would be other numbers.
        with threadpool_limits(1, user_api="blas"):
            judge = Judge(self._encoding, self._observations, self.kind, self._stream(1))
            return self._orders(room, judge)

    def _orders(self, room: int, judge: Judge | None) -> list[Order]:
        orders: list[Order] = []
        while len(orders) < room and not self.finished:
            recipe = self._propose(judge)
            if recipe is None:
                self._used_up = True
            else:
                self._points.add(recipe)
                orders.append(Order(self._observations.add(recipe), recipe, recipe.epochs))
        return orders

    @property
    def _learns(self) -> bool:
        """Whether there is enough to fit a model to."""
        return len(self._observations.trials) >= self._first and self._observations.scored >= _SCORED

    def _stream(self, use: int) -> int:
        """A seed for the next trial."""
        key = [self.seed, len(self._observations.trials), use]
        return int(np.random.SeedSequence(key).generate_state(1)[0])

    def _propose(self, judge: Judge | None) -> Recipe | None:
        if judge is None:
            return self._unmodelled()
        rng = np.random.default_rng(self._stream(0))
        worth, slope = judge.worth(rng)
        candidates = Candidates(self._encoding, self._observations.recipes, worth)
        good = judge.good(_GOOD) if self._finite is None else None
        return search(candidates, rng, self._pool, good, slope) or self._unmodelled()

    def _unmodelled(self) -> Recipe | None:
        """The next new recipe of the points, or else any that is left; None where there is none."""
        left = (recipe for recipe in self._finite or [] if recipe not in self._observations.recipes)
        return self._points.upcoming or next(left, None)

    def tell(self, report: Report) -> None:
        """Takes note; models are fitted when a recipe is wanted."""
        self._observations.tell(report)

    @property
    def finished(self) -> bool:
        """Whether every recipe that can be found has been proposed."""
        return self._used_up or (
            self._finite is not None and len(self._observations.recipes) >= len(self._finite)
        )

    def state(self) -> dict[str, Any]:
        """What was ordered and told: models and points are functions of it."""
        return {
            "trials": self._observations.state(),
            "used_up": self._used_up,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        self._observations.restore(state["trials"])
        for trial in self._observations.trials:
            self._points.add(trial.recipe)
        self._used_up = state["used_up"]
