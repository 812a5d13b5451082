"""`judge`: asks every rule, leaves one verdict a cause, and puts the gravest first."""

from __future__ import annotations

from collections.abc import Callable

from luthier.evaluate.verdict import Verdict
from luthier.evaluate.verdicts import data, fit, leakage, rate, search, target
from luthier.evaluate.verdicts.case import Case
from luthier.evaluate.verdicts.sound import sound

Rule = Callable[[Case], Verdict | None]

RULES: tuple[Rule, ...] = (
    leakage.rows_in_two_splits,
    leakage.answer_in_input,
    target.unlearnable,
    data.label_noise,
    rate.too_high,
    target.class_ignored,
    rate.too_low,
    fit.underfitting,
    fit.overfitting,
    search.failures,
    search.baseline_as_good,
    data.too_few_data,
    search.luck,
    fit.still_improving,
)
"""All rules, those of deeper causes first."""

_TRAINED_BADLY = frozenset({"class-ignored", "baseline", "still-improving", "overfitting"})
EXPLAINS: dict[str, frozenset[str]] = {
    # Rows known by heart lift the figure on validation and on test.
    "leakage": frozenset({"overfitting", "baseline", "luck", "still-improving"}),
    # Where there is nothing to learn, a model learns nothing, or its training rows by heart.
    "unlearnable": _TRAINED_BADLY
    | {"rate-too-high", "rate-too-low", "underfitting", "label-noise", "too-few-data", "luck"},
    "rate-too-high": _TRAINED_BADLY | {"rate-too-low", "underfitting", "failures"},
    "rate-too-low": _TRAINED_BADLY | {"underfitting"},
    "underfitting": _TRAINED_BADLY,
    # A loss that frequent classes rule falls slowly, and a learner that answers the rare one is ahead.
    "class-ignored": frozenset({"rate-too-low", "underfitting", "baseline", "still-improving"}),
    # A model that learns wrong labels by heart loses on others, and to whatever cannot.
    "label-noise": frozenset({"overfitting", "baseline", "too-few-data", "luck"}),
    "overfitting": frozenset({"baseline", "luck", "still-improving"}),
}
"""What each cause explains, so that it is not said again."""

_GRAVITY = {"fault": 0, "advice": 1, "good": 2}


def judge(case: Case) -> list[Verdict]:
    """What is to be made of a run, the gravest first; at most one verdict a cause.

    A fault explains what follows from it. Advice explains advice only: what is far from what could be had is
    said, whatever the small things beside it.

    Args:
        case: The run.
    """
    kept: list[Verdict] = []
    for rule in RULES:
        verdict = rule(case)
        if verdict is not None and not any(_explains(cause, verdict) for cause in kept):
            kept.append(verdict)
    if all(verdict.gravity != "fault" for verdict in kept) and (good := sound(case)) is not None:
        kept.append(good)
    return sorted(kept, key=lambda verdict: _GRAVITY[verdict.gravity])


def _explains(cause: Verdict, verdict: Verdict) -> bool:
    named = cause.name == verdict.name or verdict.name in EXPLAINS.get(cause.name, ())
    return named and _GRAVITY[cause.gravity] <= _GRAVITY[verdict.gravity]
