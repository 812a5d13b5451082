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
    Angluin & Laird 1988). Where the less sure half of these answers is contradicted clearly more often, the
    hardness of the input still shows, and the surer half is taken.

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
    if half >= LEAST and wrong[:half].mean() + 1.5 * _error(wrong[:half]) < wrong[half:].mean():
        wrong = wrong[:half]
    return Noise(float(wrong.mean()), wilson(float(wrong.sum()), len(wrong)), len(wrong), source)


def joined(estimates: list[Noise | None]) -> Noise | None:
    """One estimate from several: the lowest, with those that may be as low.

    A worse model is contradicted more often, also by right labels; so what is clearly above the lowest is
    left out. What is not adds its answers.
    """
    found = sorted((one for one in estimates if one is not None), key=lambda one: one.share)
    if not found:
        return None
    best = found[0]
    for one in found[1:]:
        if one.interval[0] <= best.share:
            n = best.n + one.n
            wrong = best.share * best.n + one.share * one.n
            source = f"{best.source} or {one.source[:1].lower()}{one.source[1:]}"
            best = Noise(wrong / n, wilson(wrong, n), n, source)
    return best


def _error(wrong: np.ndarray) -> float:
    share = (wrong.sum() + 0.5) / (len(wrong) + 1)
    return math.sqrt(share * (1 - share) / len(wrong))
