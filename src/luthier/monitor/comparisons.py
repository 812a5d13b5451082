"""What of requests is compared with a reference: one line for each column, and how much weight each has.

How a column is compared lives in `drift` and `kernel`; which differences count is said in `judge`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from luthier.monitor.drift import Comparison, Numbers, Shares, column
from luthier.monitor.judgement import Drift, Length, Of, Reference, Requests, Settings
from luthier.monitor.kernel import Discrepancy
from luthier.monitor.views import View, row_means, view

LONG = 0.9
"""Weight of the long window; the short one has the rest: what it alone shows is gross, and needs little."""
DIGITS = 5
"""Of confidences: beyond them, how outputs were stored decides which of two answers that are all but sure is
surer."""
CLASSES = 0.5
"""Weight of the shares of answered classes, in tasks that have them: they are what users of answers see. The
other families have the rest."""


@dataclass(frozen=True)
class Line:
    """One thing that is compared.

    Attributes:
        of: As in `Drift`.
        name: As in `Drift`.
        comparison: Holds the reference.
        pick: From a view of requests and these to (n, ...) values.
        weight: In the correction for many comparisons; those of one reference add up to 1.
    """

    of: Of
    name: str
    comparison: Comparison
    pick: Callable[[View, Requests], np.ndarray]
    weight: float = 1.0

    def known(self, seen: View, requests: Requests) -> tuple[np.ndarray, np.ndarray]:
        """(n,) bool, which requests have a value, and these values."""
        values = self.pick(seen, requests)
        finite = np.isfinite(values)
        there = finite if values.ndim == 1 else finite.all(axis=1)
        return there, values[there]


def lines(reference: Reference, seen: View) -> list[Line]:
    """All that can be compared: answered classes, confidence, outputs, features and statistics.

    Outputs are compared one by one, as in the univariate black-box tests of Rabanser et al. 2019. Answered
    classes weigh `CLASSES`; the other families share the rest evenly, and each shares its own among its
    lines.

    Args:
        reference: What requests are compared with.
        seen: The view of its outputs.
    """
    classes = _classes(reference, seen)
    families = [
        _confidence(reference, seen),
        _outputs(seen),
        _vectors(reference, seen),
        _statistics(reference),
    ]
    families = [family for family in families if family]
    left = 1 - CLASSES if classes and families else 1.0
    return [replace(line, weight=CLASSES if families else 1.0) for line in classes] + [
        replace(line, weight=left / len(families) / len(family)) for family in families for line in family
    ]


def compared(
    lines: list[Line], windows: dict[Length, tuple[View, Requests]], settings: Settings
) -> tuple[list[Drift], list[float], list[Line]]:
    """Carries out all comparisons of all windows.

    Args:
        lines: What is compared.
        windows: The view and the requests by length.
        settings: For the fewest requests.

    Returns:
        What each says, uncorrected; its weight; and its line.
    """
    found: list[Drift] = []
    weights: list[float] = []
    by: list[Line] = []
    both = len(windows) > 1
    for length, (seen, requests) in windows.items():
        for line in lines:
            there, values = line.known(seen, requests)
            told = line.comparison.compare(values) if there.sum() >= settings.fewest else None
            if told is None:
                continue
            method = line.comparison.method
            found.append(Drift(line.of, line.name, length, int(there.sum()), method, told.effect, told.p))
            weights.append(line.weight * ((LONG if length == "long" else 1 - LONG) if both else 1.0))
            by.append(line)
    return found, weights, by


def _classes(reference: Reference, seen: View) -> list[Line]:
    if seen.answered is None:
        return []
    counts = reference.counts
    if counts is None:
        counts = np.bincount(seen.answered, minlength=len(reference.classes))
    shares = Shares(np.asarray(counts), np.arange(len(reference.classes)))

    def answered(view: View, _: Requests) -> np.ndarray:
        return np.empty(0, dtype=np.int64) if view.answered is None else view.answered

    return [Line("classes", "", shares, answered)]


def _confidence(reference: Reference, seen: View) -> list[Line]:
    values = seen.sureness
    if len(reference.confidence):
        rows = np.unique(reference.example, return_inverse=True)[1].reshape(-1)
        values = row_means(reference.confidence, rows, int(rows.max()) + 1)
    values = values[np.isfinite(values)].round(DIGITS)
    if not len(values):
        return []
    return [Line("confidence", "", Numbers(values), lambda view, _: view.sureness.round(DIGITS))]


def _outputs(seen: View) -> list[Line]:
    found = []
    for index, name in enumerate(seen.names):
        values = seen.scores[:, index]
        values = values[np.isfinite(values)]

        def score(view: View, _: Requests, index: int = index) -> np.ndarray:
            return np.asarray(view.scores[:, index])

        if len(values):
            found.append(Line("output", name, Numbers(values), score))
    return found


def _vectors(reference: Reference, seen: View) -> list[Line]:
    if reference.features is not None:
        of_features = Discrepancy(reference.features)

        def features(view: View, requests: Requests) -> np.ndarray:
            return np.full((len(requests), 1), np.nan) if requests.features is None else requests.features

        return [Line("features", "", of_features, features)]
    if len(seen.names) < 2:
        return []
    return [Line("outputs", "", Discrepancy(seen.scores), lambda view, _: view.scores)]


def _statistics(reference: Reference) -> list[Line]:
    found = []
    for name, values in sorted(reference.statistics.items()):
        comparison = column(values)

        def pick(_: View, requests: Requests, name: str = name) -> np.ndarray:
            return np.asarray(requests.statistics.get(name, np.full(len(requests), np.nan)), dtype=np.float64)

        if comparison is not None:
            found.append(Line("statistic", name, comparison, pick))
    return found


def view_of(reference: Reference, requests: Requests) -> View:
    """The view of requests as the reference's task has outputs."""
    return view(reference.kind, reference.classes, requests.outputs)
