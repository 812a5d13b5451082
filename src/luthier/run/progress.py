"""What a run tells whoever watches: all that a study tells, and the stages around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from luthier.study.listener import Listener
from luthier.trial import Report

if TYPE_CHECKING:
    from luthier.run.result import Result


class Progress(Listener, Protocol):
    """Told of stages as they begin, and of the result."""

    def stage(self, name: str) -> None:
        """A stage begins: reading, ranking, searching, proving, ..."""

    def finished(self, result: Result) -> None:
        """The run is over and its folder complete."""


class Silent:
    """A `Progress` that shows nothing."""

    def stage(self, name: str) -> None:
        """Nothing is shown."""

    def note(self, message: str) -> None:
        """Nothing is shown."""

    def trial_started(self, number: int, describe: str, epochs: int) -> None:
        """Nothing is shown."""

    def step(self, done: float) -> None:
        """Nothing is shown."""

    def report(self, report: Report, metric: str) -> None:
        """Nothing is shown."""

    def time(self, spent: float, budget: float) -> None:
        """Nothing is shown."""

    def finished(self, result: Result) -> None:
        """Nothing is shown."""
