"""`Forest`: a regression with uncertainty by trees, for spaces in which distances say little. What is worth
trying is decided in `judge`.
"""

from __future__ import annotations

import numpy as np

_TREES = 32
_SPLIT = 3
"""Observations below which a node is not split."""


class Forest:
    """Randomised trees, whose disagreement is the uncertainty (Hutter et al. 2011, section 4.1).

    Each split draws its threshold at random (Geurts et al. 2006), so that between observations the trees
    differ, and the mean is nearly smooth instead of a staircase with few steps. After 30 trials of four
    smooth settings, a random forest over bootstrap samples, as Hutter et al. use it, had five times the
    regret.

    Args:
        x: (rows, width) features.
        y: (rows,) finite values to predict.
        seed: Of the trees.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, seed: int) -> None:
        from sklearn.ensemble import ExtraTreesRegressor

        # All observations for every tree: of a few dozen, none can be spared.
        forest = ExtraTreesRegressor(_TREES, min_samples_split=_SPLIT, random_state=seed).fit(x, y)
        self._trees = [tree.tree_ for tree in forest.estimators_]
        self._floor = 1e-6 * (float(np.std(y)) or 1.0)

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation, by the law of total variance over trees and their leaves.

        Args:
            x: (points, width) features.

        Returns:
            Both (points,), in the units of y.
        """
        points = np.ascontiguousarray(x, dtype=np.float32)
        leaves = [tree.apply(points) for tree in self._trees]
        means = np.array([tree.value[at, 0, 0] for tree, at in zip(self._trees, leaves, strict=True)])
        within = np.array([tree.impurity[at] for tree, at in zip(self._trees, leaves, strict=True)])
        variance = means.var(axis=0) + np.maximum(within, 0.0).mean(axis=0)
        return means.mean(axis=0), np.maximum(np.sqrt(variance), self._floor)
