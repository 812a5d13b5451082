"""`Objectives`: what trials are judged by: which is best, which may count, which are on the front.

Limits as text live in `constraints`; how a network is measured lives in `luthier.engine.footprint`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from luthier.errors import SettingError
from luthier.recipe import Recipe
from luthier.study.constraints import MEASURES, SCORE, Constraint, Measure
from luthier.study.finished import Finished
from luthier.study.front import front
from luthier.trial import Report


def _nothing(recipe: Recipe) -> Mapping[str, float]:
    return {}


@dataclass(frozen=True)
class Objectives:
    """What is to be reached. Without arguments: the best score, whatever it costs.

    Latency, memory and size depend on a recipe's structure alone. So a trial whose structure breaks a limit
    is known before it is trained, and never is; one that misses a limit on the metric is trained, and not
    chosen.

    Args:
        names: The task's metric by its own name, or names of `MEASURES`; the first is what the best trial is
            chosen by. Empty: the metric.
        constraints: Limits on the metric and on measures.
        metric: Name of the task's metric.
        maximize: Whether more of it is better.
        measure: What a recipe's network takes, by the columns of `MEASURES`; called where some measure is
            asked for.
    """

    names: tuple[str, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    metric: str = SCORE
    maximize: bool = True
    measure: Callable[[Recipe], Mapping[str, float]] = _nothing

    @classmethod
    def resolve(
        cls,
        names: Sequence[str],
        constraints: Iterable[Constraint],
        *,
        metric: str,
        maximize: bool,
        measure: Callable[[Recipe], Mapping[str, float]] = _nothing,
    ) -> Objectives:
        """Objectives from names as people give them, in which ``score`` stands for the metric.

        Raises:
            SettingError: A name is neither a measure nor the metric; an objective is named twice; or the
                metric is limited on the side on which it is better.
        """
        found = tuple(_known(name, metric, "objective") for name in names)
        twice = [name for name in found if found.count(name) > 1]
        if twice:
            raise SettingError(f"The objective {twice[0]!r} is named twice.", "Name each objective once.")
        limits = tuple(replace(limit, name=_known(limit.name, metric, "constraint")) for limit in constraints)
        for limit in limits:
            if limit.name == metric and limit.relation.startswith("<") == maximize:
                better, relation = ("more", ">=") if maximize else ("less", "<=")
                raise SettingError(
                    f'The constraint "{limit}" limits {metric}, of which {better} is better.',
                    f"Write {metric} {relation} {limit.limit:g}.",
                )
        return cls(found or (metric,), limits, metric, maximize, measure)

    # -- before training -------------------------------------------------------------------------------------

    @property
    def measured(self) -> list[Measure]:
        """The measures that are objectives or limited."""
        asked = {*self.names, *(limit.name for limit in self.constraints)}
        return [measure for name, measure in MEASURES.items() if name in asked]

    @property
    def by_score(self) -> bool:
        """Whether the best trial is the one with the best score."""
        return not self.names or self.names[0] == self.metric

    @property
    def several(self) -> bool:
        """Whether the search has more to look at than scores."""
        return any(name in MEASURES for name in self.names)

    def measures(self, recipe: Recipe) -> Mapping[str, float]:
        """What a recipe's network takes, by column; empty where no measure is asked for."""
        return self.measure(recipe) if self.measured else {}

    def refusal(self, recipe: Recipe) -> str:
        """Why a recipe need not be trained: the limits that its structure breaks; empty if there are none."""
        taken = self.measures(recipe)
        limited = [
            (limit, MEASURES[limit.name].column) for limit in self.constraints if limit.name in MEASURES
        ]
        # What could not be measured cannot be trained either, and training it says why.
        found = [(limit, taken[column]) for limit, column in limited if column in taken]
        return "; ".join(limit.broken(value) for limit, value in found if not limit.holds(value))

    def noted(self, report: Report, recipe: Recipe) -> Report:
        """A report with its trial's measures among its metrics."""
        taken = self.measures(recipe)
        return replace(report, metrics={**report.metrics, **taken}) if taken else report

    # -- after it --------------------------------------------------------------------------------------------

    def value(self, score: float) -> float:
        """The metric's own value for a score, which is higher-is-better."""
        return score if self.maximize else -score

    def missed(self, score: float) -> str:
        """The limits on the metric that a score misses; empty if there are none."""
        value = self.value(score)
        limits = [limit for limit in self.constraints if limit.name not in MEASURES]
        return "; ".join(limit.broken(value) for limit in limits if not limit.holds(value))

    def feasible(self, found: Finished) -> bool:
        """Whether a trial keeps to every limit; its structure does, or it would not have been trained."""
        return not self.missed(found.score)

    def ranked(self, finished: Iterable[Finished]) -> list[Finished]:
        """Trials, best first: feasible ones by the first objective, then the others by their scores.

        Of equal ones the better score comes first, then the lower loss.
        """
        return sorted(finished, key=self._rank, reverse=True)

    def best(self, finished: Iterable[Finished]) -> Finished | None:
        """The first of `ranked`; the earlier one of equals."""
        return max(finished, key=self._rank, default=None)

    def _rank(self, found: Finished) -> tuple[bool, float, float, float]:
        feasible = self.feasible(found)
        primary = self._axis(found, self.names[0]) if feasible and self.names else found.score
        return feasible, primary, found.score, -found.loss

    def front(self, finished: Iterable[Finished]) -> list[int]:
        """Numbers of the trials that no other beats in score and in every measure asked for, by number.

        Only feasible trials count. Of trials that are equal in all of it, which those of one structure often
        are on little data, the one with the lowest loss stands for all.
        """
        axes = [self.metric, *(measure.name for measure in self.measured)]
        standing: dict[tuple[float, ...], Finished] = {}
        for found in finished:
            if self.feasible(found):
                point = tuple(self._axis(found, name) for name in axes)
                known = standing.setdefault(point, found)
                if (found.loss, found.trial) < (known.loss, known.trial):
                    standing[point] = found
        points = list(standing)
        return sorted(standing[points[at]].trial for at in front(points))

    def _axis(self, found: Finished, name: str) -> float:
        """A trial's value on an axis, higher is better."""
        if name not in MEASURES:
            return found.score
        return -self.measures(found.recipe).get(MEASURES[name].column, math.inf)


def _known(name: str, metric: str, what: str) -> str:
    """The name as it is used inside."""
    if name in {metric, SCORE}:
        return metric
    if name.lower() in MEASURES:
        return name.lower()
    raise SettingError(
        f"The {what} {name!r} is neither measured nor the metric of this task.",
        f"Known here: {metric} (or {SCORE}), {', '.join(MEASURES)}.",
    )
