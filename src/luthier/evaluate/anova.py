"""Functional ANOVA of the trials: what settings do to the score alone and in pairs, and the score along each
of them. How much a setting matters with all its interactions is `luthier.evaluate.importance`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestRegressor

from luthier.evaluate.levels import Levels, levels_of
from luthier.evaluate.plain import Plain
from luthier.evaluate.tables import active_rows

FEWEST = 8
"""Trials below which a group of settings is not looked at."""
PAIRED = 12
"""Settings, those with the largest effects, of which all pairs are looked at."""
PAIRS = 10
"""Pairs that are told, the largest first."""
_TREES = 48


@dataclass
class Effect:
    """What one setting does alone, or two do together beyond what each does alone.

    Attributes:
        settings: Names, one or two.
        share: Share of the score's variance, over the trees' mean.
        low: 5th percentile over the trees.
        high: 95th percentile.
        trials: Trials that it is estimated from: those in which its settings had any effect.
    """

    settings: list[str]
    share: float
    low: float
    high: float
    trials: int


@dataclass
class Curve:
    """The score expected along one setting, averaged over all others.

    Attributes:
        setting: Its name.
        at: Where: numbers in ascending order where it is a range, otherwise values in words.
        score: Mean over the trees, higher is better.
        low: 5th percentile over the trees.
        high: 95th percentile.
        counts: Trials near each place; where there are none the curve is a guess.
        log: Whether the range is spaced by ratios.
        trials: Trials in which the setting had any effect.
    """

    setting: str
    at: list[float] | list[str]
    score: list[float]
    low: list[float]
    high: list[float]
    counts: list[int]
    log: bool
    trials: int


@dataclass
class Anova(Plain):
    """The whole decomposition, as far as it was made.

    Attributes:
        effects: Single settings, then pairs, each the largest first.
        curves: One a setting, in the order of the effects.
    """

    effects: list[Effect] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)


def anova(frame: pd.DataFrame, scores: np.ndarray, varied: dict[str, str], *, seed: int = 0) -> Anova:
    """Functional ANOVA (Hutter et al. 2014) of random forests fitted to the trials.

    A setting that has an effect only under others, such as the rank of LoRA, is looked at among the trials in
    which it has one, so that its share is of the variance there. Settings with an effect in the same trials
    share one forest. The measure is uniform over the range that was tried (over ratios where the trials lie
    more evenly so), and over the values of what has few.

    Args:
        frame: n trials with a score, in the store's columns.
        scores: (n,) higher is better.
        varied: Column to setting's name, of the settings that differ between trials.
        seed: Seed of the forests.

    Returns:
        Effects and curves; empty where there are too few trials.
    """
    rows = {column: active_rows(frame, column) for column in varied}
    masks = {mask.tobytes(): mask for mask in rows.values() if mask.sum() >= FEWEST}
    single: list[Effect] = []
    pairs: list[Effect] = []
    curves: dict[str, Curve] = {}
    for mask in masks.values():
        part, known = frame[mask], scores[mask]
        columns = [
            column
            for column in varied
            if rows[column][mask].all() and part[column].map(str).nunique() > 1 and np.ptp(known) > 0
        ]
        own = [column for column in columns if np.array_equal(rows[column], mask)]
        if not own:
            continue
        found = _Decomposition(part, known, columns, seed)
        single += [found.main(column, varied[column]) for column in own]
        pairs += [found.pair(a, b, varied[a], varied[b]) for a, b in found.likely if a in own or b in own]
        curves |= {varied[column]: found.curve(column, varied[column]) for column in own}
    single.sort(key=lambda one: -one.share)
    pairs.sort(key=lambda one: -one.share)
    told = [one for one in pairs[:PAIRS] if one.share > 0]
    return Anova([*single, *told], [curves[one.settings[0]] for one in single])


class _Decomposition:
    """The marginals of each tree of a forest over the settings in ``columns``, computed once."""

    def __init__(self, frame: pd.DataFrame, scores: np.ndarray, columns: list[str], seed: int) -> None:
        self.trials = len(frame)
        self.levels = {column: levels_of(frame[column]) for column in columns}
        forest = RandomForestRegressor(_TREES, min_samples_leaf=2, random_state=seed)
        forest.fit(np.column_stack([self.levels[column].encoded for column in columns]), scores)
        grids = [self.levels[column] for column in columns]
        trees = [TreeMarginals(tree.tree_, grids) for tree in forest.estimators_]
        # A tree that never split says nothing of what its variance is made of.
        self.trees = [tree for tree in trees if tree.variance > 1e-12 * max(1.0, tree.mean**2)]
        self.place = {column: index for index, column in enumerate(columns)}
        mains = {column: self._shares(self.place[column]).mean() for column in columns}
        leading = sorted(columns, key=lambda column: -mains[column])[:PAIRED]
        self.likely = list(itertools.combinations(leading, 2))

    def main(self, column: str, name: str) -> Effect:
        """What a setting does alone."""
        return self._effect([name], self._shares(self.place[column]))

    def pair(self, a: str, b: str, *names: str) -> Effect:
        """What two settings do together beyond what each does alone."""
        first, second = self.place[a], self.place[b]
        shares = np.array([tree.interaction(first, second) / tree.variance for tree in self.trees] or [0.0])
        return self._effect(list(names), shares)

    def curve(self, column: str, name: str) -> Curve:
        """The score along a setting; what was not set has no place on a range."""
        levels, place = self.levels[column], self.place[column]
        lines = np.array([tree.marginal(place) for tree in self.trees] or [np.zeros(len(levels.counts))])
        lines = lines[:, : len(levels.at)]
        low, high = np.quantile(lines, [0.05, 0.95], axis=0)
        counts = [int(count) for count in levels.counts[: len(levels.at)]]
        return Curve(
            name, levels.at, lines.mean(axis=0).tolist(), low.tolist(), high.tolist(), counts, levels.log,
            self.trials,
        )  # fmt: skip

    def _shares(self, place: int) -> np.ndarray:
        return np.array([tree.main(place) / tree.variance for tree in self.trees] or [0.0])

    def _effect(self, names: list[str], shares: np.ndarray) -> Effect:
        low, high = np.quantile(shares, [0.05, 0.95])
        return Effect(names, float(shares.mean()), float(low), float(high), self.trials)


class TreeMarginals:
    """Exact marginals of one regression tree over a product of levels.

    A tree is constant on boxes, so a marginal is a sum over its leaves of value times the mass that the other
    settings give the leaf's box (Hutter et al. 2014, algorithm 2 and equation 6).

    Attributes:
        mean: The tree's mean over all combinations of levels.
        variance: Its variance over them.
    """

    def __init__(self, tree: Any, grids: list[Levels]) -> None:
        low, high, self._values = leaf_boxes(tree)
        ends = np.cumsum([0, *(grid.encoded.shape[1] for grid in grids)])
        # (leaves, levels) of each setting: whether a level lies in the leaf's box.
        self._inside = [
            ((grid.points > low[:, None, start:end]) & (grid.points <= high[:, None, start:end])).all(axis=2)
            for grid, start, end in zip(grids, ends[:-1], ends[1:], strict=True)
        ]
        self._mass = np.stack([inside.mean(axis=1) for inside in self._inside], axis=1)
        whole = self._mass.prod(axis=1)
        self.mean = float(self._values @ whole)
        self.variance = float(self._values**2 @ whole) - self.mean**2

    def marginal(self, place: int) -> np.ndarray:
        """(levels,) mean at each level of a setting over all others."""
        weights: np.ndarray = (self._values * self._others(place)) @ self._inside[place]
        return weights

    def main(self, place: int) -> float:
        """Variance of a setting's marginal."""
        return float(self.marginal(place).var())

    def interaction(self, a: int, b: int) -> float:
        """Variance of two settings' joint marginal beyond that of their own, at least 0."""
        weights = self._values * self._others(a, b)
        joint = (self._inside[a] * weights[:, None]).T @ self._inside[b]
        return max(0.0, float(joint.var()) - self.main(a) - self.main(b))

    def _others(self, *places: int) -> np.ndarray:
        """(leaves,) mass of each leaf's box over all settings but ``places``."""
        product: np.ndarray = np.delete(self._mass, places, axis=1).prod(axis=1)
        return product


def leaf_boxes(tree: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The boxes on which a tree is constant.

    Args:
        tree: A fitted scikit-learn ``Tree``.

    Returns:
        (leaves, columns) lower ends, which do not belong to the box; upper ends, which do; (leaves,) values.
    """
    width = tree.n_features
    todo = [(0, np.full(width, -np.inf), np.full(width, np.inf))]
    lows, highs, values = [], [], []
    while todo:
        node, low, high = todo.pop()
        left, right = tree.children_left[node], tree.children_right[node]
        if left == right:
            lows.append(low)
            highs.append(high)
            values.append(float(tree.value[node].ravel()[0]))
            continue
        column, cut = tree.feature[node], tree.threshold[node]
        below, above = high.copy(), low.copy()
        below[column], above[column] = min(high[column], cut), max(low[column], cut)
        todo += [(left, low, below), (right, above, high)]
    return np.array(lows), np.array(highs), np.array(values)
