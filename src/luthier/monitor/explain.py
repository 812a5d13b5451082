"""Why: which class moved, on which part of requests answers got worse, and which requests show it.

Drift explains; whether there is any, and whether it hurts, is decided in `luthier.monitor.judge`.
"""

from __future__ import annotations

import math

import numpy as np

from luthier.evaluate.intervals import UNKNOWN
from luthier.monitor.comparisons import Line
from luthier.monitor.judgement import Drift, Requests
from luthier.monitor.views import View

EXAMPLES = 10
CLEAR = 3.0
"""Standard errors by which a part must be worse to be named: some thirty parts are looked at."""
FEW = 20
"""Requests of a part below which it is not looked at."""

WORDS = {
    "classes": "shares of answered classes",
    "confidence": "confidence",
    "output": "output",
    "outputs": "outputs together",
    "features": "features",
    "statistic": "input",
}


def in_words(drift: Drift) -> str:
    """What was compared, such as ``output spam`` or ``input length``."""
    return f"{WORDS[drift.of]} {drift.name}".strip()


def moved_class(
    counts: np.ndarray, answered: np.ndarray, names: tuple[str, ...]
) -> tuple[str, tuple[float, float]]:
    """The class whose share among answers moved the most, in standard errors, and from where to where.

    Args:
        counts: (classes,) of the reference.
        answered: (classes,) of requests.
        names: Of the classes.
    """
    held, asked = counts.sum(), answered.sum()
    if not held or not asked:
        return "", UNKNOWN
    before, after, both = counts / held, answered / asked, (counts + answered) / (held + asked)
    error = np.sqrt(both * (1 - both) * (1 / held + 1 / asked))
    at = int((np.abs(after - before) / np.maximum(error, 1e-12)).argmax())
    return names[at], (float(before[at]), float(after[at]))


def examples(line: Line, seen: View, requests: Requests) -> list[str]:
    """Ids of the requests that are the least like the reference, the less sure first among equals."""
    there, values = line.known(seen, requests)
    scores = np.full(len(requests), -np.inf)
    scores[there] = line.comparison.witness(values).score(values)
    sure = seen.sureness if len(seen.confidence) else np.zeros(len(requests))
    order = np.lexsort((sure, -scores))[: min(EXAMPLES, int(there.sum()))]
    return [str(requests.ids[i]) for i in order.tolist()]


def least_sure(outcomes: np.ndarray, requests: Requests) -> list[str]:
    """Ids of the requests whose answers are the least likely to be right."""
    order = np.argsort(np.where(np.isfinite(outcomes), outcomes, np.inf), kind="stable")
    known = int(np.isfinite(outcomes).sum())
    return [str(requests.ids[i]) for i in order[: min(EXAMPLES, known)].tolist()]


def worst_part(
    outcomes: np.ndarray,
    seen: View,
    requests: Requests,
    usual: tuple[View, np.ndarray] | None,
    names: tuple[str, ...],
) -> str:
    """The part of requests whose answers fell the most clearly, in words.

    Parts are the answered classes, held against the same class in the reference, and the lowest and highest
    quarter of each statistic of inputs, held against the other requests.

    Args:
        outcomes: (n,) expected or counted outcomes of requests; NaN where one is not known.
        seen: Their view.
        requests: These.
        usual: A view of rows of the reference and their expected outcomes.
        names: Of the classes.

    Returns:
        Empty where no part is worse by three standard errors.
    """
    best, told = CLEAR, ""
    known = np.isfinite(outcomes)
    if seen.answered is not None and usual is not None and usual[0].answered is not None:
        for index, name in enumerate(names):
            now = outcomes[known & (seen.answered == index)]
            clear = _clearer(now, usual[1][usual[0].answered == index])
            if clear > best:
                best, told = clear, f"answers {name}"
    for statistic, values in sorted(requests.statistics.items()):
        there = known & np.isfinite(values)
        if there.sum() < 2 * FEW:
            continue
        low, high = np.quantile(values[there], [0.25, 0.75])
        for inside, words in ((values <= low, f"up to {low:.4g}"), (values >= high, f"from {high:.4g} on")):
            clear = _clearer(outcomes[there & inside], outcomes[there & ~inside])
            if clear > best:
                best, told = clear, f"{statistic} {words}"
    return told


def _clearer(part: np.ndarray, rest: np.ndarray) -> float:
    """By how many standard errors the part's mean is lower; 0 where either is too small to tell."""
    if min(len(part), len(rest)) < FEW:
        return 0.0
    error = math.sqrt(part.var() / len(part) + rest.var() / len(rest))
    return float(rest.mean() - part.mean()) / error if error > 1e-12 else 0.0
