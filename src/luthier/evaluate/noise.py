"""How many labels are likely wrong, from how often a model that is sure of its answer is contradicted.

Which rows those are is said in `suspects`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from luthier.evaluate.intervals import UNKNOWN, Interval, wilson

SUREST = 1 / 3
"""The share of rows that is looked at: those of the largest margin."""
LEAST = 40
"""Fewer sure answers than this say nothing."""


@dataclass(frozen=True)
class Noise:
    """An estimate of the share of wrong labels.

    Attributes:
        share: Of the labels looked at.
        interval: 95% (low, high) of it.
        n: Sure answers that it is made from.
        source: What answered, for people.
    """

    share: float
    interval: Interval = UNKNOWN
    n: int = 0
    source: str = ""


def contradicted(scores: np.ndarray, given: np.ndarray, source: str) -> Noise | None:
    """The share of wrong labels, as the share of sure answers that the label contradicts.

    A hard input leaves a model in doubt: its errors have small margins, and among its surest answers there
    are next to none. A wrong label stands beside sure and unsure answers alike, so the rate of contradiction
    among the surest is the rate of wrong labels, if these do not depend on the input (uniform noise, as in
    Angluin & Laird 1988). Where labels of the surest answers are contradicted the more the less sure they
    are, the hardness of the input still shows, and the surer half of them is taken.

    Args:
        scores: (n, classes) of rows that the model was not trained on; larger is likelier.
        given: (n,) class indices, negative where there is none.
        source: What answered, for people.

    Returns:
        None where too few rows are there.
    """
    rows = np.flatnonzero(given >= 0)
    count = int(len(rows) * SUREST)
    if scores.shape[1] < 2 or count < LEAST:
        return None
    ordered = np.sort(scores[rows], axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    surest = rows[np.argsort(-margin, kind="stable")[:count]]
    wrong = scores[surest].argmax(axis=1) != given[surest]
    half = count // 2
    if half >= LEAST and wrong[:half].mean() + _error(wrong[:half]) < wrong[half:].mean():
        wrong = wrong[:half]
    return Noise(float(wrong.mean()), wilson(float(wrong.sum()), len(wrong)), len(wrong), source)


def least(estimates: list[Noise | None]) -> Noise | None:
    """The lowest of several estimates: a worse model is contradicted more often, by right labels too."""
    found = [one for one in estimates if one is not None]
    return min(found, key=lambda one: one.share) if found else None


def _error(wrong: np.ndarray) -> float:
    share = (wrong.sum() + 0.5) / (len(wrong) + 1)
    return math.sqrt(share * (1 - share) / len(wrong))
