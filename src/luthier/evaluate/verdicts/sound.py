"""The rule that speaks where no fault was found, and says what was looked at."""

from __future__ import annotations

import math

from luthier.evaluate.verdict import Verdict
from luthier.evaluate.verdicts.case import Case, difference


def sound(case: Case) -> Verdict | None:
    """No rule found a fault, and the model beats the most frequent answer beyond chance."""
    if not case.learnt or case.evaluation is None:
        return None
    low, high = case.evaluation.interval
    parts = [f"Test {case.metric.replace('_', ' ')} {case.evaluation.value:.3f} ({low:.3f} to {high:.3f})"]
    cheap = [one for one in case.cheap if one.difference is not None]
    if cheap:
        nearest = min(cheap, key=lambda one: one.difference or 0.0)
        parts.append(f"against the best cheap baseline, “{nearest.name}”, {difference(nearest)}")
    if case.training is not None and math.isfinite(case.training.score):
        parts.append(
            f"{case.shown(case.training.score)} on training rows and {case.shown(case.score)} on validation"
        )
    if case.noise is not None:
        parts.append(f"{100 * case.noise.share:.1f}% of its surest answers contradicted by the label")
    return Verdict(
        "sound",
        "good",
        "No fault was found",
        f"{'; '.join(parts)}. No leaks, no sign of a wrong rate, none of a target that cannot be learnt.",
    )
