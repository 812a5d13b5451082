"""A few plain sentences about a run, each from one small rule over its curves and results, with the evidence
in it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from luthier.evaluate.evaluation import Evaluation
from luthier.evaluate.tables import numbers

GAP = 0.5
"""Overfitting is spoken of where training loss is below this share of validation loss."""
RISE = 0.05
"""A validation loss has risen when it ends at least this share above its lowest."""
SLOW = 0.97
"""Underfitting is spoken of where the training loss is not below this share of its first epoch's."""
NEAR = 0.02
"""A score this close to the majority's says that nothing was learnt."""


def diagnose(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    *,
    best: int,
    majority_score: float | None = None,
    evaluation: Evaluation | None = None,
) -> list[str]:
    """What the curves and results say, the gravest first; empty where nothing stands out.

    Args:
        trials: One row a trial, in the store's columns: ``score`` (higher is better, NaN for none),
            ``status`` and ``reason``.
        epochs: One row an epoch of a trial: ``trial``, ``epoch`` (1-based), ``score``, ``loss`` (validation)
            and ``train_loss``.
        best: Number of the chosen trial.
        majority_score: Validation score of the most frequent answer, in the sense of ``score``.
        evaluation: The chosen model on the test split, with its baselines.
    """
    curve = epochs[epochs["trial"] == best].sort_values("epoch") if len(epochs) else epochs
    findings: Iterable[str | None] = (
        all_near_majority(trials, majority_score),
        *not_better_than(evaluation),
        failures(trials),
        loss_rose(curve),
        overfitting(curve),
        underfitting(curve),
        still_improving(curve),
        chosen_by_luck(trials, evaluation),
    )
    return [finding for finding in findings if finding]


def all_near_majority(trials: pd.DataFrame, majority_score: float | None) -> str | None:
    """The target may not be learnable: three trials or more, none clearly above the most frequent answer."""
    scores = numbers(trials, "score")
    scores = scores[np.isfinite(scores)]
    if (
        majority_score is None
        or len(scores) < 3
        or scores.max() > majority_score + NEAR * max(1.0, abs(majority_score))
    ):
        return None
    return (
        f"None of {len(scores)} trials did clearly better than always giving the most frequent answer "
        f"(best {scores.max():.3f}, most frequent answer {majority_score:.3f}). The target may not be "
        "learnable from these inputs: look at whether the labels are right and whether a person could "
        "tell them from the input."
    )


def not_better_than(evaluation: Evaluation | None) -> list[str]:
    """Baselines that the model does not beat beyond chance: the interval of the paired difference reaches
    zero."""
    sentences = []
    for baseline in evaluation.baselines if evaluation else []:
        if baseline.difference is None or baseline.difference_interval is None:
            continue
        low, high = baseline.difference_interval
        if math.isnan(low) or low > 0:
            continue
        verdict = "is worse than" if high < 0 else "is not clearly better than"
        sentences.append(
            f"On the test split the model {verdict} the baseline “{baseline.name}”, which took "
            f"{baseline.seconds:.3g} s (difference {baseline.difference:+.3f}, 95% interval {low:+.3f} to "
            f"{high:+.3f})."
        )
    return sentences


def failures(trials: pd.DataFrame) -> str | None:
    """Many trials failed: a third or more, with the most frequent reason."""
    failed = trials[trials["status"] == "failed"] if "status" in trials else trials[:0]
    if not len(failed) or len(failed) * 3 < len(trials):
        return None
    reasons = failed["reason"].value_counts() if "reason" in failed else pd.Series(dtype=int)
    most = f" Most frequent reason: {reasons.index[0]} ({reasons.iloc[0]}×)." if len(reasons) else ""
    return f"{len(failed)} of {len(trials)} trials failed.{most}"


def loss_rose(curve: pd.DataFrame) -> str | None:
    """Validation loss rose from some epoch on while training loss fell: from there on the training data was
    memorised."""
    loss, train = numbers(curve, "loss"), numbers(curve, "train_loss")
    if len(loss) < 3 or not np.isfinite(loss).all() or not np.isfinite(train).all():
        return None
    lowest = int(loss.argmin())
    if lowest == len(loss) - 1 or loss[-1] < loss[lowest] * (1 + RISE) or train[-1] >= train[lowest]:
        return None
    epoch = int(curve["epoch"].iloc[lowest])
    return (
        f"In the chosen trial the validation loss rose after epoch {epoch} ({loss[lowest]:.3g} to "
        f"{loss[-1]:.3g}) while the training loss went on falling ({train[lowest]:.3g} to "
        f"{train[-1]:.3g}): beyond that epoch it learnt the training data by heart. The best epoch by "
        "score was restored."
    )


def overfitting(curve: pd.DataFrame) -> str | None:
    """At the best epoch the training loss is less than half of the validation loss."""
    at = _best_epoch(curve)
    if at is None:
        return None
    train, loss = numbers(curve, "train_loss")[at], numbers(curve, "loss")[at]
    if not (math.isfinite(train) and math.isfinite(loss)) or train >= GAP * loss:
        return None
    return (
        f"At its best epoch the chosen trial's training loss is {train:.3g} and its validation loss "
        f"{loss:.3g}: it knows the training data far better than new data. More data, a stronger "
        "regularisation, or training fewer layers may help."
    )


def underfitting(curve: pd.DataFrame) -> str | None:
    """The training loss hardly fell over two epochs or more: the model is not learning."""
    train = numbers(curve, "train_loss")
    if len(train) < 2 or not np.isfinite(train).all() or train[-1] < SLOW * train[0]:
        return None
    return (
        f"The chosen trial's training loss hardly fell ({train[0]:.3g} to {train[-1]:.3g} in {len(train)} "
        "epochs): a higher learning rate, training more layers, or more epochs may help."
    )


def still_improving(curve: pd.DataFrame) -> str | None:
    """The last epoch was the best of two or more, and better than the one before."""
    scores = numbers(curve, "score")
    at = _best_epoch(curve)
    if at is None or len(scores) < 2 or at != len(scores) - 1 or not scores[-1] > scores[-2]:
        return None
    return (
        f"The chosen trial was at its best in its last epoch ({len(scores)}; {scores[-2]:.3f} before, "
        f"{scores[-1]:.3f} then): more epochs may help."
    )


def chosen_by_luck(trials: pd.DataFrame, evaluation: Evaluation | None) -> str | None:
    """The chosen trial's validation score lies outside the test interval: the best of many is partly luck."""
    scores = numbers(trials, "score")
    scores = scores[np.isfinite(scores)]
    if evaluation is None or len(scores) < 2:
        return None
    sign = 1 if evaluation.maximize else -1
    low, high = evaluation.interval
    best = sign * scores.max()
    if math.isnan(low) or (best <= high if evaluation.maximize else best >= low):
        return None
    return (
        f"The best of {len(scores)} trials scored {best:.3f} on validation, outside the test interval "
        f"({low:.3f} to {high:.3f}): the best of many is partly luck, or the splits differ. "
        "Trust the test figure."
    )


def _best_epoch(curve: pd.DataFrame) -> int | None:
    """Position of the best score, or None where there is none."""
    scores = numbers(curve, "score")
    return int(np.nanargmax(scores)) if np.isfinite(scores).any() else None
