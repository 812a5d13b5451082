"""Who watches a study: a person's screen, a log, or nobody."""

from __future__ import annotations

from typing import Protocol

from luthier.trial import Report


class Listener(Protocol):
    """Told what a study does as it does it. Its methods must be quick: training waits for them."""

    def note(self, message: str) -> None:
        """One sentence for the user."""

    def trial_started(self, number: int, describe: str, epochs: int) -> None:
        """A trial begins; others may be in training with it."""

    def step(self, done: float) -> None:
        """What is in training has come this far, 0 to 1."""

    def report(self, report: Report, metric: str) -> None:
        """An epoch of a trial, or a trial, has ended. Those of trials in training together come mixed."""

    def time(self, spent: float, budget: float) -> None:
        """Seconds used, of seconds asked for."""
