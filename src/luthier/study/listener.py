"""Who watches a study: a person's screen, a log, or nobody."""

from __future__ import annotations

from typing import Protocol

from luthier.trial import Report


class Listener(Protocol):
    """Told what a study does as it does it. Its methods must be quick: training waits for them."""

    def note(self, message: str) -> None:
        """One sentence for the user."""

    def trial_started(self, number: int, describe: str, epochs: int) -> None:
        """A trial begins."""

    def step(self, done: float) -> None:
        """The current trial has come this far, 0 to 1."""

    def report(self, report: Report, metric: str) -> None:
        """An epoch or a trial has ended."""

    def time(self, spent: float, budget: float) -> None:
        """Seconds used, of seconds asked for."""
