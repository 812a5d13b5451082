"""Choosing the winner: finalists are trained again on further seeds, and the recipe with the best mean wins;
or, where rows are few, on parts of them, and the recipe that is best on those left out wins.

How many there are is a matter of what validation can tell apart and of time; the study, or `folds`, trains
them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from luthier.engine.engine import Engine
from luthier.engine.state import Halted
from luthier.evaluate.selection import errors_of_differences, stacked
from luthier.recipe import Recipe
from luthier.run.folds import Folds
from luthier.study.proposals import Repeats
from luthier.study.study import Finished, Study

# The share of the budget that repeats may take.
SHARE = 0.15
# Finalists at most: each costs as much as another seed of all the others tells.
MOST = 4
# Seeds of each, its first among them, where their number is left to the time there is.
SEEDS = 5
# Standard errors of the difference that a trial may lie behind the best one and still be a finalist.
REACH = 2.0
RESAMPLES = 500


class Finalists:
    """The last round of a study.

    Args:
        study: Whose trials are compared.
        engine: Predicts costs, and has the trials' validation outputs.
        repeats: Seeds of each finalist in all; 1 for no repeats, None for as many as there is time for.
        groups: (n,) group keys of the validation rows, or None.
        rest: Seconds that what comes after this round will take, given the best trial.
        typical: A recipe like those that will be tried, by which time is held back before any was.
        seed: Of resampling.
        say: Told what was decided, and why.
        part: Parts the rows to cross-validate finalists on; None to repeat them on further seeds.
    """

    def __init__(
        self, study: Study, engine: Engine, *, repeats: int | None, groups: Any | None,
        rest: Callable[[Finished | None], float], typical: Recipe, seed: int, say: Callable[[str], None],
        part: Callable[[], Folds] | None = None,
    ) -> None:  # fmt: skip
        self.study = study
        self.engine = engine
        self.repeats = repeats
        self.groups = groups
        self.rest = rest
        self.typical = typical
        self.seed = seed
        self.say = say
        self.part = part
        self.crossed: Folds | None = None
        """What finalists scored on rows left out, where they were cross-validated."""
        self.how = ""
        """How the winner was chosen, where repeats or folds decided it."""

    def hold_back(self, best: Finished | None) -> float:
        """Seconds to hold back from the search: for what comes after it, and for the repeats if they fit."""
        return self.rest(best) + self._reserve()

    @property
    def _off(self) -> bool:
        """Whether nothing is to be repeated: seeds decide nothing where scores do not."""
        return self.repeats == 1 or not self.study.objectives.by_score

    def _reserve(self) -> float:
        """What repeats of the best trials so far would take; nothing where not even the least of it fits."""
        decided, budget = self.study.proposals.repeats, self.study.budget.total
        if self._off or (decided is not None and decided.budget == budget):
            return 0.0
        rivals = self._rivals()[:MOST]
        recipes = [rival.recipe for rival in rivals] or [self.typical]
        measured = [rival.seconds for rival in rivals] or [math.inf]
        # One more may come within reach of the only one so far.
        twice = 2 if len(recipes) == 1 else 1
        epochs = [recipe.epochs for recipe in recipes]
        if self.part is not None:
            costs = self.part().costs(recipes, epochs, measured)
            return sum(costs[: _fitting_in(costs, SHARE * budget)])
        found = self._fitting(recipes * twice, epochs * twice, measured * twice, SHARE * budget)
        return 0.0 if found is None else found[2]

    def repeat(self) -> None:
        """Decides on repeats and has them trained; after an interrupted round, those that are missing."""
        study = self.study
        study.budget.reserve = self.rest(study.best)
        if study.halted() is not None:
            return
        trials = study.store.trials(study.run_id)
        if study.proposals.repeats is None and self._cross_validate(trials):
            return
        decided = study.proposals.repeats or self._decide(trials)
        if decided is not None:
            study.repeat(decided, _untils(trials, decided.finalists))

    def _cross_validate(self, trials: pd.DataFrame) -> bool:
        """Judges finalists on parts of the rows; says so, or why not. Whether that was tried."""
        if self.part is None or self._off:
            return False
        copies = set(trials.loc[trials["parent"].notna(), "number"])
        usable = {found.trial for found in self.study.usable()} - copies
        rivals = [rival for rival in self._rivals() if rival.trial in usable]
        near = self._within_reach(rivals[:MOST]) if rivals else []
        folds = self.part()
        costs = folds.costs(*_columns(near))
        near = near[: _fitting_in(costs, min(SHARE * self.study.budget.total, self.study.budget.left))]
        if not near:
            self.say("There is no time to cross-validate: the validation split alone decides.")
            return False
        what = f"{len(folds.parts)} {'folds' if folds.way == 'folds' else 'hold-outs'}"
        names = (
            "Trials " + _listed([one.trial for one in near]) if len(near) > 1 else f"Trial {near[0].trial}"
        )
        self.say(f"{names}: cross-validated on {what} of training and validation rows together.")
        try:
            if folds.judge(near, self.study.halted):
                self.crossed = folds
            else:
                self.say("A finalist diverged on a fold, so the validation split alone decides.")
        except Halted as halted:
            self.say(f"The cross-validation was cut short ({halted}): the validation split alone decides.")
        return True

    def _decide(self, trials: pd.DataFrame) -> Repeats | None:
        """Who is repeated and how often; says so, or why nobody is."""
        rivals = [] if self._off else self._rivals()
        if len(rivals) < 2:
            return None
        copies = set(trials.loc[trials["parent"].notna(), "number"])
        if rivals[0].trial in copies:
            self.say(
                f"Trial {rivals[0].trial} started from another's weights: no recipe alone could repeat it."
            )
            return None
        usable = {found.trial for found in self.study.usable()}
        rivals = [rival for rival in rivals if rival.trial in usable - copies]
        if len(rivals) < 2:
            return None
        near = self._within_reach(rivals[:MOST])
        if len(near) < 2:
            self.say(
                f"Trial {near[0].trial} is ahead of all others by more than {REACH:g} standard errors on "
                "validation: nothing is repeated."
            )
            return None
        left = min(SHARE * self.study.budget.total, self.study.budget.left)
        found = self._fitting(
            [rival.recipe for rival in near],
            list(_untils(trials, [rival.trial for rival in near]).values()),
            [rival.seconds for rival in near],
            left,
        )
        names = _listed([rival.trial for rival in near])
        if found is None:
            self.say(f"Trials {names} are within reach of each other, and there is no time to repeat them.")
            return None
        count, seeds, _ = found
        chosen = tuple(rival.trial for rival in near[:count])
        more = f"{seeds - 1} further seed" + ("s" if seeds > 2 else "")
        self.say(f"Trials {_listed(chosen)} are within reach of each other: each is trained on {more}.")
        return Repeats(chosen, seeds, self.study.budget.total)

    def choose(self) -> Finished | None:
        """The model that ships, and its weights kept; None where no trial has any.

        After repeats it is, of the trials of the recipe with the best mean score over its seeds, the one with
        the best score; of equal ones that with the lower loss. Without them it is the best trial. A seed on
        which a recipe fails counts as the worst there is; one that was stopped does not count. Where a
        finalist has no further seed that counts, means of unlike numbers would be compared: the best trial
        wins then, too. After a cross-validation it is the finalist that is best on the rows left out.
        """
        best, decided = next(self.study.usable(), self.study.best), self.study.proposals.repeats
        if best is None:
            return None
        if self.crossed is not None:
            best = self._best_on_rows_left_out(self.crossed) or best
        elif decided is not None and (winner := self._winner(decided)) is not None:
            best = winner
        self.study.settle(best)
        return best

    def _winner(self, decided: Repeats) -> Finished | None:
        trials = self.study.store.trials(self.study.run_id)
        means: dict[int, tuple[float, int]] = {}
        for finalist in decided.finalists:
            again = trials[(trials["repeats"] == finalist).fillna(False)]
            again = again[again["status"].isin(["completed", "failed"])]
            first = trials[trials["number"] == finalist]
            if again.empty:
                self.say("The repeats were cut short, so the best score decides.")
                return None
            scores = [_score(row) for row in pd.concat([first, again]).to_dict("records")]
            means[finalist] = float(np.mean(scores)), len(scores)
        finalist = max(decided.finalists, key=lambda one: means[one][0])
        mean, seeds = means[finalist]
        own = [found for found in self.study.usable() if finalist in (found.trial, found.repeats)]
        if not own or not math.isfinite(mean):
            return None
        task = self.engine.task
        shown = {one: abs(score) if not task.maximize else score for one, (score, _) in means.items()}
        others = ", ".join(
            f"trial {one} {shown[one]:.4g}" if math.isfinite(shown[one]) else f"trial {one} failed on a seed"
            for one in decided.finalists
            if one != finalist
        )
        self.how = (
            f"The recipe of trial {finalist} has the best mean validation {task.metric.replace('_', ' ')} "
            f"over its {seeds} seeds, {shown[finalist]:.4g} ({others}); of its trials {own[0].trial} scores "
            "best."
        )
        self.say(self.how)
        return own[0]

    def _best_on_rows_left_out(self, crossed: Folds) -> Finished | None:
        scores = crossed.scores()
        winner = max(scores, key=lambda trial: scores[trial])
        task = self.engine.task
        shown = {trial: score if task.maximize else -score for trial, score in scores.items()}
        others = ", ".join(f"trial {trial} {value:.4g}" for trial, value in shown.items() if trial != winner)
        metric, count = task.metric.replace("_", " "), len(crossed.parts)
        what = f"{metric} on the rows that each of {count} {crossed.way} left out"
        if others:
            self.how = f"The recipe of trial {winner} has the best {what}, {shown[winner]:.4g} ({others})."
        else:
            self.how = f"Trial {winner}: {what} {shown[winner]:.4g}."
        self.say(self.how)
        return next((found for found in self.study.usable() if found.trial == winner), None)

    def _rivals(self) -> list[Finished]:
        """Trials of the search that may be chosen, best first, the best one of each recipe."""
        distinct: dict[Recipe, Finished] = {}
        for found in self.study.ranked:
            if found.repeats is None and self.study.objectives.feasible(found):
                distinct.setdefault(found.recipe, found)
        return list(distinct.values())

    def _within_reach(self, rivals: Sequence[Finished]) -> list[Finished]:
        """The first, and those that lie behind it by no more than chance would put them there.

        Those whose outputs are not kept are given the benefit of the doubt.
        """
        task, targets = self.engine.task, self.engine.inputs.targets("validation")
        tables: dict[int, np.ndarray] = {}
        for rival in rivals:
            outputs = None if self.engine.kept is None else self.engine.kept.load(rival.trial)
            if outputs is not None and len(outputs) == len(targets):
                tables[rival.trial] = task.score_statistics(outputs, targets)
        if rivals[0].trial not in tables:
            return list(rivals)
        table = stacked(list(tables.values()), self.groups)
        errors = errors_of_differences(table, task.scores, 0, resamples=RESAMPLES, seed=self.seed)
        reach = dict(zip(tables, REACH * errors, strict=True))
        best = rivals[0].score
        return [rival for rival in rivals if not best - rival.score > reach.get(rival.trial, math.inf)]

    def _fitting(
        self, recipes: Sequence[Recipe], untils: Sequence[int], measured: Sequence[float], limit: float
    ) -> tuple[int, int, float] | None:
        """How many of these can be repeated in the time, seeds of each in all, and the seconds it takes.

        Left to itself it takes as many as it can, then as many seeds as fit. Where seeds are asked for, there
        are rather fewer finalists. None: not one further seed of two of them fits.
        """
        counts = range(len(recipes), 1, -1)
        if self.repeats is None:
            pairs = [(count, seeds) for count in counts for seeds in range(SEEDS, 1, -1)]
        else:
            pairs = [(count, seeds) for seeds in range(self.repeats, 1, -1) for count in counts]
        for count, seeds in pairs:
            further = seeds - 1
            costs = self.engine.predict_costs([*recipes[:count]] * further)
            seconds = sum(
                again if cost is None else cost.total(until)
                for cost, until, again in zip(
                    costs, [*untils[:count]] * further, [*measured[:count]] * further, strict=True
                )
            )
            if seconds <= limit:
                return count, seeds, seconds
        return None


def _columns(finalists: Sequence[Finished]) -> tuple[list[Recipe], list[int], list[float]]:
    """Recipes, epochs to train and measured seconds."""
    return (
        [found.recipe for found in finalists],
        [found.epoch for found in finalists],
        [found.seconds for found in finalists],
    )


def _fitting_in(costs: Sequence[float], limit: float) -> int:
    """How many of the first ones together stay within a limit."""
    return int((np.cumsum(costs) <= limit).sum())


def _untils(trials: pd.DataFrame, numbers: Sequence[int]) -> dict[int, int]:
    """As many epochs as each was trained; where its own patience ended it, it is to end its repeats, too."""
    rows = {int(row["number"]): row for row in trials.to_dict("records")}
    found = {}
    for number in numbers:
        patient = rows[number]["status"] == "completed" and rows[number]["reason"]
        found[number] = int(rows[number]["recipe_epochs"] if patient else max(1, rows[number]["epochs"]))
    return found


def _score(row: dict[Any, Any]) -> float:
    score = float(row["score"])
    return score if math.isfinite(score) and row["status"] != "failed" else -math.inf


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers[:-1]) + f" and {numbers[-1]}"
