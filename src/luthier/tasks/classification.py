"""What tasks with one class an example share: labels, loss, metrics. Inputs are the tasks' own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from scipy.special import log_softmax, softmax

from luthier.errors import DataError
from luthier.tasks.base import Batch, Columns, Decisions, Task
from luthier.tasks.columns import FEW, Target, count_distinct, kind
from luthier.tasks.labels import MISSING, UNSEEN, is_missing, label_text, sort_labels


def cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    label_smoothing: float = 0.0,
    class_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """`torch.nn.functional.cross_entropy` without reduction, zero wherever the target is negative.

    Written without branches on data, so that it can be vectorised over trials.

    Args:
        logits: (..., classes).
        targets: (...) class indices; negative where no loss is counted.
        label_smoothing: Mass moved from the true class to all classes (Szegedy et al. 2016, section 7).
        class_weights: (classes,) or None. A class's weight multiplies its share of the loss.

    Returns:
        (...) losses.
    """
    losses = -torch.log_softmax(logits, dim=-1)
    if class_weights is not None:
        losses = losses * class_weights.to(losses.dtype)
    counted = targets >= 0
    true = losses.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    mixed = (1 - label_smoothing) * true + label_smoothing * losses.mean(dim=-1)
    return torch.where(counted, mixed, torch.zeros_like(mixed))


def cross_entropy_gradient(
    logits: torch.Tensor,
    targets: torch.Tensor,
    label_smoothing: float | torch.Tensor = 0.0,
    class_weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`cross_entropy` and its derivative.

    The loss is sum a_c * -log p_c, where a_c is e * w_c / classes, and (1 - e) * w_c more for the true class.
    So its derivative by a logit is p_c * sum a - a_c.

    Args:
        logits: (..., classes).
        targets: (...) class indices; negative where no loss is counted.
        label_smoothing: e; a tensor broadcasts over the logits.
        class_weights: w; broadcasts over the logits.

    Returns:
        (...) losses, and the derivative of their sum, shaped like ``logits``.
    """
    shares = torch.zeros_like(logits).scatter_(-1, targets.clamp(min=0).unsqueeze(-1), 1.0)
    shares = shares * (1 - label_smoothing) + label_smoothing / logits.shape[-1]
    if class_weights is not None:
        shares = shares * class_weights.to(logits.dtype)
    shares = shares * (targets >= 0).unsqueeze(-1)
    logs = torch.log_softmax(logits, dim=-1)
    slope = logs.exp() * shares.sum(dim=-1, keepdim=True) - shares
    return -(shares * logs).sum(dim=-1), slope


def balanced_weights(classes: np.ndarray, count: int) -> torch.Tensor:
    """(count,) float32 weights n / (classes * count of the class); 1 for a class without examples.

    Args:
        classes: (n,) class indices; negative ones are left out.
        count: Number of classes.
    """
    counts = np.bincount(classes[classes >= 0], minlength=count).astype(np.float64)
    weights = np.where(counts > 0, counts.sum() / (max(count, 1) * np.maximum(counts, 1)), 1.0)
    return torch.tensor(weights, dtype=torch.float32)


def log_prior(classes: np.ndarray, count: int) -> np.ndarray:
    """(count,) float32 log frequencies of classes, each counted once more than it occurs."""
    counts = np.bincount(classes[classes >= 0], minlength=count) + 1.0
    return np.asarray(np.log(counts / counts.sum()), dtype=np.float32)


def mean_f1(true_positive: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> float:
    """Mean F1 over the classes that occur or were predicted; NaN where there are none."""
    seen = (predicted + true) > 0
    return float(np.mean(2 * true_positive[seen] / (predicted + true)[seen])) if seen.any() else float("nan")


def ratio(numerator: float, denominator: float) -> float:
    """A quotient, NaN where the denominator is zero."""
    return float(numerator / denominator) if denominator else float("nan")


def ratios(numerators: np.ndarray, denominators: np.ndarray, empty: float = math.nan) -> np.ndarray:
    """Quotients of arrays of one shape, ``empty`` where the denominator is zero."""
    found = np.full(np.shape(numerators), empty)
    np.divide(numerators, denominators, out=found, where=np.asarray(denominators) != 0)
    return found


def as_table(outputs: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """(n, outputs) from n rows: as `np.stack`, and several times faster for many short ones."""
    if isinstance(outputs, np.ndarray) and outputs.ndim == 2:
        return outputs  # A table already, as where thousands of means are judged.
    return np.concatenate(outputs).reshape(len(outputs), -1)


def claim_classes(frame: pd.DataFrame, target: Target) -> tuple[float, str] | None:
    """How far a column reads as classes: confidence and reason, or None where it cannot.

    A whole-number column of few values may be classes or a rating; it is read as classes, and the reason says
    so.
    """
    column = frame[target.name]
    what = kind(column)
    if what in ("list", "image", "other"):
        return None
    distinct, rows = count_distinct(column)
    said = f"{target.why}; it has {distinct} distinct values in {rows} rows"
    if what == "empty":
        return 0.2, said
    if what == "float":
        return 0.1, f"{said}, but they are measurements rather than classes"
    if what == "integer":
        if distinct <= FEW:
            ambiguous = distinct > 2 and pd.to_numeric(column, errors="coerce").max() > distinct - 1
            return (0.7 if ambiguous else 0.8), (
                f"{said}, whole numbers: read as classes (if they are a scale, ask for text-regression)"
                if ambiguous
                else f"{said}: read as classes"
            )
        return 0.2, f"{said}: many whole numbers, a quantity rather than classes"
    if distinct <= 1 or 2 * distinct <= rows or (distinct <= FEW and distinct < rows):
        return 0.8, f"{said}: classes"
    return (0.3, f"{said}: hardly any repeats") if target.given else None


class SingleLabel(Task):
    """A task whose answer is one of several classes.

    Statistics of an example: counted, right, loss, loss counted, then for each class true positives,
    predictions, truths. A label that training never saw counts as an error and has no loss; a missing label
    counts as nothing.
    """

    target_kind = "class"
    problem_type: ClassVar[str | None] = "single_label_classification"
    metric: ClassVar[str] = "accuracy"

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self._labels: list[str] = []
        self._index: dict[str, int] = {}

    def _set_labels(self, labels: list[str]) -> None:
        self._labels = labels
        self._index = {name: index for index, name in enumerate(labels)}

    def fit(self, frame: pd.DataFrame) -> None:
        """Learns the label names, sorted.

        Raises:
            DataError: All labels are missing, or all are the same, or a cell holds a list.
        """
        names = [label_text(value) for value in frame[self.target]]
        labels = sort_labels(name for name in names if name is not None)
        if not labels:
            raise DataError(
                f"All {len(frame)} labels in column {self.target!r} are missing.",
                "Name another target column.",
            )
        if len(labels) == 1:
            raise DataError(
                f"Column {self.target!r} has one class only, {labels[0]!r}: there is nothing to tell apart.",
                "Add rows of another class, or name another target column.",
            )
        self._set_labels(labels)

    def state(self) -> dict[str, Any]:
        """Columns and labels."""
        return {"roles": self.columns.roles, "labels": self._labels}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """A fitted task."""
        task = cls(Columns(dict(state["roles"])))
        task._set_labels([str(name) for name in state["labels"]])
        return task

    @property
    def label_names(self) -> list[str]:
        """Names of the classes."""
        return list(self._labels)

    def strata(self, frame: pd.DataFrame) -> np.ndarray | None:
        """(n,) a number for each class as the rows have it, -1 where missing; needs no fit."""
        names = [label_text(value) for value in frame[self.target]]
        return np.asarray(pd.factorize(pd.Series(names, dtype=object))[0])

    def classes(self, frame: pd.DataFrame) -> np.ndarray:
        """(n,) int64 class indices; -1 for labels training never saw, -100 for missing ones."""
        if self.target not in frame.columns:
            return np.full(len(frame), MISSING, dtype=np.int64)
        return np.array(
            [
                MISSING if is_missing(v) else self._index.get(str(label_text(v)), UNSEEN)
                for v in frame[self.target]
            ],
            dtype=np.int64,
        )

    def targets(self, frame: pd.DataFrame) -> list[np.ndarray]:
        """0-d int64 arrays: the class, -1 for one training never saw, -100 where missing."""
        return [np.asarray(value) for value in self.classes(frame)]

    def loss(
        self, logits: torch.Tensor, targets: torch.Tensor, *, label_smoothing: float = 0.0,
        class_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """(batch,) cross-entropy; zero where the target is negative."""
        return cross_entropy(logits, targets, label_smoothing, class_weights)

    def gradient(
        self, logits: torch.Tensor, targets: torch.Tensor, *, label_smoothing: float | torch.Tensor = 0.0,
        class_weights: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """In closed form."""
        return cross_entropy_gradient(logits, targets, label_smoothing, class_weights)

    def class_weights(self, targets: list[np.ndarray]) -> torch.Tensor | None:
        """(classes,) n / (classes * count)."""
        return balanced_weights(np.asarray(targets, dtype=np.int64), self.num_outputs)

    def outputs(self, logits: torch.Tensor, batch: Batch) -> list[np.ndarray]:
        """(classes,) logits of each example."""
        return list(logits.detach().cpu().numpy())

    def statistics(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
        """(n, 4 + 3 classes); see the class."""
        count, classes = len(targets), self.num_outputs
        sums = np.zeros((count, 4 + 3 * classes))
        if not count:
            return sums
        true, predicted = np.asarray(targets, dtype=np.int64), np.argmax(as_table(outputs), axis=1)
        rows = np.arange(count)
        answered, known, right = true != MISSING, true >= 0, true == predicted
        losses = self.example_losses(outputs, targets)
        sums[:, 0], sums[:, 1] = answered, right
        sums[:, 2], sums[:, 3] = np.where(known, losses, 0.0), known
        sums[rows[right], 4 + predicted[right]] = 1
        sums[rows[answered], 4 + classes + predicted[answered]] = 1
        sums[rows[known], 4 + 2 * classes + true[known]] = 1
        return sums

    def score_statistics(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
        """(n, 2) counted and right, where the objective is the accuracy."""
        if self.metric != "accuracy":
            return super().score_statistics(outputs, targets)
        if not len(targets):
            return np.zeros((0, 2))
        true = np.asarray(targets, dtype=np.int64)
        return np.stack([true != MISSING, true == np.argmax(as_table(outputs), axis=1)], axis=1).astype(float)

    def scores(self, totals: np.ndarray) -> np.ndarray:
        """Shares of right answers."""
        return ratios(totals[..., 1], totals[..., 0]) if self.metric == "accuracy" else super().scores(totals)

    def summarise(self, totals: np.ndarray) -> dict[str, float]:
        """``accuracy``, ``macro_f1`` over classes that occur or were predicted, ``loss``."""
        count, right, loss, known = totals[:4]
        return {
            "accuracy": ratio(right, count),
            "macro_f1": mean_f1(*totals[4:].reshape(3, -1)),
            "loss": ratio(loss, known),
        }

    def decode(
        self, outputs: Sequence[np.ndarray], frame: pd.DataFrame | None = None
    ) -> list[dict[str, Any]]:
        """``label``, its probability as ``confidence``, and all ``probabilities`` by name."""
        if not len(outputs):
            return []
        decoded = []
        for shares in softmax(as_table(outputs).astype(np.float64), axis=1):
            best = int(np.argmax(shares))
            probabilities = {name: float(share) for name, share in zip(self._labels, shares, strict=True)}
            decoded.append(
                {
                    "label": self._labels[best],
                    "confidence": float(shares[best]),
                    "probabilities": probabilities,
                }
            )
        return decoded

    def confusion(
        self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]
    ) -> tuple[list[str], np.ndarray] | None:
        """Counts by (true, predicted) class; rows whose label is missing or unseen are left out."""
        counts = np.zeros((self.num_outputs, self.num_outputs), dtype=np.int64)
        for output, target in zip(outputs, targets, strict=True):
            if target >= 0:
                counts[int(target), int(np.argmax(output))] += 1
        return self.label_names, counts

    def example_losses(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
        """(n,) cross-entropy, NaN where the label is missing or unseen."""
        if not len(targets):
            return np.empty(0)
        true = np.asarray(targets, dtype=np.int64)
        scores = log_softmax(as_table(outputs).astype(np.float64), axis=1)
        return np.where(true >= 0, -scores[np.arange(len(true)), np.maximum(true, 0)], np.nan)

    def decisions(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> Decisions | None:
        """The likeliest class of each example with a label."""
        true = np.asarray(targets, dtype=np.int64)
        judged = np.flatnonzero(true != MISSING)
        if not len(judged):
            return Decisions(np.empty(0), np.empty(0, dtype=bool), judged)
        shares = softmax(as_table([outputs[i] for i in judged.tolist()]).astype(np.float64), axis=1)
        return Decisions(shares.max(axis=1), shares.argmax(axis=1) == true[judged], judged)

    def hits(
        self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]
    ) -> tuple[list[str], np.ndarray, np.ndarray] | None:
        """By class."""
        right, _, true = np.split(self.statistics(outputs, targets)[:, 4:], 3, axis=1)
        return self.label_names, right, true

    def vote(self, targets: Sequence[np.ndarray], near: np.ndarray) -> list[np.ndarray] | None:
        """Log shares of the neighbours' classes, with the training frequencies counted as one neighbour
        more."""
        classes = np.asarray(targets, dtype=np.int64)
        prior = np.exp(log_prior(classes, self.num_outputs).astype(np.float64))
        votes = (classes[near][:, :, None] == np.arange(self.num_outputs)).sum(axis=1) + prior
        return list(np.log(votes / votes.sum(axis=1, keepdims=True)).astype(np.float32))

    def majority(self, train: Sequence[np.ndarray], like: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Log frequencies of the classes in ``train``, for every row."""
        prior = log_prior(np.asarray(train, dtype=np.int64), self.num_outputs)
        return [prior.copy() for _ in like]
