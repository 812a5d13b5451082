"""Rules on the search and what its winner is worth: failures, luck, baselines that are as good."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from luthier.evaluate.tables import numbers
from luthier.evaluate.verdict import Verdict
from luthier.evaluate.verdicts.case import Case, difference


def baseline_as_good(case: Case) -> Verdict | None:
    """A baseline is better, or as good and cheap: the paired interval of the difference reaches zero."""
    told = [
        one
        for one in (case.evaluation.baselines if case.evaluation else [])
        if one.difference is not None
        and one.difference_interval is not None
        and math.isfinite(one.difference_interval[0])
        and not one.name.startswith("Always the")
    ]
    better = [one for one in told if (one.difference_interval or (0, 0))[1] < 0]
    equal = [one for one in told if one in case.cheap and (one.difference_interval or (0, 0))[0] <= 0]
    if not better and not equal:
        return None
    one = min(better or equal, key=lambda each: each.difference or 0.0)
    return Verdict(
        "baseline",
        "fault" if better else "advice",
        f"“{one.name}” is better" if better else f"“{one.name}” is as good",
        f"On the test split the model differs from it by {difference(one)} (positive: the model is better). "
        f"It took {one.seconds:.3g} s.",
        "Use it, or give the search more time: `luthier resume RUN --budget +10m`."
        if better
        else "Use it where what a model costs matters; more test rows may yet tell the two apart.",
    )


def failures(case: Case) -> Verdict | None:
    """A third of the trials failed, or more."""
    trials = case.trials
    failed = trials[trials["status"] == "failed"] if "status" in trials else trials[:0]
    if not len(failed) or 3 * len(failed) < len(trials):
        return None
    reasons = failed["reason"].dropna().value_counts() if "reason" in failed else pd.Series(dtype=int)
    most = f" Most frequent reason: {reasons.index[0]} ({reasons.iloc[0]}×)." if len(reasons) else ""
    return Verdict(
        "failures",
        "fault" if 2 * len(failed) >= len(trials) else "advice",
        "Many trials failed",
        f"{len(failed)} of {len(trials)} trials failed.{most}",
        "Take what fails out of the space: a smaller `batch_size` or `max_length` where memory ran out, a "
        "lower `learning_rate` where losses became infinite.",
    )


def luck(case: Case) -> Verdict | None:
    """The winner's validation score lies above the test interval: the best of many is partly luck."""
    scores = numbers(case.trials, "score")
    scores = scores[np.isfinite(scores)]
    if case.evaluation is None or len(scores) < 2:
        return None
    low, high = case.evaluation.interval
    best = scores.max() if case.maximize else -scores.max()
    if math.isnan(low) or (best <= high if case.maximize else best >= low):
        return None
    told = case.evaluation.selection
    expected = (
        f" Corrected for the choice it is {told.expected:.3f}."
        if told and math.isfinite(told.expected)
        else ""
    )
    return Verdict(
        "luck",
        "advice",
        "The validation score flatters the model",
        f"The best of {len(scores)} trials scored {best:.3f} on validation, outside the test interval "
        f"({low:.3f} to {high:.3f}).{expected}",
        "Trust the test figure. If new data are to come from elsewhere than the training rows, see whether "
        "the splits differ.",
    )
