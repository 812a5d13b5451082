"""What frozen features tell beside a run, at almost no cost: the learning curve over data sizes, and how many
labels are contradicted by a head that never saw them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from luthier.engine.engine import Engine
from luthier.evaluate.linear import WIDEST, linear_head, standard
from luthier.evaluate.noise import Noise, contradicted
from luthier.evaluate.sizes import SizeCurve, size_curve
from luthier.recipe import Recipe

# The share of the budget that both may take together, and the most they take of any.
BUDGET_SHARE = 0.02
SECONDS = 6.0
# Validation rows that are looked at, and numbers of the training rows, a random choice where there are more.
VALIDATION_ROWS, CELLS = 4_000, 5_000_000


@dataclass(frozen=True)
class Frozen:
    """What the frozen features of one model tell.

    Attributes:
        sizes: The curve over data sizes, or None.
        noise: The share of training labels contradicted by a head that was not fitted to them; None for
            targets that are no classes.
        left_out: (n, outputs) what the head says of training rows that it was not fitted to.
        given: (n,) their classes; zeros for targets that are no classes.
        seconds: All of it took.
    """

    sizes: SizeCurve | None
    noise: Noise | None
    left_out: np.ndarray
    given: np.ndarray
    seconds: float


def frozen(
    engine: Engine, recipe: Recipe, *, budget: float, groups: Any | None = None, seed: int = 0
) -> Frozen | None:
    """Measures both on the features that a probe of the recipe's model reads.

    Args:
        engine: Computes the features, or has them.
        recipe: A probe.
        budget: Seconds of the whole run; more than a share of them is not spent.
        groups: (n,) keys of the validation rows, or None.
        seed: Of samples.

    Returns:
        None where the features are no vector an example, or would take too long.
    """
    started, limit = time.perf_counter(), min(SECONDS, BUDGET_SHARE * budget)
    task, source = engine.task, engine.sources[recipe.model]
    if task.level != "example":
        return None
    splits = ("train", "validation")
    if not all(engine.sharing.known(source, recipe, name, 0) for name in splits):
        cost = engine.epoch_seconds(recipe)
        if cost is None or cost > limit:
            return None
    network = engine.network(recipe, seed=0)
    features = [engine.features(recipe, name, network).values.float().cpu().numpy() for name in splits]
    targets = [engine.inputs.targets(name) for name in splits]
    rng = np.random.default_rng(seed)
    wanted, rows = _wanted(targets[0], task.target_kind, task.num_outputs)
    rows = _some(rows, CELLS // (min(features[0].shape[1], WIDEST) + task.num_outputs), rng)
    other = _some(np.arange(len(targets[1])), VALIDATION_ROWS, rng)
    if len(rows) < 2 or not len(other):
        return None
    train, judged = standard(features[0][rows], features[1][other])
    wanted = wanted[rows]
    clock = time.perf_counter()
    head = linear_head(train, wanted)
    noise, given = None, np.zeros(len(rows), dtype=np.int64)
    if task.target_kind == "class":
        given = wanted.argmax(axis=1)
        noise = contradicted(head.left_out, given, "A linear head on the frozen features")
    left = limit - (time.perf_counter() - started)
    # One repeat takes about twice a fit with all rows.
    sizes = None
    if left > 2 * (time.perf_counter() - clock):
        sizes = size_curve(
            task, train, wanted, judged, [targets[1][at] for at in other],
            groups=None if groups is None else np.asarray(groups)[other], seconds=left / 2, seed=seed,
        )  # fmt: skip
    return Frozen(sizes, noise, head.left_out, given, time.perf_counter() - started)


def _wanted(targets: list[np.ndarray], kind: str, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, outputs) what a linear head is fitted to, so that its answers read like logits; and the rows that
    have an answer.
    """
    if kind == "class":
        classes = np.asarray(targets, dtype=np.int64)
        return np.eye(outputs)[np.maximum(classes, 0)] - 1 / outputs, np.flatnonzero(classes >= 0)
    table = np.stack([np.asarray(target, dtype=np.float64).reshape(-1)[:outputs] for target in targets])
    if kind == "multi":
        return table - 0.5, np.flatnonzero((table >= 0).all(axis=1))
    return table, np.flatnonzero(np.isfinite(table).all(axis=1))


def _some(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))
