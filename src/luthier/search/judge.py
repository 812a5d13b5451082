"""`Judge`: what untried recipes are worth, from models of scores and costs so far and a space's beliefs. The
models live in `surrogate_gp` and `surrogate_trees`, the search for the best recipe in `candidates`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from luthier.search.acquisition import INCUMBENTS, SAMPLES, NoisyImprovement, log_improvement
from luthier.search.candidates import Slope, Worth
from luthier.search.encoding import CENTRE, Encoded, Encoding
from luthier.search.observations import Observations, Table
from luthier.search.outcomes import tamed
from luthier.search.surrogate_gp import GaussianProcess
from luthier.search.surrogate_trees import Forest

Kind = Literal["gp", "trees"]
Improvement = Callable[[np.ndarray], np.ndarray]
"""From (rows, width) features to (rows,) logarithms of the expected improvement."""

COST_POWER = 0.5
"""Power of the predicted cost that the expected improvement is divided by. The root halves the regret at
small budgets; dividing by the cost itself stays for too long with what is cheap."""
BELIEF = 5.0
"""Trials after which a belief on choices counts once: the improvement is multiplied by their probability to
the power of BELIEF / trials (piBO, Hvarfner et al. 2022, equation 6, whose beta this is). That fades, so that
a wrong belief delays and does not decide. Ranges have their beliefs in the coordinates, where there is more
room for what is believed; with a factor besides, twenty trials were lost on a belief that was wrong in four
settings, and hardly one won on a right one."""
_MARGIN = 0.1
"""Gain over the best, in standard deviations of the scores, that is asked for each further trial that scored
exactly as the best did. Scores that come in steps make plateaus, on whose every point a smooth model expects
a little more; where scores differ in every digit, nothing is asked."""
_ROWS = 256
"""Observations that a Gaussian process is fitted to at most; its cost grows with their cube."""
_COSTS = 3
"""Trials with a known cost from which costs are modelled."""


class Judge:
    """Models fitted to observations once, for proposals between which nothing new was told.

    Args:
        encoding: Of the space.
        observations: With at least one finite score.
        kind: The surrogate.
        seed: Of a forest.
    """

    def __init__(self, encoding: Encoding, observations: Observations, kind: Kind, seed: int) -> None:
        self._encoding, self._observations, self._seed = encoding, observations, seed
        table = observations.table()
        y = tamed(table.scores)
        if kind == "gp":
            table, y = _fewer(table, y)
        self._y = y
        scores = [trial.score for trial in observations.trials]
        self._margin = _MARGIN * (scores.count(float(np.nanmax(scores))) - 1)
        self._trials = table.trials
        self._points = encoding.points([trial.recipe for trial in observations.trials])
        self._x = self._points.rows[table.trials].copy()
        self._x[:, -1] = table.shares
        self._scores = self._gaussian(self._x, y) if kind == "gp" else Forest(self._x, y, seed)
        self._costs = self._cost_model(kind)

    def worth(self, rng: np.random.Generator) -> tuple[Worth, Slope | None]:
        """The logarithm of a recipe's worth: of the improvement expected from it, believed where the space's
        priors believe it, for the root of each second it costs.

        Args:
            rng: Draws what the scores may be.
        """
        observations, costs = self._observations, self._costs
        running = observations.pending()
        ahead = self._encoding.points([observations.trials[at].recipe for at in running]).rows
        baseline = self._points.rows[np.setdiff1d(self._trials, running)]
        if isinstance(self._scores, Forest):
            return self._with_rest(self._by_trees(self._scores, baseline, ahead)), None
        normals = rng.standard_normal((SAMPLES, INCUMBENTS + len(running)))
        improvement = NoisyImprovement(self._scores, baseline, ahead, normals, self._margin)
        if not isinstance(costs, GaussianProcess):
            return self._with_rest(improvement), improvement.slope

        def slope(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            value, by_row = improvement.slope(rows)
            cost, cost_by_row = costs.mean_slope(rows)
            return value - COST_POWER * cost, by_row - COST_POWER * cost_by_row

        return self._with_rest(improvement), slope

    def good(self, count: int) -> np.ndarray:
        """(trials, dimensions) where the best trials lie in the unit cube, the best first; no NaN."""
        order = dict.fromkeys(self._trials[np.argsort(-self._y, kind="stable")].tolist())
        return np.nan_to_num(self._points.units[list(order)[:count]], nan=CENTRE)

    def _gaussian(self, x: np.ndarray, y: np.ndarray) -> GaussianProcess:
        return GaussianProcess(x, y, self._encoding.group)

    def _cost_model(self, kind: Kind) -> GaussianProcess | Forest | None:
        """Of the logarithm of seconds; None where they are unknown or all the same."""
        trials, seconds = self._observations.costs()
        logs = np.log(seconds)
        if len(trials) < _COSTS or float(np.ptp(logs)) < 1e-3:
            return None
        trials, logs = trials[-_ROWS:], logs[-_ROWS:]
        x = self._points.rows[trials]
        return self._gaussian(x, logs) if kind == "gp" else Forest(x, logs, self._seed)

    def _by_trees(self, forest: Forest, baseline: np.ndarray, ahead: np.ndarray) -> Improvement:
        """Expected improvement over the best prediction; trials that run are believed to score as predicted
        (Kriging believer, Ginsbourger et al. 2010).
        """
        if len(ahead):
            believed, _ = forest.predict(ahead)
            rows = np.concatenate([self._x, ahead])
            forest = Forest(rows, np.concatenate([self._y, believed]), self._seed)
        best = float(forest.predict(np.concatenate([baseline, ahead]))[0].max())
        best += self._margin * float(np.std(self._y))

        def improvement(rows: np.ndarray) -> np.ndarray:
            mean, deviation = forest.predict(rows)
            return log_improvement(mean, deviation, best)

        return improvement

    def _with_rest(self, improvement: Improvement) -> Worth:
        """The improvement with costs and beliefs."""
        power = BELIEF / max(1, len(self._observations.trials))

        def worth(points: Encoded) -> np.ndarray:
            value = improvement(points.rows) + power * points.beliefs
            return value if self._costs is None else value - COST_POWER * self._costs.predict(points.rows)[0]

        return worth


def _fewer(table: Table, y: np.ndarray) -> tuple[Table, np.ndarray]:
    """The better half of what a Gaussian process can hold, and the latest of the others."""
    if len(y) <= _ROWS:
        return table, y
    order = np.argsort(-y, kind="stable")
    half = _ROWS // 2
    kept = np.sort(np.concatenate([order[:half], np.sort(order[half:])[half - _ROWS :]]))
    return Table(table.trials[kept], table.shares[kept], table.scores[kept]), y[kept]
