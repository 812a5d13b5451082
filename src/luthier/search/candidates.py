"""`Candidates`: recipes that were not proposed yet, and the search among them for the one worth most. What a
recipe is worth is decided in `judge`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from luthier.recipe import Recipe
from luthier.search.encoding import CENTRE, Encoded, Encoding
from luthier.space import Listed, Space
from luthier.space.domain import Number

Worth = Callable[[Encoded], np.ndarray]
"""From recipes to (recipes,) values, more being better."""
Slope = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From (rows, width) features to (rows,) values and (rows, width) derivatives; beliefs play no part."""

EVERYTHING = 4096
"""Recipes up to which a finite space is gone through in full."""
_NEAR = 64
"""Points scattered around the best trials."""
_CLIMBS = 4
"""Points from which a climb begins; half of them go on after the first round."""
_ROUNDS = 3
"""Rounds of a climb, at most."""
_STEPS = 40
"""Steps along the slope in one round, at most."""
_GAIN = 1e-2
"""Gain in the logarithm of the worth below which a climb ends."""
_MOVES = 24
"""Neighbours of a point that are looked at where there is a slope."""


class Candidates:
    """Recipes found so far in one search, each once, with where they lie and what they are worth.

    Points become recipes through `Space.sample` and are then encoded again: rounding, conditions, forbidden
    combinations and lists are thus part of what is compared, and nothing is assumed of how `sample` goes from
    one point to the next.

    Args:
        encoding: Of the space.
        taken: Recipes that are not to be proposed again.
        worth: What is wanted most.
    """

    def __init__(self, encoding: Encoding, taken: Collection[Recipe], worth: Worth) -> None:
        self._encoding, self._worth = encoding, worth
        self._seen: set[Recipe] = set(taken)
        self.recipes: list[Recipe] = []
        self.units = np.zeros((0, len(encoding.space.dimensions)))
        self.rows = np.zeros((0, encoding.width))
        self.values = np.zeros(0)

    def add(self, units: np.ndarray) -> None:
        """Takes in the recipes at (points, dimensions) points of the unit cube, those that are new."""
        recipes = [self._encoding.space.sample(unit) for unit in units]
        new = self._new(recipes)
        self._take(self._encoding.points([recipes[at] for at in new]), units[new])

    def take(self, points: Encoded) -> None:
        """Takes in recipes whose places are known, those that are new."""
        new = self._new(points.recipes)
        kept = [points.recipes[at] for at in new]
        chosen = Encoded(kept, points.units[new], points.rows[new], points.beliefs[new])
        self._take(chosen, np.full_like(chosen.units, CENTRE))

    def _new(self, recipes: list[Recipe]) -> list[int]:
        new: list[int] = []
        for at, recipe in enumerate(recipes):
            if recipe not in self._seen:
                self._seen.add(recipe)
                new.append(at)
        return new

    def _take(self, points: Encoded, units: np.ndarray) -> None:
        if not points.recipes:
            return
        self.recipes += points.recipes
        # What a recipe does not say keeps the coordinate it came with: another branch may need it.
        self.units = np.concatenate([self.units, np.where(np.isnan(points.units), units, points.units)])
        self.rows = np.concatenate([self.rows, points.rows])
        self.values = np.concatenate([self.values, self._worth(points)])

    def best(self, count: int) -> list[int]:
        """Places of the ``count`` worth most, the best first."""
        return [int(at) for at in np.argsort(-self.values, kind="stable")[:count]]

    def climb(self, rng: np.random.Generator, slope: Slope | None) -> None:
        """Improves on the best: along the slope where there is one, and from neighbour to neighbour."""
        for round_ in range(_ROUNDS):
            count = _CLIMBS if round_ == 0 else _CLIMBS // 2
            before = self.values.max()
            if slope is not None:
                self.add(np.stack([self._ascend(at, slope) for at in self.best(count)]))
            self.add(np.concatenate([self._neighbours(at, rng, slope) for at in self.best(count)]))
            if self.values.max() <= before + _GAIN:
                break

    def _ascend(self, at: int, slope: Slope) -> np.ndarray:
        """Follows the slope in the ranges, all else as it is; returns the point of the unit cube."""
        from scipy.optimize import minimize

        columns = np.flatnonzero(self._encoding.smooth)
        row = self.rows[at].copy()

        def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
            row[columns] = point
            value, by_row = slope(row[None])
            return -float(value[0]), -by_row[0, columns]

        unit: np.ndarray = self.units[at].copy()
        if len(columns):
            bounds = [(0.0, 1.0)] * len(columns)
            options = {"maxiter": _STEPS}
            found = minimize(loss, row[columns], jac=True, method="L-BFGS-B", bounds=bounds, options=options)
            unit[self._encoding.group[columns]] = found.x
        return unit

    def _neighbours(self, at: int, rng: np.random.Generator, slope: Slope | None) -> np.ndarray:
        """(points, dimensions) that differ from one in a coordinate, drawn anew or moved a little.

        With a slope the ranges are climbed already, and a few moves of them are enough to leave a local
        optimum.
        """
        width = self.units.shape[1]
        ranges = np.unique(self._encoding.group[self._encoding.smooth])
        choices = np.setdiff1d(np.arange(width), ranges)
        moved = np.concatenate([choices, choices, rng.permutation(ranges), ranges])
        if slope is not None:
            moved = moved[:_MOVES]
        points = np.repeat(self.units[at][None], len(moved), axis=0)
        each = np.arange(len(moved))
        sizes = 10.0 ** rng.uniform(-3.0, -1.0, len(moved))
        steps = points[each, moved] + sizes * rng.standard_normal(len(moved))
        near = np.isin(moved, ranges) & (rng.random(len(moved)) < 0.5)
        points[each, moved] = np.where(near, np.clip(steps, 0.0, 1.0), rng.random(len(moved)))
        return points


def everything(space: Space) -> list[Recipe] | None:
    """All recipes of a list or of a finite space of at most `EVERYTHING`, None for other spaces."""
    if isinstance(space, Listed):
        return list(space.recipes)
    domains = [alternative.domain for each in space.settings.values() for alternative in each]
    if any(isinstance(domain, Number) and (domain.steps or not domain.discrete) for domain in domains):
        return None
    return list(space.grid()) if space.grid_size() <= EVERYTHING else None


def search(
    candidates: Candidates,
    rng: np.random.Generator,
    pool: Encoded,
    good: np.ndarray | None,
    slope: Slope | None,
) -> Recipe | None:
    """The recipe worth most of those that can be found, or None if none is found that is new.

    Args:
        candidates: Empty, to be filled.
        rng: Decides which other points are looked at.
        pool: Recipes to compare in any case.
        good: (trials, dimensions) points of the trials to search around, the best first; no NaN. None: the
            pool is all there is.
        slope: Derivatives of the worth; None: neighbours only.
    """
    candidates.take(pool)
    if good is not None:
        candidates.add(_around(good, rng))
        if candidates.recipes:
            candidates.climb(rng, slope)
    return candidates.recipes[candidates.best(1)[0]] if candidates.recipes else None


def _around(good: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Points near good trials: each differs in a few coordinates, by steps of all sizes."""
    base = good[rng.integers(len(good), size=_NEAR)]
    width = good.shape[1]
    steps = rng.standard_normal(base.shape) * 10.0 ** rng.uniform(-3.0, -0.5, size=(_NEAR, 1))
    moved = rng.random(base.shape) < max(2.0 / width, 0.3)
    fresh = rng.random(base.shape) < 0.5 / width
    return np.where(fresh, rng.random(base.shape), np.clip(base + moved * steps, 0.0, 1.0))
