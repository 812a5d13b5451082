"""Rules on the learning rate: too high, too low. Whether the model has room for the target is asked in
`fit`.
"""

from __future__ import annotations

import math

import numpy as np

from luthier.evaluate.tables import numbers
from luthier.evaluate.verdict import Verdict
from luthier.evaluate.verdicts.case import FLAT, Case

ABOVE = 1.1
"""A training loss was driven up where it rises above this many times that of knowing nothing, and by a tenth
of that."""
FAR = 2.0
"""So was one that is above this many times already in the first epoch."""
SPIKE = 0.2
"""A training loss jumped where it ends an epoch this share above its lowest so far, and by this share of the
loss of knowing nothing."""
LINEAR = 0.6
"""A training loss still falls as fast as at first where it loses this share as much, for the rate that it
was given, in the second half of a training as in the first."""
TREND = 0.6
"""Rank correlation of rate and score over trials from which on rates explain scores."""
_FEWEST = 6


def too_high(case: Case) -> Verdict | None:
    """The chosen trial's training loss was driven up, jumped, or stood still at a high rate where others
    learn; or half of the trials went so; or rates and scores run against one another.
    """
    numbers_of = [int(number) for number in case.trials["number"]] if "number" in case.trials else []
    blown = {number: why for number in numbers_of if (why := _blown(case, number))}
    if case.best in blown:
        grave = case.learnt is False or case.behind is not None
        return Verdict(
            "rate-too-high",
            "fault" if grave else "advice",
            "The learning rate is too high",
            f"With a rate of {case.rate:.2g}, {blown[case.best]}.{_told_of_others(case)}",
            _lower(case, case.rate / 3),
        )
    if len(numbers_of) > 1 and 2 * len(blown) >= len(numbers_of):
        first, example = next(iter(blown.items()))
        # The chosen rate is good where there is one; else all that were tried are too high.
        rates = numbers(case.trials, "learning_rate")
        highest = case.rate if math.isfinite(case.rate) else float(np.nanmin([*rates, math.inf])) / 3
        return Verdict(
            "rate-too-high",
            "fault",
            "Most learning rates tried are too high",
            f"{len(blown)} of {len(numbers_of)} trials went astray: in trial {first}, {example}.",
            _lower(case, highest),
        )
    trend = _trend(case)
    if trend is not None and trend[0] < -TREND and trend[1] < 0.34:
        return Verdict(
            "rate-too-high",
            "advice",
            "Lower learning rates do better",
            f"Over {trend[2]} trials scores fall as rates rise (rank correlation {trend[0]:.2f}), and the "
            f"best has a rate of {case.rate:.2g}, among the lowest tried.",
            _lower(case, case.rate),
        )
    return None


def too_low(case: Case) -> Verdict | None:
    """The chosen trial's training loss falls as fast at the end as at first, or stands still at a low rate
    where others learn; or scores rise with rates up to the highest tried.
    """
    step = (
        f"Search higher rates{_usual(case)}: set `learning_rate` to {{low: {3 * case.rate:.1g}, "
        f"high: {100 * case.rate:.1g}, log: true}} in the space."
    )
    losses = numbers(case.curve(), "train_loss")
    behind = case.behind is not None or (case.learnt is False and bool(case.others[1]))
    fall, epochs = case.fall(), len(losses)
    if behind and _low_for_the_model(case) and (epochs < 2 or fall < FLAT):
        said = (
            f"fell from {losses[0]:.3g} to {losses[-1]:.3g} only in {epochs} epochs"
            if epochs > 1
            else "was hardly moved in one epoch"
        )
        return Verdict(
            "rate-too-low",
            "fault",
            "The learning rate is too low",
            f"With a rate of {case.rate:.2g} the training loss {said}.{_told_of_others(case)}",
            step,
        )
    ratio = _linearity(case, losses)
    room = losses[-1] > 0.5 * case.blank_loss if epochs and math.isfinite(case.blank_loss) else False
    if ratio >= LINEAR and room and fall > 0.01 and not case.skill(case.score) > 0.9:
        return Verdict(
            "rate-too-low",
            "fault" if behind else "advice",
            "The learning rate is too low",
            f"With a rate of {case.rate:.2g} the training loss was still falling {100 * ratio:.0f}% as fast "
            f"in the second half of the training as in the first ({losses[0]:.3g} to {losses[-1]:.3g} in "
            f"{epochs} epochs; the fall is counted per unit of rate given).{_told_of_others(case)}",
            step,
        )
    trend = _trend(case)
    if trend is not None and trend[0] > TREND and trend[1] > 0.66 and not case.skill(case.score) > 0.95:
        return Verdict(
            "rate-too-low",
            "fault" if behind else "advice",
            "Higher learning rates do better",
            f"Over {trend[2]} trials scores rise with rates (rank correlation {trend[0]:.2f}), and the best "
            f"has a rate of {case.rate:.2g}, among the highest tried.",
            step,
        )
    return None


def _lower(case: Case, highest: float) -> str:
    """What to do about rates that are too high."""
    if not math.isfinite(highest):
        return f"Search lower rates{_usual(case)}, or give more `warmup`."
    return (
        f"Search lower rates{_usual(case)}: set `learning_rate` to {{low: {highest / 10:.1g}, "
        f"high: {highest:.1g}, log: true}} in the space, or give more `warmup`."
    )


def _blown(case: Case, trial: int) -> str:
    """What says that a trial's rate was too high for it; empty where nothing does."""
    reason = str(case.setting("reason", trial) or "")
    if "loss became" in reason:
        return reason.splitlines()[0]
    losses, blank = numbers(case.curve(trial), "train_loss"), case.blank_loss
    if not len(losses) or not np.isfinite(losses).all() or not math.isfinite(blank):
        return ""
    # A new head may start anywhere: a loss that only falls from there was not driven up.
    at = int(losses.argmax())
    rose = losses[at] > ABOVE * blank and losses[at] - losses[0] > (ABOVE - 1) * blank
    if rose or losses[0] > FAR * blank:
        return (
            f"the training loss was {losses[at]:.3g} in epoch {at + 1}, more than the {blank:.3g} of a "
            "model that knows nothing"
        )
    lowest = np.minimum.accumulate(losses)
    jumps = np.flatnonzero((losses > (1 + SPIKE) * lowest) & (losses - lowest > SPIKE * blank))
    if len(jumps):
        at = int(jumps[0])
        return f"the training loss jumped from {lowest[at]:.3g} to {losses[at]:.3g} in epoch {at + 1}"
    stuck = trial == case.best and case.learnt is False and bool(case.others[1])
    if stuck and len(losses) > 1 and _unmoved(losses, blank) and not _low_for_the_model(case):
        return (
            f"the training loss stayed at {losses[-1]:.3g}, where a model is that knows nothing ({blank:.3g})"
        )
    return ""


def _unmoved(losses: np.ndarray, blank: float) -> bool:
    """Whether a loss hardly fell, or fell only to where knowing nothing is."""
    return bool(losses[-1] > (1 - FLAT) * min(losses[0], blank))


def _low_for_the_model(case: Case) -> bool:
    """Whether the rate is in the lower part of what is usual, or below it."""
    if case.usual_rates is None or not math.isfinite(case.rate):
        return _smooth(numbers(case.curve(), "train_loss"))
    return case.rate <= math.sqrt(case.usual_rates[0] * case.usual_rates[1])


def _smooth(losses: np.ndarray) -> bool:
    """Whether a loss falls in nearly every epoch: small steps do not jump."""
    return len(losses) < 2 or bool((np.diff(losses) <= 0).mean() >= 0.75)


def _linearity(case: Case, losses: np.ndarray) -> float:
    """Speed of the fall in the second half of a training over that in the first, per unit of rate; NaN where
    there are too few epochs, or no fall.

    A schedule that decays slows every fall. So epochs are counted by the rate that they were given.
    """
    if len(losses) < 3 or not np.isfinite(losses).all():
        return math.nan
    wanted, warmup = case.figure("recipe_epochs"), case.figure("warmup")
    total = int(wanted) if wanted >= len(losses) else len(losses)
    given = _given(str(case.setting("schedule")), warmup if math.isfinite(warmup) else 0.0, total)
    place = np.cumsum(given)[: len(losses)] - given[: len(losses)] / 2
    middle = len(losses) // 2
    first = (losses[0] - losses[middle]) / (place[middle] - place[0])
    second = (losses[middle] - losses[-1]) / (place[-1] - place[middle])
    return float(second / first) if first > 0 else math.nan


def _given(schedule: str, warmup: float, epochs: int) -> np.ndarray:
    """(epochs,) mean rate in each epoch, as a share of the peak."""
    at = (np.arange(64 * epochs) + 0.5) / (64 * epochs)
    rest = np.clip((at - warmup) / (1 - warmup), 0, 1)
    decay = {"linear": 1 - rest, "cosine": (1 + np.cos(np.pi * rest)) / 2}.get(schedule, np.ones_like(at))
    rate = np.where(at < warmup, at / max(warmup, 1e-9), decay)
    return np.asarray(rate.reshape(epochs, 64).mean(axis=1))


def _trend(case: Case) -> tuple[float, float, int] | None:
    """Rank correlation of rate and score, where the best rate stands among those tried (0 lowest, 1 highest),
    and the trials; None where too few rates were tried, they are too near each other, or chance may do it.
    """
    from scipy.stats import spearmanr

    rates, scores = numbers(case.trials, "learning_rate"), numbers(case.trials, "score")
    adaptation = case.setting("adaptation")
    known = np.isfinite(rates) & np.isfinite(scores)
    if "adaptation" in case.trials and adaptation is not None:
        known &= (case.trials["adaptation"] == adaptation).to_numpy()
    rates, scores = rates[known], scores[known]
    if len(set(rates)) < _FEWEST or rates.max() < 3 * rates.min() or np.ptp(scores) < 0.02:
        return None
    found = spearmanr(rates, scores)
    if not found.pvalue < 0.02 or not math.isfinite(case.rate):
        return None
    return float(found.statistic), float((rates < case.rate).mean()), len(rates)


def _told_of_others(case: Case) -> str:
    """That the target can be learnt, and who does it; empty where nobody clearly does."""
    if case.behind is not None and case.evaluation is not None:
        there, here = (one.metrics.get(case.metric, math.nan) for one in (case.behind, case.evaluation))
        return f" On the test split “{case.behind.name}” reaches {there:.3f}, the model {here:.3f}."
    return f" The target can be learnt: {case.others[1]}." if case.learnt is False and case.others[1] else ""


def _usual(case: Case) -> str:
    if case.usual_rates is None:
        return ""
    low, high = case.usual_rates
    return f" (usual for this model and adaptation: {low:.1g} to {high:.1g})"
