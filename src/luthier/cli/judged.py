"""What is said of an evaluation beside its metrics, a line each. Metrics are printed by `output`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from luthier.evaluate.calibration import Calibration
    from luthier.evaluate.evaluation import Evaluation
    from luthier.evaluate.leaks import Leaked
    from luthier.evaluate.slices import Slice
    from luthier.evaluate.suspects import Suspects

NAMED = 3
"""Slices named at most."""


def lines(evaluation: Evaluation) -> list[str]:
    """Calibration, slices that are clearly worse, rows that training saw, doubtful labels, whether it was
    worth it, and what was kept of a model that was continued; of each what there is to say."""
    said = [
        _unseen(evaluation),
        _calibration(evaluation.calibration),
        _slices(evaluation.slices),
        _leaked(evaluation.leaked, evaluation.metric),
        _suspects(evaluation.suspects),
        evaluation.worth,
        *_continued(evaluation),
    ]
    return [line for line in said if line]


def _continued(evaluation: Evaluation) -> list[str]:
    from luthier.evaluate.continued import told

    found = evaluation.continued
    return [] if found is None else told(found, evaluation.metric, maximize=evaluation.maximize)


def _unseen(evaluation: Evaluation) -> str:
    if not evaluation.unseen:
        return ""
    rows = "row has" if evaluation.unseen == 1 else "rows have"
    return f"answers: {evaluation.unseen:,} {rows} one that training never saw, counted as wrong"


def _calibration(found: Calibration | None) -> str:
    if found is None:
        return ""
    known = "" if not math.isfinite(found.interval[0]) else f" (95% interval {between(found.interval)})"
    before = ""
    if found.temperature != 1:
        before = f", {found.before:.3f} before its temperature of {found.temperature:.2f}"
    return f"calibration: expected error {found.error:.3f}{known}{before}"


def _slices(slices: Sequence[Slice]) -> str:
    tested = [part for part in slices if math.isfinite(part.p)]
    if not tested:
        return ""
    worse = sorted((part for part in tested if part.worse), key=lambda part: part.p)
    if not worse:
        return f"slices: none of {len(tested)} is clearly worse than the rest"
    named = "; ".join(
        f"{part.kind} {part.name}: {part.value:.3f} in {part.n:,} rows ({between(part.interval)})"
        for part in worse[:NAMED]
    )
    more = f"; and {len(worse) - NAMED} more" if len(worse) > NAMED else ""
    return f"clearly worse, of {len(tested)} slices: {named}{more}"


def _leaked(found: Leaked | None, metric: str) -> str:
    if found is None:
        return ""
    rows = "test row stands" if found.rows == 1 else "test rows stand"
    if not found.n:
        return f"seen in training: {found.rows:,} {rows} there too, which is all of them"
    known = "" if not math.isfinite(found.interval[0]) else f" ({between(found.interval)})"
    return f"seen in training: {found.rows:,} {rows} there too; without, {metric} {found.value:.3f}{known}"


def _suspects(found: Suspects | None) -> str:
    if found is None:
        return ""
    count = sum(found.found.values())
    if not found.found:
        return f"labels: {found.note}"
    if not count:
        return "labels: none looks like a mistake"
    parts = ", ".join(f"{number:,} {split}" for split, number in found.found.items() if number)
    return f"labels: {count:,} may be mistakes ({parts}; {found.share:.1%} of the rows looked at)"


def between(interval: tuple[float, float]) -> str:
    """An interval as ``low to high``."""
    return f"{interval[0]:.3f} to {interval[1]:.3f}"
