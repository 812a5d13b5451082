"""Calibration: whether a model is as sure as it is right, and the temperature that makes it more so.

What a task's answers with a probability are is said by `Task.decisions`; how a temperature gets into a saved
model lives in `luthier.models.saved`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from luthier.evaluate.intervals import (
    LEVEL,
    RESAMPLES,
    UNKNOWN,
    Interval,
    resampled_totals,
    wilson,
)
from luthier.evaluate.plain import Plain
from luthier.tasks.base import Decisions, Task

BINS = 15
"""Bins at most, as Guo et al. 2017 use."""
BIN_SIZE = 20
"""Decisions that a bin holds at least, so that its accuracy means something."""
FEWEST = 50
"""Judged rows below which no temperature is fitted."""
COOLEST, HOTTEST = 0.1, 10.0
"""Bounds of the temperature."""


@dataclass
class Bin:
    """Answers of similar confidence.

    Attributes:
        confidence: Their mean confidence.
        accuracy: The share that is right.
        low: Lower end of its 95% interval.
        high: Upper end.
        n: How many they are.
    """

    confidence: float
    accuracy: float
    low: float
    high: float
    n: int


@dataclass
class Calibration(Plain):
    """How sure a model is, and how right.

    Attributes:
        error: Expected calibration error as shipped, with the temperature.
        interval: 95% (low, high) of it.
        before: The error without the temperature.
        temperature: What logits are divided by, fitted on validation; 1 leaves them as they are.
        bins: Answers by confidence, lowest first.
        chance: The error that chance alone would show on so many rows, were the model calibrated.
    """

    error: float
    interval: Interval = UNKNOWN
    before: float = float("nan")
    temperature: float = 1.0
    bins: list[Bin] = field(default_factory=list)
    chance: float = float("nan")


def calibrate(
    task: Task,
    outputs: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    *,
    temperature: float = 1.0,
    groups: Any | None = None,
    seed: int = 0,
) -> Calibration | None:
    """How sure a model is on held-out rows, and how right.

    Args:
        task: The fitted task.
        outputs: n arrays, as the model is shipped: divided by its temperature.
        targets: n arrays.
        temperature: What they were divided by.
        groups: (n,) keys where rows of a group are not independent.
        seed: Seed of the bootstrap.

    Returns:
        None where answers carry no probability, or none can be judged.
    """
    shipped = task.decisions(outputs, targets)
    if shipped is None or not len(shipped.right):
        return None
    units = _units(shipped, groups)
    error, interval, chance = calibration_error(shipped, units, seed=seed)
    before = error
    if temperature != 1.0:
        plain = task.decisions([np.asarray(row) * temperature for row in outputs], targets)
        before = math.nan if plain is None else calibration_error(plain, units, resamples=0)[0]
    return Calibration(error, interval, before, float(temperature), reliability(shipped, units), chance)


def calibration_error(
    decisions: Decisions, units: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, Interval, float]:
    """The expected calibration error over bins of equal mass, its interval, and what chance makes of it.

    The error is the mean distance of confidence and accuracy over bins, weighted by their decisions (Naeini,
    Cooper & Hauskrecht 2015), in bins of equally many decisions (Nixon et al. 2019, section 3). An estimate
    from few rows is too large, since chance alone parts confidence and accuracy, and resamples add as much
    again. So the interval is the basic bootstrap one (Davison & Hinkley 1997, equation 5.6), which takes that
    off, and is stretched to hold the estimate. It begins at 0 where a calibrated model would come to such an
    error by chance, as simulated from its own confidences (consistency resampling, Broecker & Smith 2007).

    Args:
        decisions: m of them.
        units: (m,) whole numbers from 0: decisions of one unit are drawn together.
        resamples: How many times units are drawn; 0: no interval.
        seed: Seed of the draws.

    Returns:
        The error; its 95% interval, unknown for fewer than two units; and the mean error of a calibrated
        model of these confidences.
    """
    place = _bins(decisions.confidence)
    count = int(place.max()) + 1
    # Of each unit: confidence less right in each bin, and its decisions.
    sums = np.zeros((int(units.max()) + 1, count + 1))
    np.add.at(sums, (units, place), decisions.confidence - decisions.right)
    np.add.at(sums, (units, np.full(len(units), count)), 1.0)

    def errors(totals: np.ndarray) -> np.ndarray:
        return np.asarray(np.abs(totals[:, :count]).sum(axis=1) / np.maximum(totals[:, count], 1))

    error = float(errors(sums.sum(axis=0, keepdims=True))[0])
    if len(sums) < 2 or not resamples:
        return error, UNKNOWN, math.nan
    tail = (1 - LEVEL) / 2
    drawn = errors(resampled_totals(sums, resamples=resamples, seed=seed))
    low, high = 2 * error - np.quantile(drawn, [1 - tail, tail])
    by_chance = _by_chance(decisions, units, place, resamples, seed)
    if error <= np.quantile(by_chance, LEVEL):
        low = 0.0
    return error, (min(error, max(0.0, float(low))), max(error, float(high))), float(by_chance.mean())


def _by_chance(
    decisions: Decisions, units: np.ndarray, place: np.ndarray, resamples: int, seed: int
) -> np.ndarray:
    """(resamples,) errors of a calibrated model with these confidences.

    What it gets right in a bin is drawn as normal: its sum has the variance of independent decisions, and
    more where those of a unit go together.
    """
    spread = decisions.confidence * (1 - decisions.confidence)
    deviations = []
    for one in range(int(place.max()) + 1):
        inside = place == one
        together = inside.sum() / _independent(decisions.right[inside].astype(np.float64), units[inside])
        deviations.append(math.sqrt(spread[inside].sum() * together))
    drawn = np.random.default_rng(seed).normal(size=(resamples, len(deviations))) * np.array(deviations)
    return np.asarray(np.abs(drawn).sum(axis=1) / len(units))


def reliability(decisions: Decisions, units: np.ndarray) -> list[Bin]:
    """Bins of equal mass, lowest confidence first, each with Wilson's interval of its accuracy.

    Where decisions of a unit go together, the interval counts as many as would say as much if they were
    independent (Kish's design effect).
    """
    place = _bins(decisions.confidence)
    found = []
    for one in range(int(place.max()) + 1):
        inside = place == one
        right = decisions.right[inside].astype(np.float64)
        share, worth = float(right.mean()), _independent(right, units[inside])
        low, high = wilson(share * worth, worth)
        found.append(Bin(float(decisions.confidence[inside].mean()), share, low, high, len(right)))
    return found


def _bins(confidence: np.ndarray) -> np.ndarray:
    """(m,) the bin of each decision, from 0, none of them empty; equal confidences share one."""
    count = int(np.clip(len(confidence) // BIN_SIZE, 1, BINS))
    edges = np.quantile(confidence, np.linspace(0, 1, count + 1)[1:-1])
    place = np.searchsorted(np.unique(edges), confidence, side="right")
    return np.asarray(np.unique(place, return_inverse=True)[1])


def _units(decisions: Decisions, groups: Any | None) -> np.ndarray:
    """(m,) the group of each decision, or its example, numbered from 0."""
    keys = decisions.example if groups is None else np.asarray(groups).astype(str)[decisions.example]
    return np.asarray(np.unique(keys, return_inverse=True)[1])


def _independent(right: np.ndarray, units: np.ndarray) -> float:
    """How many independent decisions say as much of an accuracy as these, at most as many as there are."""
    _, codes = np.unique(units, return_inverse=True)
    count, several = len(right), int(codes.max()) + 1
    share = right.mean()
    if several == count:
        return float(count)
    if share in (0.0, 1.0):
        return float(several)
    together = np.bincount(codes, right - share)
    return float(min(count, max(1.0, share * (1 - share) * count**2 / max((together**2).sum(), 1e-12))))


def fit_temperature(task: Task, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> float:
    """The number that logits are best divided by (temperature scaling, Guo et al. 2017, section 4.2).

    It is where the mean loss of the outputs divided by it is least. Where nearly all answers are right, loss
    falls ever further as logits grow, on these rows and no others; so the sum of losses is given
    (log T)^2 / 2 on top: a belief that T is about 1, which a few dozen wrong answers outweigh.

    Args:
        task: The fitted task.
        outputs: n arrays, on rows that the network was not trained on.
        targets: n arrays.

    Returns:
        In [0.1, 10]. 1 where answers carry no probability, where fewer than 50 rows can be judged, or where
        it does not lower the sum of losses by more than 1, what one parameter gains by chance (Akaike 1974).
    """
    from scipy.optimize import minimize_scalar

    if task.decisions(outputs[:1], targets[:1]) is None:
        return 1.0
    plain = np.asarray(task.example_losses(outputs, targets), dtype=np.float64)
    judged = np.flatnonzero(np.isfinite(plain))
    if len(judged) < FEWEST:
        return 1.0
    rows = [np.asarray(outputs[i], dtype=np.float64) for i in judged.tolist()]
    truths = [targets[i] for i in judged.tolist()]

    def total(log_temperature: float) -> float:
        losses = task.example_losses([row / math.exp(log_temperature) for row in rows], truths)
        return float(np.sum(losses)) + log_temperature**2 / 2

    ends = (math.log(COOLEST), math.log(HOTTEST))
    best = float(minimize_scalar(total, bounds=ends, method="bounded", options={"xatol": 1e-3}).x)
    return math.exp(best) if total(best) - best**2 / 2 < total(0.0) - 1 else 1.0
