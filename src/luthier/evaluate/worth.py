"""`worth`: whether fine-tuning was worth it, in a sentence or two, from the baselines beside the result."""

from __future__ import annotations

import math

from luthier.evaluate.baselines import Baseline
from luthier.evaluate.evaluation import Evaluation

COSTLY = "scratch"
"""The baseline that is no cheap alternative: it trains as much as fine-tuning does."""


def worth(evaluation: Evaluation) -> str:
    """What fine-tuning gained over the best cheap baseline, at what cost, and whether that is more than
    chance.

    The best of several baselines on the same test rows is flattered by having been the best there, so that
    the gain is rather said too small than too large.

    Args:
        evaluation: With its baselines, and the seconds that the model took.

    Returns:
        Empty where there is no cheap baseline to compare with.
    """
    best = best_baseline(evaluation)
    if best is None or best.difference is None:
        return ""
    name = _name(best)
    took = f", which took {duration(best.seconds)},"
    low, high = best.difference_interval or (math.nan, math.nan)
    if not (math.isfinite(low) and math.isfinite(high)):
        return (
            f"Whether fine-tuning was worth it cannot be said from so few test rows: it is "
            f"{_gain(evaluation, best.difference)} against {name}."
        )
    ends = f"{_number(evaluation, low)} to {_number(evaluation, high)}"
    odds = "" if best.p is None else f", p {_odds(best.p)}"
    spent = f" Finding and training the model took {duration(evaluation.spent)}." if evaluation.spent else ""
    if low > 0:
        said = (
            f"Fine-tuning gained {_gain(evaluation, best.difference)} over {name}{took} the best cheap "
            f"baseline: 95% interval {ends}{odds}."
        )
    elif high < 0:
        said = (
            f"{_capital(name)}{took} is better: fine-tuning lost {_gain(evaluation, -best.difference)} "
            f"against it (95% interval of the gain {ends}{odds})."
        )
    else:
        said = (
            f"{_capital(name)}{took} is as good: the difference of "
            f"{_gain(evaluation, best.difference, signed=True)} lies within chance ({ends}{odds})."
        )
    return said + spent


def best_baseline(evaluation: Evaluation) -> Baseline | None:
    """The cheap baseline that the metric is best of; None where there is none."""
    sign = 1 if evaluation.maximize else -1
    cheap = [
        one
        for one in evaluation.baselines
        if one.kind != COSTLY and math.isfinite(one.metrics.get(evaluation.metric, math.nan))
    ]
    return max(cheap, key=lambda one: sign * one.metrics[evaluation.metric], default=None)


def duration(seconds: float) -> str:
    """Seconds as people say them: ``0.3 s``, ``9 s``, ``12 min``, ``3.5 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds < 1 else f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _percent(evaluation: Evaluation) -> bool:
    """Whether the metric is a share, whose differences are points."""
    values = [evaluation.value, *(one.metrics.get(evaluation.metric, 0.0) for one in evaluation.baselines)]
    return evaluation.maximize and all(-1 <= value <= 1 for value in values if math.isfinite(value))


def _number(evaluation: Evaluation, gain: float) -> str:
    return f"{100 * gain:+.1f}" if _percent(evaluation) else f"{gain:+.3g}"


def _gain(evaluation: Evaluation, gain: float, *, signed: bool = False) -> str:
    said = _number(evaluation, gain)
    metric = evaluation.metric.replace("_", " ")
    unit = f"points of {metric}" if _percent(evaluation) else f"in {metric}"
    return f"{said if signed or gain < 0 else said.lstrip('+')} {unit}"


def _odds(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"= {p:.2g}"


def _name(baseline: Baseline) -> str:
    return {
        "majority": baseline.name[:1].lower() + baseline.name[1:],
        "probe": "the probe",
        "neighbours": "nearest neighbours on frozen features",
    }.get(baseline.kind, baseline.name)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
