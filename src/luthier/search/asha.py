"""`Asha`: successive halving that waits for nobody, for many workers. `halving` is the form that waits."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from typing import Any

from luthier.recipe import Recipe
from luthier.search.ladder import Ladder
from luthier.search.runner import Runner, Turn, plain, score_of
from luthier.search.source import Source
from luthier.trial import Report

_Key = tuple[float, int]
"""Score and negative number: of equal scores the earlier trial is the better one."""


class Rung:
    """The trials that have reached a rung, of which always the best ``size // eta`` are in the *upper* part.

    Two heaps meet at the border between the parts, so that an arrival costs O(log size): it moves at most two
    trials over the border.

    Args:
        ladder: Says how many are in the upper part.

    Attributes:
        scores: By trial, -inf for those that are lost, in the order of arrival.
    """

    def __init__(self, ladder: Ladder) -> None:
        self._ladder = ladder
        self.scores: dict[int, float] = {}
        self._upper: list[_Key] = []  # a heap, its worst first
        self._lower: list[_Key] = []  # a heap of negated keys, its best first
        self._inside: set[int] = set()
        self._promoted: set[int] = set()
        self._candidates: list[_Key] = []  # a heap of negated keys; those that left the upper part linger

    def add(self, trial: int, score: float) -> list[int]:
        """Takes in a trial; those that have come into the upper part by it and were not promoted."""
        self.scores[trial] = score
        leaves = heapq.heappushpop(self._upper, (score, -trial))
        self._inside.add(trial)
        self._inside.remove(-leaves[1])
        heapq.heappush(self._lower, (-leaves[0], -leaves[1]))
        entered = {trial}
        if len(self._upper) < self._ladder.kept(len(self.scores)):
            negated, best = heapq.heappop(self._lower)
            heapq.heappush(self._upper, (-negated, -best))
            self._inside.add(best)
            entered.add(best)
        return [one for one in sorted(entered & self._inside) if self._offer(one)]

    def _offer(self, trial: int) -> bool:
        """Makes a trial a candidate, unless it was promoted or has no score."""
        score = self.scores[trial]
        if trial in self._promoted or score == -math.inf:
            return False
        heapq.heappush(self._candidates, (-score, trial))
        return True

    def promotable(self) -> int | None:
        """The best trial of the upper part that was not promoted."""
        while self._candidates:
            trial = self._candidates[0][1]
            if trial in self._inside and trial not in self._promoted:
                return trial
            heapq.heappop(self._candidates)
        return None

    def promote(self, trial: int) -> None:
        """Marks a trial as promoted for good."""
        self._promoted.add(trial)

    @property
    def alone(self) -> int | None:
        """The best trial, if it has a score, while there are too few for an upper part."""
        if self._upper or not self._lower or self._lower[0][0] == math.inf:
            return None
        return self._lower[0][1]


class Asha:
    """Asynchronous successive halving (Li et al. 2020, algorithm 2).

    Whenever there is room, the best trial in the upper third of a rung that was not promoted goes on to the
    next, from the highest rung in which there is one; where there is none, a new trial begins at the lowest
    rung. So nobody waits, and some are promoted that a later arrival shows to be worse.

    A trial that is `Runner.lost` counts as the worst, and never goes on. One that needs no training for the
    next rung, because it has `Runner.ended` or is too short for a difference, goes on the moment it may. When
    the space is used up and nothing runs, the best trial of the highest rung is taken to its end.

    A decision takes O(log n) steps for n trials: rungs are `Rung`s.

    Args:
        ladder: The rungs.
        source: Where new trials come from.
    """

    def __init__(self, ladder: Ladder, source: Source) -> None:
        self._ladder, self._source = ladder, source
        self._rungs = [Rung(ladder) for _ in range(ladder.top + 1)]
        self._runners: dict[int, Runner] = {}
        self._out: dict[int, int] = {}  # trials in training, and the rung they are on the way to

    def ask(self, room: int) -> list[Turn]:
        """At most ``room`` trials to train next; empty when the space is used up, for now or for good."""
        turns: list[Turn] = []
        while len(turns) < room and (found := self._promotion() or self._new()) is not None:
            trial, rung = found
            self._out[trial] = rung
            turns.append(Turn(trial, self._runners[trial].recipe, self._until(trial, rung)))
        return turns

    def _promotion(self) -> tuple[int, int] | None:
        """A trial that goes on, and the rung it goes to."""
        found = self._promotable()
        if found is not None:
            self._rungs[found[1]].promote(found[0])
            return found[0], found[2]
        return None

    def _promotable(self) -> tuple[int, int, int] | None:
        """A trial that may go on, the rung where it is, and the rung it goes to."""
        for rung in reversed(range(self._ladder.top)):
            trial = self._rungs[rung].promotable()
            if trial is not None:
                return trial, rung, rung + 1
        return None if self._source.fresh or self._out else self._left_over()

    def _left_over(self) -> tuple[int, int, int] | None:
        """The best of the highest rung that anyone has reached, where the space was too small for a third."""
        reached = [rung for rung in range(self._ladder.top) if self._rungs[rung].scores]
        if not reached or self._rungs[-1].scores:
            return None
        rung = reached[-1]
        trial = self._rungs[rung].alone
        if trial is None or self._runners[trial].ended:
            return None
        higher = range(rung + 1, self._ladder.top + 1)
        return next(((trial, rung, at) for at in higher if self._is_further(trial, rung, at)), None)

    def _new(self) -> tuple[int, int] | None:
        if not self._source.fresh:
            return None
        trial, recipe = self._source.draw()
        self._runners[trial] = Runner(recipe)
        return trial, 0

    def _until(self, trial: int, rung: int) -> int:
        return self._ladder.until(self._runners[trial].recipe.epochs, rung)

    def _is_further(self, trial: int, rung: int, higher: int) -> bool:
        return self._until(trial, higher) > self._until(trial, rung)

    def tell(self, report: Report) -> None:
        """Takes note of a report on a trial that is being trained; others say nothing new."""
        trial, rung = report.trial, self._out.get(report.trial)
        if rung is not None and self._runners[trial].hear(report, self._until(trial, rung)):
            del self._out[trial]
            self._arrive(trial, rung)

    def _arrive(self, trial: int, rung: int) -> None:
        """Lets a trial into a rung, and on to the next all that may go there without training."""
        standing = self._runners[trial].standing
        self._source.observe(trial, rung, standing)
        for entered in self._rungs[rung].add(trial, standing):
            if rung < self._ladder.top and self._needs_nothing(entered, rung):
                self._rungs[rung].promote(entered)
                self._arrive(entered, rung + 1)

    def _needs_nothing(self, trial: int, rung: int) -> bool:
        return self._runners[trial].ended or not self._is_further(trial, rung, rung + 1)

    @property
    def finished(self) -> bool:
        """Whether the space is used up and nothing runs or can go on."""
        return not self._source.fresh and not self._out and self._promotable() is None

    def state(self) -> dict[str, Any]:
        """Scores by rung, the trials in training, and those whose score is final."""
        return {
            "rungs": [
                {"trials": list(rung.scores), "scores": [plain(score) for score in rung.scores.values()]}
                for rung in self._rungs
            ],
            "out": [
                [trial, rung, plain(self._runners[trial].best), self._runners[trial].sound]
                for trial, rung in self._out.items()
            ],
            "ended": [trial for trial, runner in self._runners.items() if runner.ended],
        }

    def restore(self, state: dict[str, Any], recipes: Sequence[Recipe]) -> None:
        """Continues from what ``state()`` returned.

        Args:
            state: As it was.
            recipes: Of all trials drawn until then.
        """
        self._runners = {trial: Runner(recipe) for trial, recipe in enumerate(recipes)}
        for trial in state["ended"]:
            self._runners[trial].ended = True
        for trial, rung, best, sound in state["out"]:
            self._out[trial] = rung
            self._runners[trial].best, self._runners[trial].sound = score_of(best), sound
        above: Iterable[int] = ()
        for at in reversed(range(self._ladder.top + 1)):
            kept = state["rungs"][at]
            for trial in above:
                self._rungs[at].promote(trial)
            for trial, score in zip(kept["trials"], map(score_of, kept["scores"]), strict=True):
                self._rungs[at].add(trial, score)
                self._runners[trial].best = max(self._runners[trial].best, score)
            above = [*kept["trials"], *(trial for trial, rung in self._out.items() if rung == at)]
