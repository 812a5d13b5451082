"""How probable it is that an answer is right, by its confidence and, where it matters, its input.

What is made of these probabilities lives in `luthier.monitor.performance`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from luthier.monitor.views import EDGE

STEPS = 50
KNOWN = 0.8
"""Share of decisions that must have a statistic for it to be looked at."""
TRUST = (1.0, 4.0)
"""Precision of the belief that confidences are right as they are: that the intercept is 0 and the slope 1."""
DOUBT = 4.0
"""Precision of the belief that a statistic of the input changes neither."""

Statistics = Mapping[str, np.ndarray]


class Rightness:
    """A logistic regression of right and wrong on the log-odds of the confidence (Platt 1999).

    A network may be as sure of short texts as of long ones and be right less often; then a stream of short
    ones is worse than its confidence says. So intercept and slope may change with a statistic of the input,
    if that gains more likelihood than its two parameters do by chance (Schwarz 1978). Beyond the middle 90%
    of the reference a statistic counts as at its end: nothing is known from there on.

    Args:
        confidence: (d,) of the reference's decisions.
        right: (d,) 0 or 1.
        rows: (d,) the row of each, from 0; decisions of one are dependent.
        statistics: (d,) numbers that describe the input of each decision, by name; NaN where one is not
            known.

    Attributes:
        parameters: (k,) intercept, slope, and for each statistic in `scales` what it adds to both.
        covariance: (k, k) of them.
        scales: Mean, spread, lowest and highest value of the statistics that matter.
    """

    def __init__(
        self,
        confidence: np.ndarray,
        right: np.ndarray,
        rows: np.ndarray,
        statistics: Statistics | None = None,
    ) -> None:
        self.scales: dict[str, tuple[float, float, float, float]] = {}
        count = int(rows.max(initial=-1)) + 1
        design = self.design(confidence, {})
        self.parameters, loss = _fit(design, right)
        for name, values in sorted((statistics or {}).items()):
            scale = _scale(values)
            if scale is None:
                continue
            self.scales[name] = scale
            wider = self.design(confidence, statistics or {})
            parameters, less = _fit(wider, right)
            if loss - less > np.log(max(count, 2)):
                self.parameters, loss, design = parameters, less, wider
            else:
                del self.scales[name]
        self.covariance = _covariance(design, right, rows, count, self.parameters)

    def design(self, confidence: np.ndarray, statistics: Statistics) -> np.ndarray:
        """(d, k) what the parameters are multiplied with; a statistic that is not known counts as average."""
        odds = log_odds(confidence)
        columns = [np.ones_like(odds), odds]
        for name, (mean, spread, low, high) in self.scales.items():
            values = np.asarray(statistics.get(name, np.full(len(odds), mean)), dtype=np.float64)
            scaled = (np.clip(np.where(np.isfinite(values), values, mean), low, high) - mean) / spread
            columns += [scaled, scaled * odds]
        return np.stack(columns, axis=1)

    def probabilities(self, design: np.ndarray) -> np.ndarray:
        """(d,) probabilities of being right."""
        return logistic(design @ self.parameters)


def log_odds(confidence: np.ndarray) -> np.ndarray:
    """Of confidences, which are kept off 0 and 1."""
    inside = np.clip(np.asarray(confidence, dtype=np.float64), EDGE, 1 - EDGE)
    return np.asarray(np.log(inside / (1 - inside)))


def logistic(values: np.ndarray) -> np.ndarray:
    """The probability of log-odds."""
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -60, 60))))


def _scale(values: np.ndarray) -> tuple[float, float, float, float] | None:
    """Mean, spread and ends of a statistic; None where too few are known or all are the same."""
    known = np.isfinite(values)
    if not known.any() or known.mean() < KNOWN:
        return None
    low, high = (float(one) for one in np.quantile(values[known], [0.05, 0.95]))
    inside = np.clip(values[known], low, high)
    spread = float(inside.std())
    return (float(inside.mean()), spread, low, high) if spread > 1e-12 else None


def _beliefs(width: int) -> tuple[np.ndarray, np.ndarray]:
    """(width,) believed values of the parameters, and the precision of that."""
    believed, precision = np.zeros(width), np.full(width, DOUBT)
    believed[1], precision[:2] = 1.0, TRUST
    return believed, precision


def _fit(design: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, float]:
    """The parameters by Newton's method, and the loss that they leave."""
    believed, precision = _beliefs(design.shape[1])
    fitted = believed.copy()
    for _ in range(STEPS):
        probability = logistic(design @ fitted)
        bend = (design.T * (probability * (1 - probability))) @ design + np.diag(precision)
        step = np.linalg.solve(bend, design.T @ (right - probability) - precision * (fitted - believed))
        fitted += step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-9:
            break
    margin = design @ fitted
    return fitted, float((np.logaddexp(0, margin) - right * margin).sum())


def _covariance(
    design: np.ndarray, right: np.ndarray, rows: np.ndarray, count: int, fitted: np.ndarray
) -> np.ndarray:
    """Of the parameters, counting decisions of one row as dependent (the sandwich of Liang & Zeger 1986)."""
    probability = logistic(design @ fitted)
    precision = np.diag(_beliefs(design.shape[1])[1])
    inverse = np.linalg.inv((design.T * (probability * (1 - probability))) @ design + precision)
    scores = np.zeros((count, design.shape[1]))
    np.add.at(scores, rows, (right - probability)[:, None] * design)
    return np.asarray(inverse @ (scores.T @ scores + precision) @ inverse)
