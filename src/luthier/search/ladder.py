"""`Ladder`: how far trials are trained before some are left behind. Arithmetic alone: it knows no trial."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

ETA = 3
"""Of so many trials one goes on. Li et al. 2018 recommend 3 or 4; their analysis is at its best at e."""
LEAST = 2
"""Epochs of the lowest rung at least. After one epoch the order of fine-tunings says little of the final
one: in the curves of QuickTune (see `defaults`) the rank correlation with the final accuracy is .34 then, .69
after two epochs, .82 after four. A lowest rung at one epoch drops the winner for good; one at four costs a
recipe of common length (three to twelve epochs) most of what there is to save. Replayed on those curves with
9, 27 and 50 epochs and budgets of 5 to 40 trainings, the best found is short of the best there is by 5.8
points with a lowest rung of one epoch or more, by 4.7 with two, by 6.8 with four (`test_search_ladder`)."""


@dataclass(frozen=True)
class Ladder:
    """Rungs of successive halving, 0 the lowest, ``top`` the whole training (Li et al. 2018, section 3).

    A rung is a share of a recipe's own epochs: ``eta ** (rung - top)`` of them, rounded up and never below
    ``least``; so recipes of different lengths meet at the same rungs. There are as many rungs as differ for a
    recipe of ``epochs``; for a shorter one some fall together, and cost nothing.

    Args:
        epochs: Of a typical recipe, >= 1.
        eta: One in so many goes on to the next rung, >= 2.
        least: Epochs at the lowest rung at least, >= 1.
    """

    epochs: int
    eta: int = ETA
    least: int = LEAST

    @cached_property
    def top(self) -> int:
        """The highest rung; s_max in the paper."""
        rung = 0
        while self._rounded(self.epochs, rung + 1) < self._rounded(self.epochs, rung):
            rung += 1
        return rung

    def _rounded(self, epochs: int, below: int) -> int:
        """Epochs at a rung so far below the top."""
        share: int = -(-epochs // self.eta**below)
        return min(epochs, max(self.least, share))

    def until(self, epochs: int, rung: int) -> int:
        """The epoch at which a recipe of ``epochs`` reaches a rung: 1 <= result <= epochs."""
        return self._rounded(epochs, self.top - rung)

    def kept(self, count: int) -> int:
        """How many of ``count`` trials go on from a rung."""
        return count // self.eta

    def bracket(self, index: int) -> tuple[int, int]:
        """The lowest rung and the number of trials of a bracket (Li et al. 2018, algorithm 1).

        Brackets repeat: the first begins at rung 0 with the most trials, the last trains a few to the end.

        Args:
            index: 0 for the first bracket of all.
        """
        s = self.top - index % (self.top + 1)
        trials: int = -(-(self.top + 1) * self.eta**s // (s + 1))
        return self.top - s, trials
