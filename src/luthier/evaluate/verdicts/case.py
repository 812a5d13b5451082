"""`Case`: all that the rules are told of a run, and the plain facts that several of them ask for. Nothing is
judged here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from luthier.evaluate.baselines import Baseline
from luthier.evaluate.evaluation import Evaluation
from luthier.evaluate.giveaway import Giveaway
from luthier.evaluate.intervals import UNKNOWN, Interval
from luthier.evaluate.noise import Noise
from luthier.evaluate.tables import numbers

FLAT = 0.05
"""A training loss that lost less than this share of its first epoch's has not moved."""
_SURER = 1.5
"""Where several learners are each held against the majority, the distance to the end of the interval counts
this much: 2.9 standard errors, so that not one of ten is above it by chance."""


@dataclass(frozen=True)
class Fit:
    """The chosen model on training rows, without dropout and smoothing.

    Attributes:
        score: Higher is better.
        loss: Mean loss.
        n: Rows that were looked at, a sample.
    """

    score: float
    loss: float
    n: int


@dataclass(frozen=True)
class Found:
    """A finding of the data check.

    Attributes:
        severity: ``error``, ``warning`` or ``info``.
        message: For people.
        kind: Its code, such as ``leak``.
        split: Where it lies; empty where it concerns all.
        share: Of the split's rows.
    """

    severity: str
    message: str
    kind: str = ""
    split: str = ""
    share: float = 0.0


@dataclass(frozen=True)
class Ignored:
    """A class that the model never answers on the test split.

    Attributes:
        name: Its name.
        rows: Test rows of it.
        fair: Its share of the test rows, in units of an even share: below 1 it is rarer than others.
        ranking: Probability that it gets more weight in a row of it than in one of another class (the area
            under the ROC curve), on rows that were not trained on.
        interval: 95% (low, high) of that.
        source: Who gives the weight, for people.
    """

    name: str
    rows: int
    fair: float
    ranking: float
    interval: Interval
    source: str = "The model"


@dataclass
class Case:
    """A run, for the rules.

    Attributes:
        trials: One row a trial, in the store's columns: ``number``, ``score`` (higher is better, NaN for
            none), ``status``, ``reason``, and the recipe's settings.
        epochs: One row an epoch of a trial: ``trial``, ``epoch`` (1-based), ``score``, ``loss`` (validation)
            and ``train_loss``.
        best: Number of the chosen trial.
        metric: Name of the optimised metric.
        maximize: Whether more of it is better.
        majority: Validation score of the most frequent answer, higher is better; NaN where it is not known.
        blank_loss: Loss of a model that knows nothing of the input: the larger of the most frequent answer's
            and that of zero logits.
        evaluation: The chosen model on the test split, with baselines and the curve over data sizes.
        training: The chosen model on training rows, or None.
        findings: Of the data check.
        giveaway: A rule of single words that answers right, or None.
        noise: The share of labels that are likely wrong, or None.
        ignored: Classes that are never answered.
        usual_rates: (low, high) learning rates that are usual for the chosen model and adaptation, or None.
    """

    trials: pd.DataFrame
    epochs: pd.DataFrame
    best: int
    metric: str = "accuracy"
    maximize: bool = True
    majority: float = math.nan
    blank_loss: float = math.nan
    evaluation: Evaluation | None = None
    training: Fit | None = None
    findings: list[Found] = field(default_factory=list)
    giveaway: Giveaway | None = None
    noise: Noise | None = None
    ignored: list[Ignored] = field(default_factory=list)
    usual_rates: tuple[float, float] | None = None

    def curve(self, trial: int | None = None) -> pd.DataFrame:
        """Epochs of a trial in order; of the chosen one if none is named."""
        if not len(self.epochs):
            return self.epochs
        wanted = self.best if trial is None else trial
        return self.epochs[self.epochs["trial"] == wanted].sort_values("epoch")

    def setting(self, name: str, trial: int | None = None) -> object:
        """A setting of a trial's recipe, or None where it is not known."""
        if "number" not in self.trials or name not in self.trials:
            return None
        rows = self.trials.loc[self.trials["number"] == (self.best if trial is None else trial), name]
        return rows.iloc[0] if len(rows) else None

    def figure(self, name: str) -> float:
        """A setting of the chosen trial that is a number; NaN where it is not known."""
        value = self.setting(name)
        return float(value) if isinstance(value, int | float | np.number) else math.nan

    @property
    def rate(self) -> float:
        """The chosen trial's learning rate; NaN where it is not known."""
        return self.figure("learning_rate")

    @cached_property
    def score(self) -> float:
        """The chosen trial's best validation score."""
        scores = numbers(self.curve(), "score")
        if np.isfinite(scores).any():
            return float(np.nanmax(scores))
        return self.figure("score")

    def shown(self, score: float) -> str:
        """The metric's own value for a score, for people."""
        return f"{score if self.maximize else -score:.3f}"

    def skill(self, score: float) -> float:
        """A score on a scale where the most frequent answer is 0 and no error is 1."""
        room = (1.0 if self.maximize else 0.0) - self.majority
        return (score - self.majority) / room if room > 0 else math.nan

    @property
    def deviation(self) -> float:
        """Standard error of the test value, in the metric's unit; NaN where it is not known."""
        low, high = self.evaluation.interval if self.evaluation else UNKNOWN
        return (high - low) / 3.92

    @property
    def cheap(self) -> list[Baseline]:
        """Baselines that learn and take little: not the most frequent answer, nor training from scratch."""
        return [
            one
            for one in (self.evaluation.baselines if self.evaluation else [])
            if not one.name.startswith("Always the") and "scratch" not in one.name
        ]

    @cached_property
    def learnt(self) -> bool | None:
        """Whether the model beats the most frequent answer beyond chance; None where that is not known."""
        for one in self.evaluation.baselines if self.evaluation else []:
            if one.name.startswith("Always the") and one.difference_interval is not None:
                low = one.difference_interval[0]
                if math.isfinite(low):
                    return low > 0
        if not math.isfinite(self.majority) or not math.isfinite(self.score):
            return None
        spread = self.deviation if math.isfinite(self.deviation) else 0.02 * max(1.0, abs(self.majority))
        return self.score > self.majority + 2 * spread

    @cached_property
    def others(self) -> tuple[int, str]:
        """How many other learners were tried, and the best one that clearly beats the most frequent answer,
        with its figure; empty where none does.
        """
        sign = 1.0 if self.maximize else -1.0
        evaluation, found, tried = self.evaluation, [], 0
        if evaluation is None or not math.isfinite(self.majority):
            return 0, ""
        trivial = [b for b in evaluation.baselines if b.name.startswith("Always the")]
        floor = sign * trivial[0].metrics.get(self.metric, math.nan) if trivial else self.majority
        for one in self.cheap:
            value = sign * one.metrics.get(self.metric, math.nan)
            end = sign * one.interval[0 if self.maximize else 1]
            tried += math.isfinite(end)
            if value - _SURER * (value - end) > floor:
                found.append((value, f"“{one.name}” reaches {self.shown(value)} on the test split"))
        sizes = evaluation.sizes
        if sizes is not None and sizes.values:
            value = sign * sizes.values[-1]
            end = sign * (sizes.lows[-1] if self.maximize else sizes.highs[-1])
            tried += math.isfinite(end)
            if value - _SURER * (value - end) > self.majority:
                found.append(
                    (value, f"a linear head on the frozen features reaches {self.shown(value)} on validation")
                )
        return tried, max(found)[1] if found else ""

    @cached_property
    def behind(self) -> Baseline | None:
        """The cheap baseline that beats the model by most, beyond chance; None where none does."""
        beaten = [
            one
            for one in self.cheap
            if one.difference is not None and one.difference_interval and one.difference_interval[1] < 0
        ]
        return min(beaten, key=lambda one: one.difference or 0.0) if beaten else None

    def fall(self, trial: int | None = None) -> float:
        """The share of its first epoch's training loss that a trial lost; NaN for fewer than two epochs."""
        losses = numbers(self.curve(trial), "train_loss")
        losses = losses[np.isfinite(losses)]
        return float((losses[0] - losses[-1]) / losses[0]) if len(losses) > 1 and losses[0] > 0 else math.nan


def difference(baseline: Baseline) -> str:
    """How a model compares with a baseline, in figures."""
    low, high = baseline.difference_interval or UNKNOWN
    value = math.nan if baseline.difference is None else baseline.difference
    return f"{value:+.3f}, 95% interval {low:+.3f} to {high:+.3f}"


def percent(share: float) -> str:
    """A share as whole percents, and as one decimal below ten."""
    return f"{100 * share:.0f}%" if share >= 0.0995 else f"{100 * share:.1f}%"
