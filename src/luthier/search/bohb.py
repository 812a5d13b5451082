"""`ModelSource`: recipes from a model of good and bad ones (BOHB). The density itself lives in `density`."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from luthier.recipe import Recipe
from luthier.search.density import Density, Kernels
from luthier.search.runner import plain, score_of
from luthier.search.source import Source
from luthier.space import Space

# Falkner et al. 2018, appendix: rho, q, N_s and b_w.
_RANDOM = 1 / 3
_GOOD = 0.15
_CANDIDATES = 64
_WIDER = 3.0
_GOOD_AT_LEAST = 4
_ENOUGH = 12
"""Observations at a rung from which on it is modelled, and how many of them are good. The paper has d + 3 and
d + 1 for d dimensions, since its densities come from points alone. Ours have the prior besides, so they need
not wait, and d + 1 would be nearly all of the first ones."""
_STEPS = 2**16
"""Proposed points have 16 bits a dimension, so that a state that holds all of them stays small."""


class ModelSource(Source):
    """Recipes that are likelier among good trials than among bad ones (Falkner et al. 2018, section 4.1).

    Of the highest rung that enough trials have reached, the best 15% give the density of good recipes l, the
    others that of bad ones g. Candidates are drawn from a wider l, and the one with the largest l/g is
    proposed. A third of the trials comes from the quasi-random points, so that a wrong model does no lasting
    harm. Trials without a score are bad ones.

    Args:
        space: Where recipes come from.
        seed: Of all randomness.
    """

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(space, seed)
        self._space, self._seed = space, seed
        self._kernels = Kernels(space)
        self._coordinates: list[np.ndarray] = []  # (dimensions,) of each trial, NaN where inactive
        self._observed: list[dict[int, float]] = []  # by rung, then by trial
        self._proposed: dict[int, np.ndarray] = {}  # by trial: the model's points, in steps

    def observe(self, trial: int, rung: int, score: float) -> None:
        """Takes note of the score, -inf for none, with which a trial has reached a rung."""
        while len(self._observed) <= rung:
            self._observed.append({})
        self._observed[rung][trial] = score

    def _take(self, trial: int) -> Recipe:
        recipe = self._propose(trial)
        if recipe is None:
            recipe = self._points.take()
        self._coordinates.append(self._space.encode(recipe))
        return recipe

    def _propose(self, trial: int) -> Recipe | None:
        """The model's proposal, or None where it is the points' turn."""
        rng = np.random.default_rng([self._seed, trial])
        rung = self._modelled()
        if rung is None or rng.random() < _RANDOM:
            return None
        good, bad = (Density(self._kernels, points) for points in self._divided(rung))
        steps = np.minimum(good.sample(rng, _CANDIDATES, _WIDER) * _STEPS, _STEPS - 1).astype(np.uint16)
        recipes: list[Recipe] = [self._space.sample(_point(row)) for row in steps]
        coordinates = np.stack([self._space.encode(recipe) for recipe in recipes])
        gain = good.log(coordinates) - bad.log(coordinates)
        for at in map(int, np.argsort(-gain, kind="stable")):
            if recipes[at] not in self._points:
                self._points.add(recipes[at])
                self._proposed[trial] = steps[at]
                return recipes[at]
        return None

    def _modelled(self) -> int | None:
        """The highest rung with enough observations, two of them with a score; None where there is none."""
        for rung in reversed(range(len(self._observed))):
            scores = self._observed[rung].values()
            if len(scores) >= _ENOUGH and sum(score > -math.inf for score in scores) > 1:
                return rung if self._space.dimensions else None
        return None

    def _divided(self, rung: int) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates of the good and of the bad trials at a rung, (n, dimensions) each."""
        observed = self._observed[rung]
        ranked = sorted(observed, key=lambda trial: (-observed[trial], trial))
        scored = sum(score > -math.inf for score in observed.values())
        count = min(max(_GOOD_AT_LEAST, math.ceil(_GOOD * len(ranked))), scored)
        points = np.stack([self._coordinates[trial] for trial in ranked])
        return points[:count], points[count:]

    def state(self) -> dict[str, Any]:
        """Everything needed to continue, as plain JSON values; points as base64 of little-endian uint16."""
        points = np.array(list(self._proposed.values()), dtype="<u2")
        return super().state() | {
            "proposed": list(self._proposed),
            "points": base64.b64encode(points.tobytes()).decode(),
            "observed": [
                {"trials": list(scores), "scores": [plain(score) for score in scores.values()]}
                for scores in self._observed
            ],
        }

    def restore(self, state: dict[str, Any]) -> list[Recipe]:
        """Continues from what ``state()`` returned; the recipes of all trials drawn until then."""
        size = (len(state["proposed"]), len(self._space.dimensions))
        points = np.frombuffer(base64.b64decode(state["points"]), dtype="<u2").reshape(size)
        self._proposed = dict(zip(state["proposed"], points, strict=True))
        recipes = [self._repeat(trial) for trial in range(state["drawn"])]
        self._drawn = len(recipes)
        self._coordinates = [self._space.encode(recipe) for recipe in recipes]
        self._observed = [
            dict(zip(kept["trials"], map(score_of, kept["scores"]), strict=True))
            for kept in state["observed"]
        ]
        return recipes

    def _repeat(self, trial: int) -> Recipe:
        if trial not in self._proposed:
            return self._points.take()
        recipe = self._space.sample(_point(self._proposed[trial]))
        self._points.add(recipe)
        return recipe


def _point(steps: np.ndarray) -> np.ndarray:
    """The centre of a cell, in [0, 1]."""
    return (steps.astype(np.float64) + 0.5) / _STEPS
