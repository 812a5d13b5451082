"""The `Strategy` contract: what proposes recipes. Knows recipes and numbers, never models or the clock on the
wall.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from luthier.recipe import Recipe
from luthier.search.past import PastStudy
from luthier.space import Space
from luthier.trial import Order, Report, Status

__all__ = ["Order", "Report", "Status", "Strategy"]


class Strategy(ABC):
    """Proposes orders and learns from reports.

    A strategy is deterministic in its arguments and the reports told to it, and is owned by one study: it is
    never called from two threads. ``state()`` after any call, given to ``restore()`` on a new object made
    with the same arguments, continues exactly: the same next orders.

    In a study, orders that were given together are reported together, before it is asked again: trial by
    trial in the order of their numbers, each with its epochs and then its end, however they were run. With
    workers that run on their own it is asked while other orders are out: it then gives what does not depend
    on them, or nothing for now.

    Args:
        space: What may be varied. Values of constants and inactive settings come from the recipe's defaults.
        seed: Seed of all randomness.
        option: One of ``options``, as in ``--strategy hyperband:asha``; empty for the usual form.
    """

    name: ClassVar[str]
    options: ClassVar[Sequence[str]] = ()
    """Other forms that it can take."""
    uses_priors: ClassVar[bool] = True
    """Whether recipes are proposed more often where the space's priors say good ones lie."""
    inherits: ClassVar[bool] = False
    """Whether orders may name a parent, whose weights a new trial starts from."""

    def __init__(self, space: Space, seed: int = 0, option: str = "") -> None:
        self.space = space
        self.seed = seed
        self.option = option

    def recall(self, studies: Sequence[PastStudy]) -> None:
        """Told, before anything else, of past studies that were like this one; most make nothing of them.

        Args:
            studies: Such as that of a run which this one continues.
        """
        return

    @abstractmethod
    def ask(self, room: int) -> list[Order]:
        """At most ``room`` (>= 1) orders to run next; empty if nothing is left to propose, for now or for
        good.
        """

    def foresee(self, seconds: float, cost: Callable[[Recipe], tuple[float, float] | None]) -> None:
        """Told before it is asked what is known of time; most make nothing of it.

        Args:
            seconds: Left of the budget.
            cost: What a recipe is predicted to take: seconds once, and for each epoch; None if unknown.
        """
        return

    @abstractmethod
    def tell(self, report: Report) -> None:
        """Takes note of a report. Failures and NaN scores are results like any other."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """True when no further order will come, whatever is told."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything needed to continue, as plain JSON values."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Continues from what ``state()`` returned."""

    def total(self) -> int | None:
        """How many trials there will be in all, or None if that is not known beforehand."""
        return None

    def notes(self) -> list[str]:
        """What the user should know before the search starts, a sentence each; later, also why it ended by
        itself.
        """
        return []
