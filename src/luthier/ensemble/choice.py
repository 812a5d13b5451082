"""Which ensemble is shipped, if any: what each gains on rows that it was neither chosen nor fitted on.

How candidates are made lives in one file a way; what they cost is measured by the caller.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from luthier.ensemble.base import Candidate
from luthier.ensemble.ways import Context
from luthier.evaluate.intervals import LEVEL, UNKNOWN, Interval, group_sums, resampled_totals, unit_codes
from luthier.evaluate.selection import Scores, stacked

# Resamples on which a selection is repeated; fewer where time is short, but none is judged on fewer than
# LEAST.
RESAMPLES, LEAST = 100, 20
# Standard errors that a gain must exceed, and what an ensemble may cost at inference, as a multiple of the
# single model's time.
ERRORS = 1.0
MOST_COST = 10.0


@dataclass
class Gain:
    """How much better an ensemble is than the best single trial, corrected for selection.

    Attributes:
        gain: In the metric's own unit, higher is better; NaN where it cannot be said.
        error: Its standard error.
        interval: 95% (low, high) of it.
        expected: The score to be expected of the ensemble on further rows, higher is better.
        expected_interval: 95% (low, high) of that.
        groups: Groups that were resampled, or None where rows were.
    """

    gain: float = math.nan
    error: float = math.nan
    interval: Interval = UNKNOWN
    expected: float = math.nan
    expected_interval: Interval = UNKNOWN
    groups: int | None = None


@dataclass
class Weighed:
    """A candidate with all that the choice is made by.

    Attributes:
        candidate: The ensemble.
        score: On validation, higher is better.
        gain: Against the best single trial.
        cost: Inference time as a multiple of the single model's.
        refused: Why it may not be shipped; empty if it may.
    """

    candidate: Candidate
    score: float
    gain: Gain
    cost: float = 1.0
    refused: str = ""


def weigh(context: Context, candidate: Candidate, *, seconds: float = math.inf) -> Gain:
    """What a candidate gains, by the leave-one-out bootstrap (Efron & Tibshirani 1997, section 3).

    Rows are drawn with replacement (whole groups where there are any). On those drawn the best single trial
    is chosen anew and the ensemble made anew by its ``refit``; both are judged on the rows that were not
    drawn. Each row so gets its mean statistics over all draws that left it out, for both, and their
    difference is resampled for standard error and interval. A refit has seen 63% of the rows only, so the
    gain is rather too small than too large. A candidate without ``refit`` is judged as it is, against the
    best trial as it is.

    Args:
        context: Has the single trials.
        candidate: What is held against them.
        seconds: After these, the draws so far must do.

    Returns:
        The gain; NaN where there are fewer than two units or no trials.
    """
    task, targets = context.task, context.targets
    units = unit_codes(len(targets), context.groups)
    tables = [task.score_statistics(outputs, targets) for _, outputs in context.pool]
    count = int(units.max(initial=-1)) + 1
    if count < 2 or not tables:
        return Gain()
    singles = stacked(tables, context.groups)
    fixed = group_sums(task.score_statistics(candidate.validation, targets), context.groups)
    sums, seen = np.zeros((2, *fixed.shape)), np.zeros(count)
    rng, started = np.random.default_rng(context.seed), time.perf_counter()
    for draw in range(RESAMPLES):
        if draw >= LEAST and time.perf_counter() - started > seconds:
            break
        counts = np.bincount(rng.integers(0, count, count), minlength=count)
        chosen_on = counts if candidate.refit is not None else np.ones(count)
        judged = task.scores(np.tensordot(chosen_on.astype(float), singles, axes=1))
        best = int(np.argmax(np.where(np.isnan(judged), -np.inf, judged)))
        own = fixed
        if candidate.refit is not None:
            made = candidate.refit(counts[units].astype(float))
            own = group_sums(task.score_statistics(made, targets), context.groups)
        left = counts == 0
        sums[0, left] += own[left]
        sums[1, left] += singles[left, best]
        seen += left
    judged_units = seen > 0
    means = sums[:, judged_units] / seen[judged_units, None]
    gain = _difference(means, task.scores, context.seed)
    gain.groups = None if context.groups is None else count
    return gain


def _difference(means: np.ndarray, scores: Scores, seed: int) -> Gain:
    """Gain and expected score from (2, units, j) mean statistics: the ensemble's first."""
    _, units, width = means.shape
    if units < 2:
        return Gain()
    first, second = (float(scores(part.sum(axis=0)[None])[0]) for part in means)
    totals = resampled_totals(np.hstack([means[0], means[1]]), seed=seed)
    ours, theirs = scores(totals[:, :width]), scores(totals[:, width:])
    known = np.isfinite(ours) & np.isfinite(theirs)
    if 2 * known.sum() < len(totals):
        return Gain()
    differences = (ours - theirs)[known]
    return Gain(first - second, float(differences.std()), _middle(differences), first, _middle(ours[known]))


def _middle(values: np.ndarray) -> Interval:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def choose(weighed: Sequence[Weighed]) -> Weighed | None:
    """What ``auto`` ships: the candidate with the largest gain, if that is more than one standard error.

    One that costs more than `MOST_COST` times the single model at inference is not shipped, however much it
    gains. Of equal gains the one that costs less is taken.
    """
    worth = [
        each
        for each in weighed
        if not each.refused and each.gain.gain > max(0.0, ERRORS * each.gain.error) and each.cost <= MOST_COST
    ]
    return max(worth, key=lambda each: (each.gain.gain, -each.cost), default=None)
