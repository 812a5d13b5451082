"""`Halving`: the brackets of Hyperband, each rung of which waits for all its trials. `asha` does not wait."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from luthier.recipe import Recipe
from luthier.search.ladder import Ladder
from luthier.search.runner import Runner, Turn, plain, score_of
from luthier.search.source import Source
from luthier.trial import Report


@dataclass(slots=True)
class _Bracket:
    """One run of successive halving.

    Attributes:
        number: 0 for the first bracket of all.
        rung: Where its trials are.
        vacant: Places in its lowest rung that no trial has yet.
        waiting: Trials of this rung that were not ordered to it yet.
        out: Trials that are being trained towards it.
        there: Trials that have reached it, or were lost on the way.
    """

    number: int
    rung: int
    vacant: int
    waiting: deque[int] = field(default_factory=deque)
    out: set[int] = field(default_factory=set)
    there: list[int] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether nobody is missing at its rung."""
        return not (self.vacant or self.waiting or self.out)


class Halving:
    """Hyperband (Li et al. 2018, algorithm 1): brackets of successive halving, one after the other.

    One call of `ask` gives trials of one rung. A bracket begins when the last one before it gives nothing:
    when its rungs are done, or, asked in between, while they are being trained. Older brackets go first.

    In a rung that everybody has reached, the best third goes on (`Ladder.kept`), the earlier number first
    where scores are equal. A trial that is `Runner.lost` does not go on, and its place goes to the next; one
    that has `Runner.ended` keeps its place and its score without training. A bracket that the space was too
    small to fill still takes its best trial to the end.

    Args:
        ladder: The rungs.
        source: Where new trials come from.
    """

    def __init__(self, ladder: Ladder, source: Source) -> None:
        self._ladder, self._source = ladder, source
        self._begun = 0
        self._brackets: dict[int, _Bracket] = {}
        self._ready: list[int] = []  # a heap of brackets with trials that wait
        self._filling: _Bracket | None = None
        self._runners: dict[int, Runner] = {}
        self._bracket_of: dict[int, _Bracket] = {}

    def ask(self, room: int) -> list[Turn]:
        """At most ``room`` trials of one rung to train next; empty when the space is used up."""
        bracket = self._next_bracket()
        turns: list[Turn] = []
        while bracket is not None and len(turns) < room and (bracket.waiting or bracket.vacant):
            turns.append(self._send(bracket, bracket.waiting.popleft() if bracket.waiting else None))
            if not self._source.fresh:
                bracket.vacant = 0
        if self._ready and not self._brackets[self._ready[0]].waiting:
            heapq.heappop(self._ready)
        return turns

    def _next_bracket(self) -> _Bracket | None:
        """The oldest with trials that wait, the one that is being filled, or a new one."""
        if self._ready:
            return self._brackets[self._ready[0]]
        if (self._filling is None or not self._filling.vacant) and self._source.fresh:
            rung, places = self._ladder.bracket(self._begun)
            self._filling = self._brackets[self._begun] = _Bracket(self._begun, rung, places)
            self._begun += 1
        return self._filling

    def _send(self, bracket: _Bracket, trial: int | None) -> Turn:
        """Orders a trial that waits, or a new one, to the bracket's rung."""
        if trial is None:
            trial, recipe = self._source.draw()
            self._runners[trial] = Runner(recipe)
            bracket.vacant -= 1
        bracket.out.add(trial)
        self._bracket_of[trial] = bracket
        recipe = self._runners[trial].recipe
        return Turn(trial, recipe, self._until(trial, bracket.rung))

    def _until(self, trial: int, rung: int) -> int:
        return self._ladder.until(self._runners[trial].recipe.epochs, rung)

    def tell(self, report: Report) -> None:
        """Takes note of a report on a trial that is being trained; others say nothing new."""
        trial = report.trial
        bracket = self._bracket_of.get(trial)
        if bracket is None or not self._runners[trial].hear(report, self._until(trial, bracket.rung)):
            return
        del self._bracket_of[trial]
        bracket.out.remove(trial)
        self._arrive(bracket, trial)
        while bracket.complete and bracket.number in self._brackets:
            self._promote(bracket)

    def _arrive(self, bracket: _Bracket, trial: int) -> None:
        bracket.there.append(trial)
        self._source.observe(trial, bracket.rung, self._runners[trial].standing)

    def _promote(self, bracket: _Bracket) -> None:
        """Lets the best go on to the next rung and forgets the others; ends the bracket where none can."""
        sound = [trial for trial in bracket.there if not self._runners[trial].lost]
        ranked = sorted(sound, key=lambda trial: (-self._runners[trial].best, trial))
        best = ranked[: max(1, self._ladder.kept(len(bracket.there)))]
        if bracket.rung == self._ladder.top:
            best = []
        for trial in set(bracket.there) - set(best):
            del self._runners[trial]
        bracket.there = []
        bracket.rung += 1
        for trial in best:
            further = self._until(trial, bracket.rung) > self._until(trial, bracket.rung - 1)
            if further and not self._runners[trial].ended:
                bracket.waiting.append(trial)
            else:
                self._arrive(bracket, trial)
        if bracket.waiting:
            heapq.heappush(self._ready, bracket.number)
        elif not bracket.there:
            del self._brackets[bracket.number]

    @property
    def finished(self) -> bool:
        """Whether the space is used up and every bracket done."""
        return not self._source.fresh and not self._brackets

    def state(self) -> dict[str, Any]:
        """The open brackets, and of their trials what `Ladder` and recipes do not tell."""
        return {"begun": self._begun, "brackets": [self._plain(one) for one in self._brackets.values()]}

    def _plain(self, bracket: _Bracket) -> dict[str, Any]:
        runners = self._runners
        return {
            "number": bracket.number,
            "rung": bracket.rung,
            "vacant": bracket.vacant,
            "waiting": [[trial, plain(runners[trial].best)] for trial in bracket.waiting],
            "out": [
                [trial, plain(runners[trial].best), runners[trial].sound] for trial in sorted(bracket.out)
            ],
            "there": [
                [trial, plain(runners[trial].standing), runners[trial].ended] for trial in bracket.there
            ],
        }

    def restore(self, state: dict[str, Any], recipes: Sequence[Recipe]) -> None:
        """Continues from what ``state()`` returned.

        Args:
            state: As it was.
            recipes: Of all trials drawn until then.
        """
        self._begun = state["begun"]
        for kept in state["brackets"]:
            bracket = _Bracket(kept["number"], kept["rung"], kept["vacant"])
            self._brackets[bracket.number] = bracket
            for trial, best in kept["waiting"]:
                self._runners[trial] = Runner(recipes[trial], score_of(best))
                bracket.waiting.append(trial)
            for trial, best, sound in kept["out"]:
                self._runners[trial] = Runner(recipes[trial], score_of(best), sound)
                self._bracket_of[trial] = bracket
                bracket.out.add(trial)
            for trial, best, ended in kept["there"]:
                self._runners[trial] = Runner(recipes[trial], score_of(best), None, ended, best is None)
                bracket.there.append(trial)
            if bracket.waiting:
                heapq.heappush(self._ready, bracket.number)
            if bracket.vacant:
                self._filling = bracket
