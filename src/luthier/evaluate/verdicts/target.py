"""Rules on the target: whether it can be learnt from the inputs at all, and whether some of it is ignored."""

from __future__ import annotations

import math

from luthier.evaluate.verdict import Verdict
from luthier.evaluate.verdicts.case import Case

RANKED = 0.6
"""A class that is never answered could be, where the lower end of its ranking is above this."""
RARE = 0.5
"""A class of less than this part of an even share of the rows is rare. Where a common one is never answered,
the training failed, which is another rule's affair."""
_FEWEST = 5


def unlearnable(case: Case) -> Verdict | None:
    """Neither the model nor any other learner beats the most frequent answer beyond chance.

    One learner that failed may have failed by itself. So others must have been tried, or the model must have
    learnt its training rows, which shows that it could learn.
    """
    tried, other = case.others
    fitted = case.training is not None and case.skill(case.training.score) > 0.5
    if case.learnt is not False or other or not (tried or fitted):
        return None
    if any(one.interval[0] > RANKED for one in case.ignored):
        return None
    said = f"The model's validation {case.metric} is {case.shown(case.score)}"
    if math.isfinite(case.majority):
        said += f", the most frequent answer's {case.shown(case.majority)}"
    if case.evaluation is not None:
        low, high = case.evaluation.interval
        said += f"; on the test split it reaches {case.evaluation.value:.3f} ({low:.3f} to {high:.3f})"
    if tried:
        count = f"{tried} other learner{'s' if tried > 1 else ''}"
        said += f", and none of {count} beats the most frequent answer beyond chance"
    if fitted and case.training is not None:
        said += f". It can learn: on its training rows it reaches {case.shown(case.training.score)}"
    return Verdict(
        "unlearnable",
        "fault",
        "Nothing can tell the target from these inputs",
        f"{said}.",
        "See whether a person can tell the answer from the input, and whether inputs and labels belong "
        "together: a shifted column or shuffled labels look just so. More trials will not help.",
    )


def class_ignored(case: Case) -> Verdict | None:
    """A rare class of the test split is never answered, though it can be ranked."""
    ignored = [one for one in case.ignored if one.rows >= _FEWEST and one.fair < RARE]
    ranked = [one for one in ignored if one.interval[0] > RANKED]
    if not ranked:
        return None
    one = max(ranked, key=lambda each: each.rows)
    names = ", ".join(f"“{each.name}” ({each.rows} test rows)" for each in ignored[:4])
    weighed = case.setting("class_weights") == "balanced"
    step = "Collect more rows of it" if weighed else "Set `class_weights: balanced` in the space"
    return Verdict(
        "class-ignored",
        "fault",
        "A class is never answered" if len(ignored) == 1 else f"{len(ignored)} classes are never answered",
        f"Never answered: {names}. Yet it can be told: {one.source[:1].lower()}{one.source[1:]} gives "
        f"“{one.name}” more weight where it is right in {100 * one.ranking:.0f}% of pairs "
        f"({100 * one.interval[0]:.0f}% to {100 * one.interval[1]:.0f}%; 50% is chance). "
        f"{case.metric.replace('_', ' ').capitalize()} hides it, since the class is rare.",
        f"{step}, or judge by macro F1 and move the threshold.",
    )
