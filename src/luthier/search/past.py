"""`PastStudy`: a finished study as plain data, whatever it was read from. What is learnt from many lives in
`prior`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from luthier.recipe import Recipe


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
