"""`Runner`: what is known of a trial that may be taken further; `Turn`: that it is. When, the schedules
decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from luthier.recipe import Recipe
from luthier.trial import Report


class Turn(NamedTuple):
    """A trial to train next, and the epoch until which."""

    trial: int
    recipe: Recipe
    until: int


def plain(score: float) -> float | None:
    """A score as JSON has it: there is no infinity in JSON, and none of these is a score."""
    return score if math.isfinite(score) else None


def score_of(value: float | None) -> float:
    """The score that `plain` stands for."""
    return -math.inf if value is None else value


@dataclass(slots=True)
class Runner:
    """A trial and how it fares.

    Attributes:
        recipe: Its settings.
        best: The best score so far, as a study judges trials; -inf without any.
        sound: Whether the last epoch of the present order had a score; None before its first epoch.
        ended: It stopped by its own patience: its score is final, and there is nothing to continue.
        lost: It failed, was stopped from outside, or its last epoch had no score, as after diverging.
    """

    recipe: Recipe
    best: float = -math.inf
    sound: bool | None = None
    ended: bool = False
    lost: bool = False

    def hear(self, report: Report, until: int) -> bool:
        """Takes note of a report on an order to epoch ``until``; whether the order is closed with it."""
        scored = math.isfinite(report.score)
        if scored:
            self.best = max(self.best, float(report.score))
        if report.status == "running":
            self.sound = scored
            return False
        # The best of all epochs, which a closing report has, does not show that the last had none.
        sound = scored if self.sound is None else self.sound
        self.lost = report.status != "completed" or not sound
        self.ended = not self.lost and (report.epoch < until or bool(report.reason))
        self.sound = None
        return True

    @property
    def standing(self) -> float:
        """What it is ranked by: the best score, or -inf if it is lost."""
        return -math.inf if self.lost else self.best
