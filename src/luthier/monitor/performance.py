"""How right answers are: estimated from how sure they are, or counted from labels, each with an interval.

What follows from it is decided in `luthier.monitor.judge`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from luthier.evaluate.intervals import Interval
from luthier.monitor.judgement import Estimate
from luthier.monitor.rightness import Rightness, Statistics
from luthier.monitor.views import row_means


class Mean(NamedTuple):
    """A mean of rows: its value, the variance of that, and how many rows it is from."""

    value: float
    variance: float
    n: int


def mean_of(values: np.ndarray) -> Mean:
    """The mean of numbers in [0, 1].

    Its variance is taken as if one 0 and one 1 had been seen besides, so that all alike do not count as
    certain (Agresti & Caffo 2000, for proportions).
    """
    more = np.concatenate([values, [0.0, 1.0]])
    return Mean(float(values.mean()), float(more.var()) / len(more), len(values))


class Accuracy:
    """Estimates the share of right answers without labels, from a reference whose answers are known.

    Confidence-based: the expected share of right answers is the mean probability of being right (Guillory et
    al. 2021, average confidence; NannyML calls it CBPE). That probability is read off the confidence by
    `Rightness`, fitted on the reference. What is estimated is the difference to the reference (difference of
    confidences, equation 3 there), which is then taken off what was tested.

    All means are over rows; a row of several decisions counts by the share of them that is right.

    Args:
        confidence: (d,) of the reference's decisions.
        right: (d,) bool.
        example: (d,) the row of each.
        statistics: As in `Rightness`.
    """

    def __init__(
        self,
        confidence: np.ndarray,
        right: np.ndarray,
        example: np.ndarray,
        statistics: Statistics | None = None,
    ) -> None:
        rows = np.unique(example, return_inverse=True)[1].reshape(-1)
        self.rows = int(rows.max(initial=-1)) + 1
        self.outcomes = row_means(np.asarray(right, dtype=np.float64), rows, self.rows)
        self.tested = mean_of(self.outcomes) if self.rows else Mean(math.nan, math.nan, 0)
        self.map = Rightness(confidence, np.asarray(right, dtype=np.float64), rows, statistics)
        design = self.map.design(confidence, statistics or {})
        self.expected, self.slope = self._expected(design, rows, self.rows)
        # Average thresholded confidence (Garg et al. 2022, equation 4): as many rows lie above the threshold
        # as are right.
        self.threshold = float(np.quantile(self.expected, 1 - self.tested.value)) if self.rows else math.nan
        self.above = float((self.expected > self.threshold).mean()) if self.rows else math.nan

    def probabilities(self, confidence: np.ndarray, statistics: Statistics) -> np.ndarray:
        """(d,) probabilities that decisions of these confidences and inputs are right."""
        return self.map.probabilities(self.map.design(confidence, statistics))

    def estimate(
        self,
        confidence: np.ndarray,
        example: np.ndarray,
        statistics: Statistics | None = None,
        *,
        level: float,
        alpha: float,
    ) -> Estimate | None:
        """The share of right answers among requests.

        The interval is for the share that labels would show on these very requests. It adds up the variance
        of right and wrong given their probabilities, that of the fitted map, and, for shifts under which the
        map may not hold, half the distance to what average thresholded confidence says, as a standard
        deviation, beyond its noise.

        Args:
            confidence: (d,) of the requests' decisions.
            example: (d,) the request of each.
            statistics: (d,) numbers that describe the input of each.
            level: Of the interval.
            alpha: Of the one-sided interval of the drop.

        Returns:
            None without decisions of either.
        """
        held = np.unique(example, return_inverse=True)
        count, codes = len(held[0]), held[1].reshape(-1)
        if not count or not self.rows:
            return None
        design = self.map.design(confidence, statistics or {})
        expected, slope = self._expected(design, codes, count)
        drop = float(self.expected.mean() - expected.mean())
        apart = slope - self.slope
        noise = float(_variance(expected) + _variance(self.expected) + apart @ self.map.covariance @ apart)
        probability = self.map.probabilities(design)
        sizes = np.bincount(codes)[codes]
        binomial = float((probability * (1 - probability) / sizes**2).sum() / count**2)
        value = min(1.0, max(0.0, self.tested.value - drop))
        total = binomial + float(slope @ self.map.covariance @ slope) + self._shift(expected, drop)
        return Estimate(
            "accuracy",
            value,
            _within(value, quantile((1 + level) / 2) * math.sqrt(total)),
            self.tested.value,
            interval_of(self.outcomes, level),
            drop,
            drop - quantile(1 - alpha) * math.sqrt(noise),
            count,
            "difference of calibrated confidences",
        )

    def _expected(self, design: np.ndarray, codes: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows,) expected outcomes, and (k,) how their mean changes with the parameters of the map."""
        probability = self.map.probabilities(design)
        if not rows:
            return np.empty(0), np.zeros(design.shape[1])
        change = [row_means(probability * (1 - probability) * one, codes, rows).mean() for one in design.T]
        return row_means(probability, codes, rows), np.array(change)

    def _shift(self, expected: np.ndarray, drop: float) -> float:
        """A quarter of the square by which thresholded confidence says another drop, beyond its own noise:
        the interval then reaches about as far as that drop."""
        above = float((expected > self.threshold).mean())
        share = self.tested.value
        noise = share * (1 - share) * (1 / len(expected) + 1 / self.rows)
        return max(0.0, (self.above - above - drop) ** 2 - noise) / 4


def count_right(outcomes: np.ndarray, tested: np.ndarray, *, level: float, alpha: float) -> Estimate:
    """The share of right answers from labels, held against the tested one, of which both are uncertain.

    Args:
        outcomes: (n,) of labelled requests, in [0, 1]; n at least 1.
        tested: (m,) of held-out rows; m at least 1.
        level: Of the intervals.
        alpha: Of the one-sided interval of the drop.
    """
    now, then = mean_of(outcomes), mean_of(tested)
    drop = then.value - now.value
    error = math.sqrt(now.variance + then.variance)
    return Estimate(
        "accuracy",
        now.value,
        interval_of(outcomes, level),
        then.value,
        interval_of(tested, level),
        drop,
        drop - quantile(1 - alpha) * error,
        now.n,
        "labels",
        drop + quantile((1 + level) / 2) * error,
    )


def count_errors(errors: np.ndarray, tested: np.ndarray, *, level: float, alpha: float) -> Estimate | None:
    """The mean absolute error from labels, held against the tested one by their ratio.

    The interval of the ratio is that of its logarithm, by the delta method; a Welch test in the log.

    Args:
        errors: (n,) of labelled requests, at least 0; n at least 2.
        tested: (m,) of held-out rows; m at least 2.
        level: Of the intervals.
        alpha: Of the one-sided interval of the growth.

    Returns:
        None where the tested error or the present one is 0, which has no ratio.
    """
    now, then = float(errors.mean()), float(tested.mean())
    if now <= 0 or then <= 0:
        return None
    parts = [float(one.var(ddof=1)) / len(one) for one in (errors, tested)]
    ratio = math.log(now / then)
    error = math.sqrt(parts[0] / now**2 + parts[1] / then**2)
    z = quantile((1 + level) / 2)
    halves = [z * math.sqrt(part) for part in parts]
    return Estimate(
        "absolute error",
        now,
        (max(0.0, now - halves[0]), now + halves[0]),
        then,
        (max(0.0, then - halves[1]), then + halves[1]),
        math.expm1(ratio),
        math.expm1(ratio - quantile(1 - alpha) * error),
        len(errors),
        "labels",
        math.expm1(min(700.0, ratio + z * error)),
    )


def interval_of(outcomes: np.ndarray, level: float) -> Interval:
    """An interval of the mean of numbers in [0, 1]: Wilson's score interval (1927), on as many independent
    rights and wrongs as have this variance."""
    if not len(outcomes):
        return math.nan, math.nan
    share, z = float(outcomes.mean()), quantile((1 + level) / 2)
    spread = float(outcomes.var())
    n = len(outcomes) * (share * (1 - share) / spread if spread > 1e-12 else 1.0)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def quantile(share: float) -> float:
    """Of the standard normal distribution, at most 7 from the middle."""
    from scipy.special import ndtri

    return float(ndtri(min(1 - 1e-12, max(1e-12, share))))


def _variance(values: np.ndarray) -> float:
    """Of the mean of rows."""
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.25


def _within(value: float, half: float) -> Interval:
    return max(0.0, value - half), min(1.0, value + half)
