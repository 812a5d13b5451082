"""`Continued`: a model beside the one that it was continued from, on the same test rows: what was kept, what
was forgotten, what was gained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from luthier.evaluate.intervals import UNKNOWN, Interval, paired_difference
from luthier.evaluate.plain import Plain
from luthier.evaluate.slices import FEW, call_worse, recall, resampled
from luthier.tasks.base import Task

Outputs = Sequence[np.ndarray]
NAMED = 5
"""Classes that a sentence names."""


@dataclass
class Change(Plain):
    """What continuing did on some rows.

    Attributes:
        name: Which rows: a class, or "" for all of them.
        n: How many there are.
        before: The optimised metric of the earlier model on them; of a class its recall.
        after: Of this one.
        gain: How much better this one is, by the score, higher is better.
        interval: 95% (low, high) of it, paired.
        worse: Of a class: whether it is clearly worse, corrected for the number of classes looked at.
        p: The p value of that, uncorrected; NaN where it was not tested.
    """

    name: str
    n: int
    before: float
    after: float
    gain: float
    interval: Interval = UNKNOWN
    worse: bool = False
    p: float = math.nan


@dataclass
class Continued(Plain):
    """A model beside the one that it was continued from.

    Attributes:
        name: The earlier run.
        old: On the test rows of that run; None where the comparison was refused.
        new: On the test rows that were added; None where there are none, or it was refused.
        classes: Recalls on the old test rows, in the order of the classes; empty where there are no classes.
        labels: Answers that the earlier model did not know.
        refused: Why there is no comparison.
    """

    name: str
    old: Change | None = None
    new: Change | None = None
    classes: list[Change] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    refused: str = ""

    @property
    def worse(self) -> list[Change]:
        """Classes that got clearly worse, the surest first."""
        return sorted((one for one in self.classes if one.worse), key=lambda one: one.p)


def compare(
    task: Task, after: Outputs, before: Outputs, targets: Outputs, *, groups: Any | None = None, seed: int = 0
) -> Change:
    """Two models on the same rows, by the optimised metric.

    Args:
        task: The fitted task.
        after: n arrays, of the model at hand.
        before: n arrays, of the earlier one, in the outputs of this task.
        targets: n arrays.
        groups: (n,) keys where rows of a group are not independent.
        seed: Of the resampling.
    """
    ours, theirs = (task.score_statistics(outputs, targets) for outputs in (after, before))
    scores = [float(task.scores(each.sum(axis=0)[None])[0]) for each in (theirs, ours)]
    shown = scores if task.maximize else [-score for score in scores]
    gain, interval = paired_difference(
        ours, theirs, lambda totals: float(task.scores(totals[None])[0]), groups=groups, seed=seed
    )
    return Change("", len(targets), shown[0], shown[1], gain, interval)


def compare_classes(
    task: Task, after: Outputs, before: Outputs, targets: Outputs, *, groups: Any | None = None, seed: int = 0
) -> list[Change]:
    """The recall of each class that is there by two models, and in which it fell by more than chance would.

    A fall is tested on the rows on which the two differ: by the sign test where each row is of one class and
    stands alone (exact; McNemar 1947 has the approximation), otherwise by a t test with the bootstrap's
    standard error. Holm's correction (1979) is over all classes of `FEW` rows or more.

    Args:
        task: The fitted task.
        after: n arrays, of the model at hand.
        before: n arrays, of the earlier one, in the outputs of this task.
        targets: n arrays.
        groups: (n,) keys where rows of a group are not independent.
        seed: Of the resampling.

    Returns:
        One a class; none where there are no classes.
    """
    ours, theirs = task.hits(after, targets), task.hits(before, targets)
    if ours is None or theirs is None:
        return []
    names, truths = ours[0], ours[2]
    alone = groups is None and bool((truths.sum(axis=1) <= 1).all())
    found = []
    for place, name in enumerate(names):
        inside = truths[:, place] > 0
        if not inside.any():
            continue
        pairs = [
            np.stack([hits[inside, place], truths[inside, place]], axis=1).astype(np.float64)
            for hits in (theirs[1], ours[1])
        ]
        old, new = (float(recall(each.sum(axis=0))) for each in pairs)
        change = Change(str(name), int(inside.sum()), old, new, new - old)
        if change.n >= FEW:
            keys = None if groups is None else np.asarray(groups)[inside]
            change.interval = paired_difference(
                pairs[1], pairs[0], lambda totals: float(recall(totals)), groups=keys, seed=seed
            )[1]
            change.p = _sign(pairs) if alone else resampled(pairs[1], pairs[0], recall, keys, seed=seed)
        found.append(change)
    call_worse(found)
    return found


def _sign(pairs: Sequence[np.ndarray]) -> float:
    """The one-sided p value of having lost as many answers as were lost, of those that changed."""
    from scipy.stats import binom

    change = pairs[1][:, 0] - pairs[0][:, 0]
    lost, changed = int((change < 0).sum()), int((change != 0).sum())
    return float(binom.sf(lost - 1, changed, 0.5)) if changed else 1.0


def told(found: Continued, metric: str, *, maximize: bool) -> list[str]:
    """What was kept, forgotten and gained, a sentence each.

    Args:
        found: The comparison.
        metric: Name of the optimised metric.
        maximize: Whether more of it is better.
    """
    if found.refused:
        return [f"Not held against {found.name}, which it continues: {found.refused}"]
    said = []
    if found.old is not None:
        said.append(
            _rows(found.old, f"old test rows of {found.name}", metric, maximize, ("forgot", "gained"))
        )
    if found.classes:
        said.append(_classes(found))
    if found.new is not None:
        said.append(_rows(found.new, "added test rows", metric, maximize, ("lost", "gained")))
    return said


def _rows(change: Change, what: str, metric: str, maximize: bool, words: tuple[str, str]) -> str:
    name = metric.replace("_", " ")
    ends = f"{change.interval[0]:+.3f} to {change.interval[1]:+.3f}"
    seen = f"{name} {change.before:.3f} before, {change.after:.3f} now"
    if not math.isfinite(change.interval[0]):
        return f"On the {change.n:,} {what}: {seen}; too few to tell."
    if change.interval[0] > 0:
        how = f"it {words[1]} {abs(change.gain):.3f}"
    elif change.interval[1] < 0:
        how = f"it {words[0]} {abs(change.gain):.3f}"
    else:
        how = f"the difference of {change.gain:+.3f} lies within chance"
    better = "" if maximize else " (positive is better)"
    return f"On the {change.n:,} {what}: {seen}; {how} (95% interval {ends}{better})."


def _classes(found: Continued) -> str:
    tested = sum(math.isfinite(one.p) for one in found.classes)
    if not tested:
        return "No class has enough old test rows to tell whether it got worse."
    worse = found.worse
    if not worse:
        return f"None of {tested} classes with {FEW} old test rows or more got clearly worse."
    named = "; ".join(
        f"{one.name} (recall {one.before:.3f} before, {one.after:.3f} now, in {one.n:,} rows)"
        for one in worse[:NAMED]
    )
    more = f"; and {len(worse) - NAMED} more" if len(worse) > NAMED else ""
    return f"Clearly worse on old test rows, of {tested} classes: {named}{more}."
