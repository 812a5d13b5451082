"""Cross-validation of finalists: each is trained on parts of the training and validation rows, and judged on
the rows left out. Who the finalists are, and which of them ships, is decided in `finalists`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from luthier.data.duplicates import input_texts, normalise
from luthier.engine.checkpoint import Checkpoints
from luthier.engine.engine import Engine
from luthier.engine.inputs import Inputs
from luthier.engine.kept import unpack
from luthier.engine.plan import plan
from luthier.engine.rows import POOL, on_rows
from luthier.engine.state import Diverged
from luthier.evaluate.intervals import metric_intervals
from luthier.evaluate.resampling import CrossValidation, Way, pooled, resamplings
from luthier.recipe import Recipe
from luthier.study.study import Finished
from luthier.trial import Order

# With this many rows to choose by, the standard error of an accuracy of .9 is two points: fewer are few.
FEW = 225
DEFAULT = 5


@dataclass
class Folds:
    """The rows of a run, parted.

    Args:
        engine: That the finalists were trained on.
        way: ``folds`` or ``holdouts``.
        count: How many.
        group: Column whose equal values stay together, or None.
        seed: Of the parting.
        folder: For what is left behind while it trains.
    """

    engine: Engine
    way: Way
    count: int
    group: str | None
    seed: int
    folder: Path
    parts: list[tuple[np.ndarray, np.ndarray]] = field(init=False)
    found: dict[int, list[np.ndarray]] = field(init=False, default_factory=dict)
    """Statistics of each finalist on each part's rows left out."""
    seconds: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        inputs = self.engine.inputs
        frames = [inputs.frames[name] for name in ("train", "validation")]
        self.frame = pd.concat(frames, ignore_index=True)
        self.task = inputs.task
        self.groups = self._together()
        self.parts = resamplings(
            self.way, self.count, len(self.frame), strata=self.task.strata(self.frame), groups=self.groups,
            seed=self.seed,
        )  # fmt: skip

    def costs(
        self, recipes: Sequence[Recipe], epochs: Sequence[int], measured: Sequence[float]
    ) -> list[float]:
        """Seconds that judging each of some recipes will take.

        Args:
            recipes: What is trained.
            epochs: How long.
            measured: Seconds that each took before; they count where a model has not been seen yet.
        """
        share = len(self.parts) * len(self.parts[0][0]) / max(1, len(self.engine.inputs.frames["train"]))
        return [
            # The frozen part is computed once, for all rows.
            seconds * share if cost is None else cost.once + cost.each * until * share
            for cost, until, seconds in zip(self.engine.predict_costs(recipes), epochs, measured, strict=True)
        ]

    def judge(self, finalists: Sequence[Finished], halt: Callable[[], str | None]) -> bool:
        """Trains finalists on each part, each for as many epochs as gave it its best score, and judges their
        last.

        Returns:
            Whether all came to an end; if not, nothing is known of any.

        Raises:
            Halted: ``halt`` gave a reason.
        """
        started = time.perf_counter()
        pool = Engine(
            Inputs(self.task, {POOL: self.frame}, self.engine.inputs.root), self.engine.sources,
            Checkpoints(self.folder), str(self.engine.device), store=self.engine.sharing.store,
            dtype=self.engine.sharing.dtype, auto=self.engine.auto, arithmetic=self.engine.arithmetic,
        )  # fmt: skip
        pool.know(self.engine)
        found: dict[int, list[np.ndarray]] = {one.trial: [] for one in finalists}
        try:
            for train, held in self.parts:
                engine = on_rows(pool, {"train": train, "validation": held}, pool.checkpoints)
                targets = engine.inputs.targets("validation")
                outputs = _outputs(engine, finalists, halt)
                if len(outputs) < len(finalists):
                    return False
                for trial, each in outputs.items():
                    found[trial].append(self.task.statistics(each, targets))
        finally:
            self.seconds += time.perf_counter() - started
        self.found = found
        return True

    def scores(self) -> dict[int, float]:
        """Each finalist's score on the rows left out, higher is better."""
        return {
            trial: self.task.score(self.task.summarise(self._pooled(tables).sum(axis=0)))
            for trial, tables in self.found.items()
        }

    def told(self, chosen: int) -> CrossValidation:
        """What is told of it, of the chosen finalist."""
        tables, task = self.found[chosen], self.task
        table, sign = self._pooled(tables), 1 if task.maximize else -1
        return CrossValidation(
            way=self.way,
            count=len(self.parts),
            value=task.summarise(table.sum(axis=0))[task.metric],
            interval=metric_intervals(table, task.summarise, groups=self.groups, seed=self.seed)[task.metric],
            each=[task.summarise(each.sum(axis=0))[task.metric] for each in tables],
            finalists={trial: sign * score for trial, score in self.scores().items()},
            rows=int(table.any(axis=1).sum()),
            seconds=self.seconds,
        )

    def _pooled(self, tables: list[np.ndarray]) -> np.ndarray:
        return pooled(tables, self.parts, len(self.frame))

    def _together(self) -> np.ndarray | None:
        """(n,) keys of rows that stay together: of a group, or with the same text; None if all differ."""
        if self.group is not None:
            return np.asarray(pd.factorize(self.frame[self.group].astype(str))[0])
        if self.task.modality != "text":
            return None
        column = self.task.columns.roles["input"]
        keys = pd.factorize(np.array([normalise(t) for t in input_texts(self.frame, column)], dtype=object))[
            0
        ]
        return None if len(np.unique(keys)) == len(keys) else np.asarray(keys)


def _outputs(
    engine: Engine, finalists: Sequence[Finished], halt: Callable[[], str | None]
) -> dict[int, list[np.ndarray]]:
    """What each finalist says of the rows left out after its last epoch; those that diverge are missing."""
    orders = [Order(found.trial, found.recipe, found.epoch, found.seed) for found in finalists]
    said: dict[int, list[np.ndarray]] = {}
    for group in plan(orders, lambda trial: 0):
        alone = not engine.gains_by_company(group[0].recipe)
        for part in [[order] for order in group] if alone else [group]:
            _, stack = engine.begin(part, halt=halt)
            for epoch in range(1, max(order.until for order in part) + 1):
                results = stack.run_epoch(halt)
                for place, (order, result) in enumerate(zip(part, results, strict=True)):
                    if order.until == epoch and not isinstance(result, Diverged):
                        said[order.trial] = unpack(stack.said(place)())
    return said
