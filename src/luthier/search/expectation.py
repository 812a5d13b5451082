"""`Expectation`: what each candidate of a study is expected to add to the best score, and at what cost: past
studies' curves, corrected by this study's own. Which candidate is trained is the strategy's affair.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set

import numpy as np

from luthier.search.curve_model import HORIZONS, CurveModel

LOWEST = 0.05
"""Where a study's worst final score lies on the scale of shares: little above chance."""
SPAN, SPAN_SPREAD = 0.9, 0.12
"""How far a study's best score lies above `LOWEST`, before any is seen: mean and standard deviation."""
APART = 0.12
"""Standard deviation of what past studies say wrongly of a recipe's final score here."""
BLUR = 0.03
"""Half the width of each sampled curve, so that no improvement counts as impossible."""
EXPONENT = 0.5
"""Power of the cost by which expected improvement is divided."""
OVERHEAD = 4.0
"""Epochs of the median candidate that are added to every cost: what is almost free is not chosen for that."""
TOO_LATE = 1e-6
"""What improvements beyond the end of the budget count for: they decide where nothing else is left."""


class Expectation:
    """Expected improvements of a fixed list of candidates.

    A candidate's final score here is modelled as::

        score_i = LOWEST + (SPAN + s) y_i + e_i,   s ~ N(0, SPAN_SPREAD^2),   e_i ~ N(0, APART^2)

    where ``y_i`` is the past studies' expectation (0: their worst, 1: their best) and ``s`` is how easy this
    study's task is. Final scores seen, or expected from curves begun, tell of ``s``, and so move the others.

    Args:
        model: Of past curves.
        rows: (candidates, columns): see `CurveModel.rows`.
        epochs: (candidates,): the most that each may be trained.
    """

    def __init__(self, model: CurveModel, rows: np.ndarray, epochs: np.ndarray) -> None:
        self._model, self._rows, self._epochs = model, rows, np.asarray(epochs)
        self._log_seconds = model.log_seconds(rows)
        self._curves = model.new(rows).astype(np.float32)
        self._mean = self._curves[:, :, -1].mean(axis=1)
        # How much of the way to its end a curve has gone by each horizon: a correction grows along with it.
        self._way = np.clip(self._curves.mean(axis=1) / np.maximum(self._mean, 1e-3)[:, None], 0.0, 1.0)
        self._kept: dict[int, tuple[tuple[float, ...], np.ndarray]] = {}

    def improvement(
        self,
        seen: Mapping[int, Sequence[float]],
        seconds: Mapping[int, float],
        over: Set[int],
        left: float = math.inf,
        costs: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of each candidate, (candidates,) each: the largest expected improvement over a power of its cost,
        over all horizons; and the expected improvement by its last epoch.

        Args:
            seen: Scores so far, as shares of one, of candidates that were begun.
            seconds: Mean seconds of an epoch, of the same.
            over: Those of them that will not go further.
            left: Seconds of the budget: horizons that end later count for next to nothing.
            costs: (candidates, 2): seconds once and for each epoch, where they were predicted.
        """
        size = len(self._rows)
        begun = np.array(sorted(seen), dtype=int)
        best = max((max(scores) for scores in seen.values()), default=0.0)
        curves = np.float32(LOWEST) + np.float32(SPAN) * self._curves
        done = np.zeros(size, dtype=int)
        if len(begun):
            mine = np.stack([self._continued(at, seen[at], at in over) for at in begun])
            done[begun] = [len(seen[at]) for at in begun]
            curves += (self._shift(begun, mine)[:, None] * self._way).astype(np.float32)[:, None, :]
            curves[begun] = mine
        gain = _improvement(np.minimum(curves, 1.0), best)
        rest = np.maximum(self._epochs - done, 1)
        ahead = np.minimum(np.array(HORIZONS)[None, :], rest[:, None])
        once, epoch = (0.0, self._seconds(begun, seconds)) if costs is None else costs.T[..., None]
        takes = once + epoch * ahead
        worth = gain / (takes + OVERHEAD * np.median(epoch)) ** EXPONENT
        worth = np.where(takes <= left, worth, TOO_LATE * worth)
        return worth.max(axis=1), self._at_end(gain, rest)

    def _continued(self, at: int, scores: Sequence[float], over: bool) -> np.ndarray:
        """(trees, horizons): the running best of a curve that was begun."""
        key = (*scores, float(over))
        kept = self._kept.get(at)
        if kept is None or kept[0] != key:
            more = self._model.further(self._rows[at], scores)
            kept = self._kept[at] = key, max(scores) + (0.0 * more if over else more)
        return kept[1]

    def _shift(self, begun: np.ndarray, mine: np.ndarray) -> np.ndarray:
        """(candidates,): what the posterior mean of ``s`` adds to final scores, given the curves begun."""
        final = mine[:, :, -1]
        expected = self._mean[begun]
        weight = expected / (APART**2 + final.var(axis=1))
        surprise = final.mean(axis=1) - LOWEST - SPAN * expected
        easier = (weight @ surprise) / (weight @ expected + SPAN_SPREAD**-2)
        return np.asarray(easier * self._mean)

    def _at_end(self, gain: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """The gain at the horizon nearest to each candidate's end."""
        column = np.searchsorted(HORIZONS, rest).clip(max=len(HORIZONS) - 1)
        return np.asarray(gain[np.arange(len(gain)), column])

    def _seconds(self, begun: np.ndarray, seconds: Mapping[int, float]) -> np.ndarray:
        """(candidates, 1): seconds of an epoch: measured, or expected from those that were."""
        found = self._log_seconds.copy()
        if len(begun):
            measured = np.log([seconds[at] for at in begun])
            found += np.mean(measured - found[begun])
            found[begun] = measured
        return np.asarray(np.exp(found))[:, None]


def _improvement(curves: np.ndarray, best: float) -> np.ndarray:
    """(candidates, horizons): mean excess over ``best`` of (candidates, trees, horizons), each uniform
    within `BLUR` of itself.
    """
    above = curves - (best - BLUR)
    inside = np.clip(above, 0.0, 2 * BLUR)
    # The integral of the excess: a parabola within the blur, and the excess itself beyond it.
    return np.asarray((inside**2 / (4 * BLUR) + np.maximum(above - 2 * BLUR, 0.0)).mean(axis=1))
