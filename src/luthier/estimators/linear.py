"""Linear heads on feature arrays: the penalty chosen on rows held out, both losses solved to their minimum.

No steps and no batches here: those of the engine would make a row of weight two differ from two rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize

from luthier.tasks.classification import cross_entropy_gradient

STRENGTHS = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Penalties that are tried. Features are standardised and losses are means, so these suit any data."""
USUAL = 1e-2
"""The penalty where there are too few rows to choose by."""
FOLDS = 5
# Beyond so many products a pass over the rows, one fold is enough to tell penalties apart.
MANY = 2e7
# Largest slope left along any axis: of what is kept, and of what only has to be ranked.
EXACT, ROUGH = 1e-9, 1e-4
STEPS = 1000


@dataclass(frozen=True)
class LinearHead:
    """A trained head.

    Attributes:
        weight: (features, outputs) float64, for features as they come.
        bias: (outputs,).
        l2: The penalty it was trained with.
    """

    weight: np.ndarray
    bias: np.ndarray
    l2: float

    def outputs(self, rows: np.ndarray) -> np.ndarray:
        """(n, outputs) logits, or values, for (n, features)."""
        return np.asarray(rows @ self.weight + self.bias)


@dataclass(frozen=True)
class Rows:
    """Distinct rows in an order of their own, with what each of them counts.

    Attributes:
        values: (n, features) float64.
        targets: (n,) class indices or values.
        weights: (n,) greater than zero.
        kin: (n,) int; rows of equal numbers stay on one side when some are held out.
    """

    values: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    kin: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def where(self, chosen: np.ndarray) -> Rows:
        """Those that a mask (n,) chooses."""
        return Rows(self.values[chosen], self.targets[chosen], self.weights[chosen], self.kin[chosen])


def distinct(
    values: np.ndarray, targets: np.ndarray, weights: np.ndarray, groups: np.ndarray | None = None
) -> Rows:
    """Equal rows as one, of the weight that they have together.

    What is learnt from the result cannot depend on the order of rows, nor on whether a row stands there twice
    or has twice the weight.

    Args:
        values: (n, features).
        targets: (n,).
        weights: (n,) above zero.
        groups: (n,) keys of rows that belong together; None: rows with equal features do.
    """
    if groups is None:
        kin = _numbers(values)[1]
    else:
        kin = np.unique(groups, return_inverse=True)[1].ravel()
    first, number = _numbers(np.column_stack([values, targets, kin]))
    sums = np.bincount(number, weights=weights)
    return Rows(values[first], targets[first], sums, kin[first])


def train(rows: Rows, *, classes: int | None, l2: float | None, seed: int) -> LinearHead:
    """The head that fits the rows best, with the penalty that does best on held-out ones.

    Args:
        rows: To learn from.
        classes: Their number; None: targets are values.
        l2: Penalty on half the squares of the weights for standardised features, beside the mean loss;
            None: chosen among `STRENGTHS`.
        seed: Decides which rows are held out together.
    """
    solve = _ridge if classes is None else _logistic(classes)
    if l2 is None:
        l2 = choose(rows, solve, classes=classes, seed=seed)
    return solve(rows, [l2], EXACT)[0]


Solve = Callable[[Rows, Sequence[float], float], list[LinearHead]]


def choose(rows: Rows, solve: Solve, *, classes: int | None, seed: int) -> float:
    """The penalty of the least loss on rows that were held out, the strongest of equal ones.

    Args:
        rows: To learn from.
        solve: Gives a head for each penalty, up to a slope.
        classes: As in `train`.
        seed: Of the folds.
    """
    places = folds(rows, classes is not None, seed)
    losses = np.zeros(len(STRENGTHS))
    large = rows.values.size * (classes or 1) > MANY
    for fold in range(1 if large else FOLDS):
        held = places == fold
        if held.any() and not held.all():
            heads = solve(rows.where(~held), STRENGTHS, ROUGH)
            losses += [_loss(head, rows.where(held), classes) for head in heads]
    return STRENGTHS[int(np.argmin(losses))] if losses.any() else USUAL


def folds(rows: Rows, stratified: bool, seed: int) -> np.ndarray:
    """(n,) the fold that a row is held out in, -1 for rows that are always learnt from.

    Kin share a fold. Where targets are classes, each is spread over the folds, and one that would be held out
    as a whole stays.
    """
    _, first, kin = np.unique(rows.kin, return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(first))
    if stratified:
        order = order[np.argsort(rows.targets[first][order], kind="stable")]
    place = np.empty(len(first), dtype=np.int64)
    place[order] = np.arange(len(first)) % FOLDS
    found = place[kin]
    for target in np.unique(rows.targets) if stratified else []:
        own = rows.targets == target
        if (found[own] == found[own][0]).all():
            found[np.isin(rows.kin, rows.kin[own])] = -1
    return found


def _loss(head: LinearHead, rows: Rows, classes: int | None) -> float:
    """Sum of the losses of rows, each times its weight."""
    outputs = head.outputs(rows.values)
    if classes is None:
        return float(rows.weights @ (outputs[:, 0] - rows.targets) ** 2)
    losses, _ = cross_entropy_gradient(torch.from_numpy(outputs), _indices(rows.targets))
    return float(rows.weights @ losses.numpy())


@dataclass(frozen=True)
class _Axes:
    """Rows standardised and turned into their principal axes, where features no longer depend on each other.

    Attributes:
        mean: (features,) weighted.
        scale: (features,) weighted standard deviations, 1 where a feature is constant.
        turn: (features, axes) orthonormal columns.
        rows: (n, axes).
        variance: (axes,) of the rows, weighted.
        share: (n,) of the whole weight.
    """

    mean: np.ndarray
    scale: np.ndarray
    turn: np.ndarray
    rows: np.ndarray
    variance: np.ndarray
    share: np.ndarray

    @classmethod
    def of(cls, rows: Rows) -> _Axes:
        share = rows.weights / rows.weights.sum()
        mean = share @ rows.values
        centred = rows.values - mean
        deviation = np.sqrt(share @ centred**2)
        # Rounding alone leaves constant columns this much.
        constant = deviation <= 100 * np.finfo(np.float64).eps * np.abs(mean)
        scale = np.where(constant, 1.0, deviation)
        centred[:, constant] = 0.0
        centred /= scale
        weighted = np.sqrt(share)[:, None] * centred
        if len(weighted) > weighted.shape[1]:
            weighted = np.linalg.qr(weighted, mode="r")
        _, lengths, axes = np.linalg.svd(weighted, full_matrices=False)
        kept = lengths > lengths.max(initial=0.0) * np.finfo(np.float64).eps * max(rows.values.shape)
        turn = axes[kept].T
        return cls(mean, scale, turn, centred @ turn, lengths[kept] ** 2, share)

    def head(self, weight: np.ndarray, bias: np.ndarray, l2: float) -> LinearHead:
        """A head on these axes, (axes, outputs) and (outputs,), as one on features as they come."""
        back = (self.turn @ weight) / self.scale[:, None]
        return LinearHead(back, bias - self.mean @ back, l2)


def _ridge(rows: Rows, strengths: Sequence[float], slope: float) -> list[LinearHead]:
    """Half the mean squared error and the penalty, in closed form (Hoerl and Kennard 1970, eq. 2.1)."""
    axes = _Axes.of(rows)
    mean = float(axes.share @ rows.targets)
    moments = axes.rows.T @ (axes.share * (rows.targets - mean))
    return [axes.head((moments / (axes.variance + l2))[:, None], np.array([mean]), l2) for l2 in strengths]


def _logistic(classes: int) -> Solve:
    """Solves the mean cross-entropy and the penalty."""

    def solve(rows: Rows, strengths: Sequence[float], slope: float) -> list[LinearHead]:
        axes, heads = _Axes.of(rows), []
        values, targets = torch.from_numpy(axes.rows), _indices(rows.targets)
        share = torch.from_numpy(axes.share)[:, None]
        # Each starts where the stronger one before it ended.
        weight = np.zeros((len(axes.variance) + 1, classes))
        for l2 in strengths:
            weight = _descend(weight, values, targets, share, _steepness(axes.variance, l2), l2, slope)
            heads.append(axes.head(weight[:-1], weight[-1], l2))
        return heads

    return solve


def _steepness(variance: np.ndarray, l2: float) -> np.ndarray:
    """(axes + 1, 1) most that the loss can curve along each axis, the bias last (Boehning 1992, eq. 2.3)."""
    return np.append(0.5 * variance + l2, 0.5)[:, None]


def _descend(
    weight: np.ndarray, values: torch.Tensor, targets: torch.Tensor, share: torch.Tensor,
    steepness: np.ndarray, l2: float, slope: float,
) -> np.ndarray:  # fmt: skip
    """Minimises by L-BFGS in float64, along axes stretched to curve alike, which makes few steps of it.

    Args:
        weight: (axes + 1, classes) to begin with, the bias last.
        values: (n, axes).
        targets: (n,) class indices.
        share: (n, 1) what each row counts.
        steepness: (axes + 1, 1).
        l2: The penalty.
        slope: Largest one left.
    """
    stretch = 1 / np.sqrt(steepness)

    def loss(stretched: np.ndarray) -> tuple[float, np.ndarray]:
        now = stretched.reshape(weight.shape) * stretch
        logits = values @ torch.from_numpy(now[:-1]) + torch.from_numpy(now[-1])
        losses, slopes = cross_entropy_gradient(logits, targets)
        slopes = slopes * share
        gradient = np.vstack([(values.T @ slopes).numpy() + l2 * now[:-1], slopes.sum(dim=0).numpy()])
        value = float((losses * share[:, 0]).sum()) + 0.5 * l2 * float((now[:-1] ** 2).sum())
        return value, (gradient * stretch).ravel()

    options: dict[str, Any] = {
        "maxiter": STEPS,
        "maxfun": 2 * STEPS,
        "gtol": slope,
        "ftol": 0.0,
        "maxcor": 20,
    }
    found = minimize(loss, (weight / stretch).ravel(), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x.reshape(weight.shape) * stretch)


def _indices(targets: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(targets.astype(np.int64))


def _numbers(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first place of each distinct row, and the number of each row, the same in any order of rows."""
    # Minus zero is zero.
    rows = np.ascontiguousarray(table, dtype=np.float64) + 0.0
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, first, number = np.unique(keys, return_index=True, return_inverse=True)
    return first, number.ravel()
