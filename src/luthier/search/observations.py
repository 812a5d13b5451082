"""`Observations`: what was ordered and what became of it, as plain data. Models of it live in `surrogate_gp`
and `surrogate_trees`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from luthier.recipe import Recipe
from luthier.search.recipes import plain, rebuilt
from luthier.trial import Report


@dataclass
class Trial:
    """A recipe that was ordered, and what was told of it.

    Attributes:
        recipe: As ordered.
        status: Of its last report; ``running`` before any.
        epoch: Epochs finished.
        best: The best score after each epoch that was reported, by epoch; only where there is a finite one.
        seconds: Wall-clock time in all.
    """

    recipe: Recipe
    status: str = "running"
    epoch: int = 0
    best: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0

    def tell(self, report: Report) -> None:
        """Takes note of a report."""
        self.status = report.status
        self.epoch = max(self.epoch, int(report.epoch))
        self.seconds += float(report.seconds)
        scores = [*self.best.values(), *([float(report.score)] if math.isfinite(report.score) else [])]
        if scores:
            self.best[int(report.epoch)] = max(scores)

    @property
    def share(self) -> float:
        """How much of its training it has had, in [0, 1]; one that ended by itself has had all."""
        return 1.0 if self.status == "completed" else min(1.0, self.epoch / self.recipe.epochs)

    @property
    def score(self) -> float:
        """The best score so far; NaN if it failed or has none."""
        return max(self.best.values()) if self.best and self.status != "failed" else math.nan

    @property
    def counts(self) -> bool:
        """Whether it says something: one that was ended, or runs, before its first score does not."""
        return bool(self.best) or self.status in {"completed", "failed"}


@dataclass(frozen=True)
class Table:
    """What a surrogate is fitted to: a row an observation.

    Attributes:
        trials: (rows,) the trial of each row; a trial may have two rows, at two shares of its training.
        shares: (rows,) share of the training that the score was reached after, in (0, 1].
        scores: (rows,) best score up to there; NaN for a failure.
    """

    trials: np.ndarray
    shares: np.ndarray
    scores: np.ndarray


class Observations:
    """The trials of a strategy in the order of their numbers."""

    def __init__(self) -> None:
        self.trials: list[Trial] = []
        self.recipes: set[Recipe] = set()

    def add(self, recipe: Recipe) -> int:
        """Takes note of a new trial. Returns its number."""
        self.trials.append(Trial(recipe))
        self.recipes.add(recipe)
        return len(self.trials) - 1

    def tell(self, report: Report) -> None:
        """Takes note of a report; those on trials that were never ordered are ignored."""
        if 0 <= report.trial < len(self.trials):
            self.trials[report.trial].tell(report)

    @property
    def scored(self) -> int:
        """How many different finite scores there are."""
        return len({trial.score for trial in self.trials if math.isfinite(trial.score)})

    def pending(self) -> list[int]:
        """Trials whose whole training is not observed and may still come."""
        return [at for at, trial in enumerate(self.trials) if trial.status == "running"]

    def table(self) -> Table:
        """All that is known of scores.

        A trial that was stopped, or still runs, counts with the share of its training that it has had. To
        tell what the rest of it would bring, a model needs curves that were followed to their end: while
        there are such trials, the finished ones have a second row, at the share nearest to the median of
        theirs.
        """
        rows = [
            (at, trial.share if math.isfinite(trial.score) else 1.0, trial.score)
            for at, trial in enumerate(self.trials)
            if trial.counts
        ]
        partial = [share for _, share, score in rows if share < 1.0 and math.isfinite(score)]
        if partial:
            middle = float(np.median(partial))
            rows += [
                (at, epoch / trial.recipe.epochs, trial.best[epoch])
                for at, trial in enumerate(self.trials)
                if trial.share == 1.0
                and math.isfinite(trial.score)
                and (epoch := min(trial.best, key=lambda one: abs(one / trial.recipe.epochs - middle)))
                < trial.epoch
                and epoch > 0
            ]
        columns = list(zip(*rows, strict=True)) or [(), (), ()]
        return Table(np.array(columns[0], dtype=np.int64), np.array(columns[1]), np.array(columns[2]))

    def costs(self) -> tuple[np.ndarray, np.ndarray]:
        """Trials and the seconds of their whole training, extrapolated where they had a share of it.

        Failures are left out: how soon one fails says little of what a training costs.
        """
        kept = [
            (at, trial.seconds / trial.share)
            for at, trial in enumerate(self.trials)
            if trial.status != "failed" and trial.share > 0 and trial.seconds > 0
        ]
        columns = list(zip(*kept, strict=True)) or [(), ()]
        return np.array(columns[0], dtype=np.int64), np.array(columns[1], dtype=np.float64)

    def state(self) -> list[dict[str, Any]]:
        """All of it as JSON values."""
        return [
            {
                "recipe": plain(trial.recipe),
                "status": trial.status,
                "epoch": trial.epoch,
                "best": list(trial.best.items()),
                "seconds": trial.seconds,
            }
            for trial in self.trials
        ]

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Continues from what ``state()`` returned."""
        self.trials = [
            Trial(
                rebuilt(kept["recipe"]),
                kept["status"],
                kept["epoch"],
                dict(kept["best"]),
                kept["seconds"],
            )
            for kept in state
        ]
        self.recipes = {trial.recipe for trial in self.trials}
