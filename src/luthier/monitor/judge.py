"""Judges requests against the reference of a model: has the data changed, does it hurt, and why.

Each question's statistics live in a module of their own; here they are asked and put together.
"""

from __future__ import annotations

import math

import numpy as np

from luthier.errors import SettingError
from luthier.monitor import explain
from luthier.monitor.adwin import present
from luthier.monitor.change import onset
from luthier.monitor.comparisons import Line, compared, lines, view_of
from luthier.monitor.judgement import (
    Break,
    Drift,
    Estimate,
    Explanation,
    Judgement,
    Length,
    Onset,
    Reference,
    Requests,
    Settings,
)
from luthier.monitor.performance import Accuracy, count_errors, count_right
from luthier.monitor.priors import priors
from luthier.monitor.rightness import Statistics
from luthier.monitor.sequential import holm, spend
from luthier.monitor.views import View, finite, row_means, view

HISTORY = 4000
"""Requests by which a change is placed in time: of more, every few are taken."""


class Judge:
    """Compares requests with one reference, again and again.

    What depends on the reference alone is computed once, when it is made. Judging changes nothing in it, so
    threads may share one.

    Args:
        reference: Of the model that answered.
        settings: How to judge.

    Raises:
        SettingError: For settings that mean nothing.
    """

    def __init__(self, reference: Reference, settings: Settings | None = None) -> None:
        self.reference = reference
        self.settings = settings or Settings()
        _check(self.settings)
        good = np.flatnonzero(finite(reference.outputs))
        self.seen = view(reference.kind, reference.classes, [reference.outputs[i] for i in good.tolist()])
        self.lines = lines(reference, self.seen)
        self.accuracy = Accuracy(
            reference.confidence, reference.right, reference.example, _measured(reference)
        )

    def judge(self, requests: Requests, *, new: int | None = None) -> Judgement:
        """Says what changed and whether it hurts.

        Args:
            requests: All that are kept, oldest first; the newest ``settings.long`` are judged, the newest
                ``settings.short`` also by themselves. The others, and labels of others, say when a change
                began.
            new: How many came since the last look; None for all of them. Looks share out ``alpha`` by it, so
                that looking more often does not raise more false alarms.

        Returns:
            The judgement; with too few requests one that says so in ``notes``.
        """
        told = Judgement()
        good = np.flatnonzero(finite(requests.outputs))
        if len(good) < len(requests):
            told.notes.append(
                f"{len(requests) - len(good)} requests have outputs that are not finite numbers."
            )
            requests = requests.at(good)
        if len(requests) < self.settings.fewest:
            told.notes.append(
                f"{len(requests)} requests are too few to judge; {self.settings.fewest} are needed."
            )
            return told
        window = requests.newest(self.settings.long)
        seen = view_of(self.reference, window)
        told.n, told.start, told.end = len(window), float(window.times[0]), float(window.times[-1])
        told.spent = spend(self.settings.alpha, len(requests) if new is None else new, self.settings.long)
        leading = self._drift(told, window, seen, requests)
        self._performance(told, window, seen, requests)
        if told.drifted or told.harm:
            told.explanation = self._explain(told, leading, window, seen)
        return told

    def _drift(
        self, told: Judgement, window: Requests, seen: View, requests: Requests
    ) -> list[tuple[Drift, Line]]:
        """Fills in the comparisons and the onset; gives back those that count, the clearest first."""
        windows: dict[Length, tuple[View, Requests]] = {"long": (seen, window)}
        if len(window) > self.settings.short:
            newest = window.newest(self.settings.short)
            windows["short"] = (view_of(self.reference, newest), newest)
        found, weights, by = compared(self.lines, windows, self.settings)
        for one, corrected in zip(found, holm([one.p for one in found], weights), strict=True):
            one.corrected = float(corrected)
            one.drifted = bool(corrected < told.spent)
        order = sorted(range(len(found)), key=lambda i: (found[i].corrected, found[i].p / weights[i]))
        told.drifts = [found[i] for i in order]
        leading = [(found[i], by[i]) for i in order if found[i].drifted]
        if leading:
            drift, line = leading[0]
            told.onset = self._onset(line, windows[drift.length], requests)
        return leading

    def _onset(self, line: Line, window: tuple[View, Requests], requests: Requests) -> Onset | None:
        """When the difference that the window shows began, over all kept requests."""
        witness = line.comparison.witness(line.known(*window)[1])
        if len(requests) > HISTORY:
            requests = requests.at(np.linspace(0, len(requests) - 1, HISTORY).astype(np.int64))
        there, values = line.known(view_of(self.reference, requests), requests)
        return onset(requests.times[there], witness.score(values), witness.mean, witness.n)

    def _performance(self, told: Judgement, window: Requests, seen: View, requests: Requests) -> None:
        """Fills in what is estimated and counted, and whether it is harm."""
        counting = requests.outcomes is not None and self._labelled(requests).sum() >= self.settings.fewest
        estimating = self.reference.kind != "number" and self.accuracy.rows > 0
        alpha = told.spent / (2 if counting and estimating else 1)
        level = self.settings.level
        if estimating:
            told.estimate = self.accuracy.estimate(
                seen.confidence, seen.example, _of_decisions(window, seen), level=level, alpha=alpha
            )
        else:
            told.notes.append(
                "Accuracy cannot be estimated without labels: answers carry no confidence."
                if self.reference.kind == "number"
                else "Accuracy cannot be estimated: the reference does not say how right answers were."
            )
        if counting:
            told.counted = self._count(requests, alpha)
            told.break_ = self._break(requests)
        if seen.answered is not None and self.reference.confusion is not None:
            answered = np.bincount(seen.answered, minlength=len(self.reference.classes))
            told.priors = priors(self.reference.confusion, answered, self.reference.classes, level=level)
        self._alarm(told)

    def _labelled(self, requests: Requests) -> np.ndarray:
        """(n,) bool, which requests have a label."""
        if requests.outcomes is None:
            return np.zeros(len(requests), dtype=bool)
        return np.asarray(np.isfinite(requests.outcomes))

    def _count(self, requests: Requests, alpha: float) -> Estimate | None:
        """What the newest labels say."""
        assert requests.outcomes is not None
        values = requests.outcomes[self._labelled(requests)][-self.settings.long :]
        if self.reference.kind == "number":
            errors = self.reference.errors[np.isfinite(self.reference.errors)]
            if len(errors) < 2:
                return None
            return count_errors(values, errors, level=self.settings.level, alpha=alpha)
        if not self.accuracy.rows:
            return None
        return count_right(values, self.accuracy.outcomes, level=self.settings.level, alpha=alpha)

    def _break(self, requests: Requests) -> Break | None:
        """Where the outcomes of all labelled requests changed."""
        assert requests.outcomes is not None
        there = self._labelled(requests)
        values = requests.outcomes[there]
        scale = 1.0
        if self.reference.kind == "number":
            # Outcomes must be bounded: an error beyond all tested ones counts as the largest of them.
            scale = float(np.nanmax(self.reference.errors, initial=0.0)) or 1.0
        start = present(np.minimum(values / scale, 1.0), self.settings.alpha)
        if not start:
            return None
        times = requests.times[there]
        return Break(
            float(times[start]),
            float(values[:start].mean()),
            float(values[start:].mean()),
            len(values) - start,
        )

    def _alarm(self, told: Judgement) -> None:
        """The alarm: labels say harm, or the estimate does and labels do not deny it."""
        if told.counted is not None and self._harmful(told.counted):
            told.harm, told.harm_by = True, "labels"
        elif told.estimate is not None and self._harmful(told.estimate):
            if told.counted is not None and told.counted.drop_high < self._tolerance(told.counted):
                told.notes.append("The estimated drop is denied by labels.")
                return
            told.harm, told.harm_by = True, "estimate"

    def _harmful(self, one: Estimate) -> bool:
        return one.drop >= self._tolerance(one) and one.drop_low > 0

    def _tolerance(self, one: Estimate) -> float:
        return self.settings.tolerance if one.metric == "accuracy" else self.settings.tolerance_error

    def _explain(
        self, told: Judgement, leading: list[tuple[Drift, Line]], window: Requests, seen: View
    ) -> Explanation:
        """Of drift, by the clearest comparison; of harm without drift, by single answers."""
        found = Explanation()
        outcomes = self._outcomes(told, window, seen)
        usual = None
        if len(self.seen.confidence) and self.accuracy.rows:
            usual = (self.seen, self._expected(self.seen, {}))
        found.slice = explain.worst_part(outcomes, seen, window, usual, self.reference.classes)
        if not leading:
            found.examples = explain.least_sure(outcomes, window)
            return found
        found.statistic = explain.in_words(leading[0][0])
        classes = [drift for drift, _ in leading if drift.of == "classes"]
        if classes and seen.answered is not None:
            newest = seen.answered[-classes[0].n :]
            counts = self.reference.counts
            if counts is None and self.seen.answered is not None:
                counts = np.bincount(self.seen.answered, minlength=len(self.reference.classes))
            found.changed_class, found.change = explain.moved_class(
                np.asarray(counts, dtype=np.float64),
                np.bincount(newest, minlength=len(self.reference.classes)),
                self.reference.classes,
            )
        # All features together tell more of a single request than any one number of it.
        vectors = [pair for pair in leading if pair[0].of in ("features", "outputs")]
        drift, line = (vectors or leading)[0]
        newest_rows = window.newest(drift.n) if drift.length == "short" else window
        found.examples = explain.examples(line, view_of(self.reference, newest_rows), newest_rows)
        return found

    def _outcomes(self, told: Judgement, window: Requests, seen: View) -> np.ndarray:
        """(n,) what labels said of each request, where the alarm is by labels, or what is to be expected."""
        if told.harm_by == "labels" and window.outcomes is not None:
            return window.outcomes if self.reference.kind != "number" else -window.outcomes
        if len(seen.confidence) and self.accuracy.rows:
            return self._expected(seen, _of_decisions(window, seen))
        return np.full(len(window), math.nan)

    def _expected(self, seen: View, statistics: Statistics) -> np.ndarray:
        probabilities = self.accuracy.probabilities(seen.confidence, statistics)
        return row_means(probabilities, seen.example, len(seen.scores))


def _of_decisions(requests: Requests, seen: View) -> Statistics:
    """Statistics of the input of each decision."""
    return {name: np.asarray(values)[seen.example] for name, values in requests.statistics.items()}


def _measured(reference: Reference) -> Statistics:
    """Statistics of the input of each of the reference's decisions; none where it is not known which."""
    rows, order = np.unique(reference.measured, return_index=True)
    if not len(rows) or not len(reference.example):
        return {}
    place = np.clip(np.searchsorted(rows, reference.example), 0, len(rows) - 1)
    known = rows[place] == reference.example
    return {
        name: np.where(known, np.asarray(values, dtype=np.float64)[order][place], math.nan)
        for name, values in reference.statistics.items()
    }


def _check(settings: Settings) -> None:
    """Refuses settings that mean nothing."""
    shares = {
        name: getattr(settings, name) for name in ("alpha", "level") if not 0 < getattr(settings, name) < 1
    }
    if shares:
        name, value = next(iter(shares.items()))
        raise SettingError(f"{name} is {value}, expected a share between 0 and 1.", "Give for example 0.01.")
    if not 1 <= settings.fewest <= settings.short <= settings.long:
        raise SettingError(
            f"fewest is {settings.fewest}, short {settings.short} and long {settings.long}; expected "
            "1 <= fewest <= short <= long.",
            "Give a short window that is not longer than the long one.",
        )
