"""Contexts of trials that were never trained: made outputs, of which some carry errors of their own."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from luthier.ensemble.ways import Context
from luthier.recipe import Recipe
from luthier.study.study import Finished
from luthier.tasks import registry
from luthier.tasks.base import Columns, Task

ROLES = {"input": "text", "target": "label"}
KINDS = (
    "text-classification",
    "multi-label-classification",
    "token-classification",
    "text-regression",
)


def frame(kind: str, rows: int, classes: int = 3, seed: int = 0) -> pd.DataFrame:
    """Rows with true answers."""
    rng = np.random.default_rng(seed)
    names = [f"c{index:03d}" for index in range(classes)]
    if kind == "text-regression":
        return pd.DataFrame({"text": ["t"] * rows, "label": rng.normal(3.0, 2.0, rows)})
    if kind == "multi-label-classification":
        chosen = rng.random((rows, classes)) < 0.4
        chosen[:classes] |= np.eye(classes, dtype=bool)[:rows]
        labels = [[name for name, on in zip(names, row, strict=True) if on] for row in chosen]
        return pd.DataFrame({"text": ["t"] * rows, "label": labels})
    if kind == "token-classification":
        sizes = rng.integers(2, 7, rows)
        tags = [list(rng.choice(["O", "B-x", "B-y"], size)) for size in sizes]
        tags[0] = ["O", "B-x", "B-y"]
        return pd.DataFrame({"text": [["w"] * len(row) for row in tags], "label": tags})
    labels = [*names, *rng.choice(names, max(0, rows - classes))][:rows]
    return pd.DataFrame({"text": ["t"] * rows, "label": labels})


def task_of(kind: str, table: pd.DataFrame) -> Task:
    task = registry.get(kind)(Columns(dict(ROLES)))
    task.fit(table)
    return task


def outputs(
    task: Task, targets: Sequence[np.ndarray], seed: int, noise: float = 1.5, short: int = 0
) -> list[np.ndarray]:
    """What a network with errors of its own says, in float32; of texts only the words before the last few."""
    rng = np.random.default_rng(seed)
    width = task.num_outputs
    found = []
    for target in targets:
        if task.target_kind == "class":
            clean = 2.0 * np.eye(width)[int(target)]
        elif task.target_kind == "tags":
            clean = 2.0 * np.eye(width)[np.asarray(target)]
        elif task.target_kind == "multi":
            clean = 2.0 * np.asarray(target, dtype=float) - 1.0
        else:
            clean = np.asarray(target, dtype=float).reshape(1)
        said = clean + rng.normal(0.0, noise, clean.shape)
        found.append((said[: max(1, len(said) - short)] if said.ndim == 2 else said).astype(np.float32))
    return found


def context(
    kind: str,
    trials: int = 5,
    rows: int = 60,
    *,
    classes: int = 3,
    noise: float = 1.5,
    said: Sequence[list[np.ndarray]] | None = None,
    numbers: Sequence[int] | None = None,
    **options: Any,
) -> Context:
    """A search that left ``trials``; ``said`` are their outputs, where they are not to be made."""
    table = frame(kind, rows, classes)
    task = task_of(kind, table)
    targets = task.targets(table)
    if said is None:
        said = [outputs(task, targets, seed + 1, noise, short=seed % 2) for seed in range(trials)]
    numbers = list(range(len(said))) if numbers is None else numbers
    by_number = dict(zip(numbers, said, strict=True))
    finished = []
    for number, one in by_number.items():
        score = task.score(task.metrics(one, targets))
        loss = float(np.nanmean(task.example_losses(one, targets)))
        finished.append(Finished(number, Recipe(model="m"), number, score, loss, 1, 1.0))
    finished.sort(key=lambda each: (-each.score, each.loss))
    engine: Any = SimpleNamespace(
        task=task,
        inputs=SimpleNamespace(targets=lambda name: {"validation": targets}[name]),
        kept=SimpleNamespace(load=by_number.get),
        checkpoints=SimpleNamespace(has=by_number.__contains__),
    )
    return Context(engine, finished, **options)


def score(context: Context, said: Sequence[np.ndarray]) -> float:
    task = context.task
    return float(task.scores(task.score_statistics(said, context.targets).sum(axis=0)[None])[0])
