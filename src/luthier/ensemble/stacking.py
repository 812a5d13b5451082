"""Stacking: a small model on what several networks say, fitted to validation rows.

`Stacked` is how their outputs become one; `stacking` fits it. The networks stay as they are.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from luthier.ensemble.base import Candidate, Combination, Outputs
from luthier.ensemble.pool import padded, reads
from luthier.ensemble.ways import Context
from luthier.evaluate.intervals import unit_codes
from luthier.tasks.base import Task

FOLDS = 5
# Strengths of the pull towards the plain average, in rows; the one with the lowest loss out of fold is taken.
STRENGTHS = (1.0, 10.0, 100.0)
# Fewer rows than this say nothing of which network to trust.
FEWEST = 20
ITERATIONS = 100


@dataclass(frozen=True)
class Stacked(Combination):
    """A weighted sum of the parts' log-probabilities (log-odds, numbers), and a constant for each output.

    The weights are not negative and need not sum to 1: their sum sharpens or softens what is said.

    Attributes:
        weights: One a part.
        bias: One an output.
    """

    weights: tuple[float, ...]
    bias: tuple[float, ...]
    kind: ClassVar[str] = "stacked"

    def outputs(self, task: Task, parts: Sequence[Outputs]) -> list[np.ndarray]:
        """n float64 arrays. Of a word that only some parts read, these speak for all."""
        table = _Table(task, parts)
        found = table.mixed(np.asarray(self.weights), np.asarray(self.bias))
        return table.cut(found)

    def state(self) -> dict[str, Any]:
        """Weights and constants."""
        return {"weights": list(self.weights), "bias": list(self.bias)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Stacked:
        """From weights and constants."""
        weights, bias = ([float(value) for value in state[name]] for name in ("weights", "bias"))
        return cls(tuple(weights), tuple(bias))


class _Table:
    """Parts' outputs as one array (parts, rows, outputs) of log-probabilities; for tagging a row is a
    word."""

    def __init__(self, task: Task, parts: Sequence[Outputs]) -> None:
        self.task = task
        # The mean of one network is what it says, in the form that means are given in.
        plain = [task.blend([part], [1.0]) for part in parts]
        if task.level == "token":
            sizes = np.array([[len(output) for output in part] for part in plain])
            self.lengths = sizes.max(axis=0)
            self.values = np.stack([padded(part, self.lengths, np.float64) for part in plain])
            self.read = np.stack([reads(own, self.lengths) for own in sizes]).astype(np.float64)
        else:
            self.lengths = np.ones(len(plain[0]), dtype=np.int64)
            self.values = np.stack([np.stack(part) for part in plain]).astype(np.float64)
            self.read = np.ones(self.values.shape[:2])

    def mixed(self, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """(rows, outputs)."""
        return np.asarray(np.tensordot(weights, self.values, axes=1) * self.rescaled(weights)[:, None] + bias)

    def rescaled(self, weights: np.ndarray) -> np.ndarray:
        """(rows,) what a row's sum is multiplied by, since only those that read it add to it."""
        spoken = weights @ self.read
        return np.asarray(np.where(spoken > 0, weights.sum() / np.where(spoken > 0, spoken, 1.0), 1.0))

    def cut(self, rows: np.ndarray) -> list[np.ndarray]:
        """One array an example."""
        return np.split(rows, np.cumsum(self.lengths)[:-1]) if self.task.level == "token" else list(rows)


class _Fit:
    """Fits weights and constants by the task's own loss.

    Args:
        table: What the parts say.
        targets: n true answers.
    """

    def __init__(self, table: _Table, targets: Sequence[np.ndarray]) -> None:
        self.table = table
        outputs = table.values.shape[2]
        if table.task.level == "token":
            # A word is an example of its own.
            cut = [np.asarray(one)[:size] for one, size in zip(targets, table.lengths, strict=True)]
            answers = np.concatenate(cut)[:, None]
        else:
            # What training never saw stands behind the outputs.
            answers = np.stack([np.asarray(one)[:outputs] if np.ndim(one) else one for one in targets])
        self.answers = torch.as_tensor(answers)

    def loss(self, weights: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(rows,) losses, and their slopes (rows, outputs)."""
        logits = torch.as_tensor(self.table.mixed(weights, bias))
        token = self.table.task.level == "token"
        losses, slopes = self.table.task.gradient(logits[:, None] if token else logits, self.answers)
        return losses.numpy(), (slopes[:, 0] if token else slopes).numpy()

    def fit(self, counts: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
        """Weights and constants with the lowest mean loss, pulled towards the plain average.

        Args:
            counts: (n,) how often each example counts.
            strength: Of the pull, in rows.
        """
        from scipy.optimize import minimize

        parts, _, width = self.table.values.shape
        shares = np.repeat(np.asarray(counts, dtype=np.float64), self.table.lengths)
        total = max(shares.sum(), 1.0)

        def objective(point: np.ndarray) -> tuple[float, np.ndarray]:
            weights, bias = point[:parts], point[parts:]
            losses, slopes = self.loss(weights, bias)
            off = weights - 1 / parts
            value = shares @ losses / total + strength / total * (parts * off @ off + bias @ bias)
            pulled = slopes * (shares * self.table.rescaled(weights))[:, None]
            # How a row that not all have read is rescaled is held fast, which changes the slope of few words.
            by_weight = np.tensordot(self.table.values, pulled, axes=([1, 2], [0, 1]))
            by_bias = shares @ slopes
            slope = np.concatenate([by_weight / total, by_bias / total])
            slope += strength / total * np.concatenate([2 * parts * off, 2 * bias])
            return float(value), slope

        start = np.concatenate([np.full(parts, 1 / parts), np.zeros(width)])
        bounds = [(0.0, None)] * parts + [(None, None)] * width
        found = minimize(
            objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": ITERATIONS}
        ).x
        return found[:parts], found[parts:]


def stacking(context: Context) -> Candidate | None:
    """A regularised meta-model on the best trials' log-probabilities (Wolpert 1992; weights not negative, as
    Breiman 1996 found best).

    It has one weight a trial and one constant an output, fitted by the task's loss and pulled towards the
    plain average. How strongly is chosen by cross-fitting, and the validation outputs are those of
    cross-fitting too: each row's is by a model that was not fitted to it. Rows of a group are never on both
    sides.

    Args:
        context: Its best trials are combined, `Context.parts` of them at most.

    Returns:
        The ensemble; None where there are too few rows to fit anything, or no outputs.
    """
    started = time.perf_counter()
    ordered = sorted(context.pool, key=lambda each: (-each[0].score, each[0].loss, each[0].trial))
    used = ordered[: context.parts]
    units = unit_codes(len(context.targets), context.groups)
    if not used or len(units) < FEWEST or len(set(units.tolist())) < FOLDS:
        context.say(f"There is nothing to stack: {len(used)} trials with outputs of {len(units)} rows.")
        return None
    task = context.task
    table = _Table(task, [outputs for _, outputs in used])
    fit = _Fit(table, context.targets)
    folds = _folds(units, context.seed)
    tried: list[tuple[float, float, list[np.ndarray]]] = []
    for strength in STRENGTHS:
        if tried and context.over():
            break
        found = _out_of_fold(fit, folds, strength)
        losses = task.example_losses(found, context.targets)
        tried.append((float(np.nanmean(losses)), strength, found))
    _, strength, validation = min(tried, key=lambda each: each[0])
    weights, bias = fit.fit(np.ones(len(units)), strength)
    kept = np.flatnonzero(weights > 0)
    if not len(kept):
        context.say("Stacking gives no trial a weight: the answers do not depend on what they say.")
        return None

    def refit(counts: np.ndarray) -> list[np.ndarray]:
        return table.cut(table.mixed(*fit.fit(counts, strength)))

    return Candidate(
        "stacking",
        [context.part(used[at][0]) for at in kept],
        Stacked(tuple(weights[kept].tolist()), tuple(bias.tolist())),
        validation,
        seconds=time.perf_counter() - started,
        note=f"A regularised model on the outputs of {len(used)} trials, fitted to validation rows.",
        refit=refit,
    )


def _folds(units: np.ndarray, seed: int) -> np.ndarray:
    """(n,) the fold of each row, the same for rows of one unit."""
    count = int(units.max()) + 1
    own = np.random.default_rng(seed).permutation(count) % FOLDS
    return np.asarray(own[units])


def _out_of_fold(fit: _Fit, folds: np.ndarray, strength: float) -> list[np.ndarray]:
    """What is said of each row by a model fitted to the other folds."""
    found: list[np.ndarray] = [np.empty(0)] * len(folds)
    for fold in range(FOLDS):
        apart = folds == fold
        said = fit.table.cut(fit.table.mixed(*fit.fit((~apart).astype(np.float64), strength)))
        for at in np.flatnonzero(apart):
            found[at] = said[at]
    return found
