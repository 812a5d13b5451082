"""`CurveModel`: how learning curves go on, and what epochs cost, learnt from the curves of past studies. What
to do about it is a strategy's affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from luthier.search.features import MISSING, align
from luthier.search.prior import GRID, Prior

HORIZONS = (1, 2, 4, 8, 16, 32, 50)
"""Epochs ahead for which scores are predicted."""
TREES = 64

_ROOM = 1.03
"""Relative scores are learnt as -log(_ROOM - score): a point between good ones matters more than one
between bad ones.
"""
_SEEN = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Epochs after which the curves of past studies are looked at as if they ended there."""


class CurveModel:
    """Two forests of extremely randomised trees (Geurts et al. 2006) over recipes and what was seen of their
    curves, with one output a horizon, and a third for seconds.

    Each tree's answer is a past curve or the mean of a few, so that the trees' answers together are a sample
    of what may come: of a new recipe's curve, and of the rest of one that was begun (freeze-thaw, Swersky et
    al. 2014, with trees in place of its Gaussian process).

    Args:
        prior: Past studies.
        names: Names of the features that recipes of this study have; others in the prior are not used.
        seed: Of the trees.
    """

    def __init__(self, prior: Prior, names: Sequence[str], seed: int = 0) -> None:
        from sklearn.ensemble import ExtraTreesRegressor

        shared = [name for name in prior.names if name in set(names)]
        table = align(prior.rows, prior.names, shared)
        varying = np.ptp(table, axis=0) > 0 if len(table) else np.zeros(len(shared), bool)
        self.names = [name for name, varies in zip(shared, varying, strict=True) if varies]
        self._given = list(names)
        best = prior.running_best
        span = _spans(prior)
        relative = (best - span[0][prior.study, None]) / span[1][prior.study, None]
        seconds = np.log(prior.seconds)
        seconds -= np.array([seconds[prior.study == at].mean() for at in range(len(prior.studies))])[
            prior.study
        ]
        self._worth = _worth(prior, relative[:, -1], seconds)
        rows = np.hstack([table[:, varying], self._of_models([prior.models[at] for at in prior.model])])
        trees = ExtraTreesRegressor(TREES, min_samples_leaf=2, max_features=0.5, random_state=seed)
        wanted = _at(relative, np.array(HORIZONS)[None, :].repeat(len(rows), 0))
        self._new = trees.fit(rows, -np.log(_ROOM - np.clip(wanted, -1.0, 1.0)))
        cost = ExtraTreesRegressor(TREES // 2, min_samples_leaf=2, max_features=0.5, random_state=seed)
        self._cost = cost.fit(rows, seconds)
        begun, gains = _begun(prior, rows)
        trees = ExtraTreesRegressor(TREES, min_samples_leaf=3, max_features=0.5, random_state=seed)
        self._begun = trees.fit(begun, gains)

    def rows(self, features: np.ndarray, models: Sequence[str]) -> np.ndarray:
        """What the trees look at: (recipes, columns) float32, from features of the names given and models."""
        columns = align(features, self._given, self.names)
        return np.asarray(np.hstack([columns, self._of_models(models)]), dtype=np.float32)

    def new(self, rows: np.ndarray) -> np.ndarray:
        """Curves of recipes not begun: (recipes, TREES, len(HORIZONS)), running best, where 0 is the worst
        and 1 the best final score of a study.
        """
        return np.asarray(_ROOM - np.exp(-_answers(self._new, rows)))

    def log_seconds(self, rows: np.ndarray) -> np.ndarray:
        """(recipes,): logarithm of an epoch's seconds, up to a constant of the study."""
        return np.array(self._cost.predict(rows))

    def further(self, row: np.ndarray, scores: Sequence[float]) -> np.ndarray:
        """What a trial will add to its best score: (TREES, len(HORIZONS)), at least 0.

        Args:
            row: (columns,) of its recipe.
            scores: Of its epochs so far, at least one, as shares of one.
        """
        seen = np.asarray(scores, dtype=np.float64)
        before = max((epoch for epoch in GRID if epoch < len(seen)), default=0)
        half = max(len(seen) // 2, 1)
        known = _seen(np.array([len(seen)]), seen[before:].max(), seen.max(), seen[0], seen[:half].max())
        whole = np.concatenate([row, known[0]]).astype(np.float32)[None, :]
        return np.asarray(_answers(self._begun, whole)[0])

    def _of_models(self, models: Sequence[str]) -> np.ndarray:
        """(recipes, columns): what is known of each one's model, and which of the known models it is."""
        unknown = np.full(5, MISSING)
        worth = np.array([self._worth.get(model, unknown) for model in models]).reshape(len(models), 5)
        return np.hstack([worth, np.array(models)[:, None] == np.array(list(self._worth))[None, :]])


@lru_cache(maxsize=4)
def fitted(prior: Prior, names: tuple[str, ...], seed: int) -> CurveModel:
    """The model of these arguments, kept for the next who asks: it takes seconds to fit."""
    return CurveModel(prior, names, seed)


def _spans(prior: Prior) -> tuple[np.ndarray, np.ndarray]:
    """(studies,) each: the worst final score of a study, and how far its best is above it."""
    final = prior.running_best[:, -1]
    parts = [final[prior.study == at] for at in range(len(prior.studies))]
    low = np.array([part.min() for part in parts])
    return low, np.array([max(part.max() - part.min(), 1e-6) for part in parts])


def _worth(prior: Prior, final: np.ndarray, seconds: np.ndarray) -> dict[str, np.ndarray]:
    """What is known of each model: its mean final score, the mean of each study's best two, the upper fifth,
    its seconds, and its runs (a logarithm).
    """
    found = {}
    for at, name in enumerate(prior.models):
        mine = prior.model == at
        tops = [np.sort(final[mine & (prior.study == s)])[-2:].mean() for s in np.unique(prior.study[mine])]
        found[name] = np.array(
            [final[mine].mean(), np.mean(tops), np.quantile(final[mine], 0.8), seconds[mine].mean(),
             np.log2(mine.sum())]
        )  # fmt: skip
    return found


def _at(curves: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """Curves on the grid, (n, len(GRID)), at other epochs, (n, m): linear between epochs of the grid."""
    place = np.interp(np.minimum(epochs, GRID[-1]), GRID, np.arange(len(GRID)))
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, len(GRID) - 1)
    part = place - below
    low, high = np.take_along_axis(curves, below, 1), np.take_along_axis(curves, above, 1)
    return np.asarray(low + part * (high - low))


def _begun(prior: Prior, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every past curve, cut off after some epochs, and what it gained from there on."""
    best = prior.running_best
    begun, gains = [], []
    for epoch in _SEEN:
        at = GRID.index(epoch)
        alive = np.flatnonzero(np.isfinite(prior.scores[:, at]))
        half = max((i for i, other in enumerate(GRID) if other <= max(epoch // 2, 1)), default=0)
        known = _seen(
            np.full(len(alive), epoch), prior.scores[alive, at], best[alive, at], best[alive, 0],
            best[alive, half],
        )  # fmt: skip
        begun.append(np.hstack([rows[alive], known]))
        ahead = np.minimum(epoch + np.array(HORIZONS), GRID[-1])[None, :].repeat(len(alive), 0)
        gains.append(_at(best[alive], ahead) - best[alive, at, None])
    return np.concatenate(begun), np.concatenate(gains)


def _seen(
    epoch: np.ndarray, last: np.ndarray, best: np.ndarray, first: np.ndarray, half: np.ndarray
) -> np.ndarray:
    """(trials, 6): what is told of a curve, ``half`` being its best after half of its epochs."""
    columns = np.broadcast_arrays(np.log(epoch), last, best, first, best - half, best - last)
    return np.stack(columns, axis=1)


def _answers(forest: object, rows: np.ndarray) -> np.ndarray:
    """(rows, TREES, outputs): each tree's answer."""
    trees = forest.estimators_  # type: ignore[attr-defined]
    return np.stack([tree.tree_.predict(rows)[..., 0] for tree in trees], axis=1)
