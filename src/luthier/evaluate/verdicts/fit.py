"""Rules on how a model fits: too little, too much, not yet to the end. Rates are judged in `rate`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from luthier.evaluate.tables import numbers
from luthier.evaluate.verdict import Verdict
from luthier.evaluate.verdicts.case import FLAT, Case, difference

GAP = 0.10
"""A training score this far above validation is a gap, where 0 is the most frequent answer and 1 no error."""
WIDE = 0.25
"""A gap from here on, with a risen loss, is a fault."""
FITTED = 0.9
"""A model that reaches this on its training rows, on the same scale, fits them."""
RISE = 0.05
"""A validation loss has risen when it ends at least this share above its lowest."""
STEEP = 0.25
LARGE = 0.1
"""A rise from the first on, and by the second share of the loss of knowing nothing, is a steep one."""


@dataclass(frozen=True)
class Rise:
    """A validation loss that rose while the training loss fell.

    Attributes:
        epoch: Of the lowest validation loss.
        low: That loss.
        high: The loss in the end.
        train: Training loss at that epoch and in the end.
    """

    epoch: int
    low: float
    high: float
    train: tuple[float, float]

    @property
    def share(self) -> float:
        """How far it rose, as a share of its lowest."""
        return self.high / self.low - 1


def rise(curve: pd.DataFrame) -> Rise | None:
    """From which epoch on training went against validation; None where it did not."""
    loss, train = numbers(curve, "loss"), numbers(curve, "train_loss")
    if len(loss) < 3 or not np.isfinite(loss).all() or not np.isfinite(train).all():
        return None
    at = int(loss.argmin())
    if at == len(loss) - 1 or loss[at] <= 0 or loss[-1] < loss[at] * (1 + RISE) or train[-1] >= train[at]:
        return None
    ends = (float(train[at]), float(train[-1]))
    return Rise(int(curve["epoch"].iloc[at]), float(loss[at]), float(loss[-1]), ends)


def overfitting(case: Case) -> Verdict | None:
    """Training rows are answered far better than others, beyond chance, or the validation loss rose while the
    training loss fell.
    """
    found = rise(case.curve())
    gap, said = _gap(case)
    beyond = gap >= GAP
    # A small loss may double and be small.
    steep = found is not None and found.share >= STEEP and found.high - found.low >= LARGE * case.blank_loss
    if not beyond and not steep:
        return None
    grave = gap >= WIDE and steep
    parts = [said] if said else []
    if found is not None:
        parts.append(
            f"Validation loss rose after epoch {found.epoch} ({found.low:.3g} to {found.high:.3g}) while "
            f"training loss fell ({found.train[0]:.3g} to {found.train[1]:.3g}): from there on it learnt "
            "the training rows by heart."
        )
    step = "More rows help most; else train less of the model (`adaptation: last_k`, `lora` or `probe`), "
    step += "or regularise it (`head_dropout`, `weight_decay`, `label_smoothing`)"
    if steep and found is not None:
        step += f", and train about {found.epoch} epochs"
    return Verdict(
        "overfitting",
        "fault" if grave else "advice",
        "The model has learnt its training rows by heart" if grave else "The model overfits",
        " ".join(parts),
        step + ".",
    )


def underfitting(case: Case) -> Verdict | None:
    """A cheap learner does clearly better, and the model does not fit the rows that it was trained on; or its
    training loss hardly fell, and it has not learnt anything.
    """
    gap, said = _gap(case)
    losses = numbers(case.curve(), "train_loss")
    behind = case.behind
    if behind is not None and case.evaluation is not None:
        fitted = case.skill(case.training.score) if case.training else math.nan
        if fitted >= FITTED or (math.isnan(fitted) and _memorised(case)):
            return None
        evidence = (
            f"“{behind.name}” is better on the test split ({difference(behind)}), and the model does not "
        )
        evidence += f"fit its training rows either. {said}"
    elif case.learnt is False and not (gap >= GAP):
        tried, other = case.others
        fall = case.fall()
        # With others who failed too, the target is in doubt, not the model.
        if (tried and not other) or not (other or fall < FLAT):
            return None
        evidence = f"It is no better than the most frequent answer, also on its training rows. {said}".strip()
        if len(losses) > 1:
            evidence += f" Its training loss went from {losses[0]:.3g} to {losses[-1]:.3g}."
        if other:
            evidence += f" The target can be learnt: {other}."
    else:
        return None
    return Verdict(
        "underfitting",
        "fault",
        "The model has not learnt what can be learnt",
        evidence,
        _more(case, len(losses)),
    )


def still_improving(case: Case) -> Verdict | None:
    """The last epoch was the best of two or more, by more than chance, and the training could go on."""
    scores, loss = numbers(case.curve(), "score"), numbers(case.curve(), "loss")
    if len(scores) < 2 or not np.isfinite(scores).all() or int(scores.argmax()) != len(scores) - 1:
        return None
    spread = case.deviation if math.isfinite(case.deviation) else 0.0
    if scores[-1] - scores[-2] <= 0.25 * spread or loss[-1] > loss[-2]:
        return None
    return Verdict(
        "still-improving",
        "advice",
        "It was still improving when it ended",
        f"The chosen trial was at its best in its last epoch, {len(scores)}: validation {case.metric} "
        f"{case.shown(scores[-2])} before, {case.shown(scores[-1])} then.",
        f"Allow more `epochs` in the space (up to {2 * len(scores)}), or more time: `luthier resume RUN "
        "--budget +10m`.",
    )


def _gap(case: Case) -> tuple[float, str]:
    """How far the training score is above the validation score as skill, if beyond chance (0 if not); NaN
    where it is not known. And its figures.
    """
    fit = case.training
    if fit is None or not math.isfinite(fit.score) or not math.isfinite(case.score):
        return math.nan, ""
    evaluation = case.evaluation
    # Validation flatters the winner, so the test value stands beside it.
    sign = 1.0 if case.maximize else -1.0
    test = sign * evaluation.value if evaluation else math.nan
    held = min(case.score, test) if math.isfinite(test) else case.score
    said = (
        f"{case.metric} is {case.shown(fit.score)} on training rows, {case.shown(case.score)} on validation"
    )
    said += f", {case.shown(test)} on test." if math.isfinite(test) else "."
    spread = case.deviation if math.isfinite(case.deviation) else 0.0
    if fit.score - held <= 2 * spread:
        return 0.0, said[:1].upper() + said[1:]
    return case.skill(fit.score) - case.skill(held), said[:1].upper() + said[1:]


def _memorised(case: Case) -> bool:
    """Whether the training loss is far below the validation loss at the best epoch."""
    curve = case.curve()
    scores = numbers(curve, "score")
    if not np.isfinite(scores).any():
        return False
    at = int(np.nanargmax(scores))
    return bool(numbers(curve, "train_loss")[at] < 0.6 * numbers(curve, "loss")[at])


def _more(case: Case, epochs: int) -> str:
    """What gives a model more room or time."""
    frozen = case.setting("adaptation") in ("probe", "bias")
    first = (
        "Train more of the model (`adaptation: last_k`, `lora` or `full`)"
        if frozen
        else "Give it more `epochs`"
    )
    first += f" (it had {epochs})" if not frozen and epochs else ""
    return f"{first}, a higher `learning_rate`, or another `--model`."
