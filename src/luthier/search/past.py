"""`PastStudy`: a finished study as plain data, whatever it was read from. What is learnt from many lives in
`prior`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from luthier.recipe import Recipe

_ROUNDING = 1e-6


@dataclass(frozen=True)
class PastStudy:
    """Trials of one data set, and how they went.

    Attributes:
        name: Tells it from others: trials of studies of one name were compared on the same data.
        recipes: One a trial.
        scores: Score after each epoch of each trial, higher is better, NaN where there was none.
        seconds: Seconds that each epoch took, as many as there are scores.
        features: (trials, features) numbers beyond the recipes' settings; NaN where unknown.
        feature_names: One a column.
    """

    name: str
    recipes: Sequence[Recipe]
    scores: Sequence[Sequence[float]]
    seconds: Sequence[Sequence[float]]
    features: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    feature_names: Sequence[str] = ()


def scale(scores: Iterable[float]) -> tuple[float, float]:
    """Offset and factor that bring a study's scores to the scale of shares: ``(score - offset) * factor``.

    Accuracies and other shares of one stay as they are. Where a score lies outside [0, 1], the worst seen
    becomes 0.05 and the best 0.85, about where they lie in studies of shares. Scores that are not finite do
    not count.
    """
    seen = [score for score in scores if math.isfinite(score)]
    low, high = min(seen, default=0.0), max(seen, default=1.0)
    # A share may be over by what rounding adds.
    if low >= -_ROUNDING and high <= 1.0 + _ROUNDING:
        return 0.0, 1.0
    factor = 0.8 / (high - low) if high > low else 1.0
    return low - 0.05 / factor, factor
