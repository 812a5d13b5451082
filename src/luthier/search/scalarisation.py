"""Several objectives as one score: weights that are spread evenly, and the augmented Chebyshev function.

Which strategy hears the scores lives in `pareto`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

RHO = 0.05
"""How much all objectives count beside the one that lies farthest behind (Knowles 2006, eq. 2). Without it
trials that differ in the others only would be equal."""
UNKNOWN = 1.0
"""How far from its best an objective is taken to be that a report says nothing of."""


@dataclass(frozen=True)
class Aim:
    """One objective, and the range on which it is weighed against the others.

    Attributes:
        name: Of the metric in reports; empty for the score itself.
        best: A value that cannot be expected to be beaten.
        worst: A value that is no achievement; may equal ``best``, which leaves nothing to weigh.
    """

    name: str
    best: float
    worst: float

    def behind(self, value: float) -> float:
        """How far a value is from the best: 0 there, 1 at the worst, and on beyond both."""
        return (value - self.best) / (self.worst - self.best) if self.worst != self.best else 0.0


def spread(count: int) -> list[tuple[float, ...]]:
    """Weights on ``count`` objectives: all on each of them in turn, and equal ones last; for one, all on it.

    They are the corners and the centre of the simplex, the smallest set that is as good to each objective and
    has a compromise among them. Each set of weights is a search of its own, and budgets are small.
    """
    corners = [tuple(float(at == place) for at in range(count)) for place in range(count)]
    return corners if count == 1 else [*corners, (1.0 / count,) * count]


def scalarise(
    score: float, metrics: Mapping[str, float], aims: Sequence[Aim], weights: Sequence[float]
) -> float:
    """One score for all objectives, higher is better; NaN where the score is.

    The weighted Chebyshev distance from the best of each, augmented by their sum (Steuer & Choo 1983), as
    ParEGO takes it (Knowles 2006, eq. 2), but for the sum, which is not weighted: so a search with all its
    weight on one objective still tells trials apart that are equal in it. Unlike a weighted sum it has its
    optimum on every part of the front, convex or not, for some weights (Zhang & Li 2007, section II).

    Args:
        score: Of the trial, higher is better.
        metrics: Of its report.
        aims: The objectives.
        weights: One each, >= 0.
    """
    if math.isnan(score):
        return math.nan
    values = [score if not aim.name else metrics.get(aim.name, math.nan) for aim in aims]
    behind = [
        aim.behind(value) if math.isfinite(value) else UNKNOWN
        for aim, value in zip(aims, values, strict=True)
    ]
    farthest = max(weight * far for weight, far in zip(weights, behind, strict=True))
    return -(farthest + RHO * sum(behind) / len(behind))
