"""The `Strategy` contract: what proposes recipes. Knows recipes and numbers, never models or the clock on the wall."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from luthier.recipe import Recipe
from luthier.space import Space

Status = Literal["running", "completed", "stopped", "failed"]


@dataclass(frozen=True)
class Order:
    """Start trial ``trial`` with ``recipe``, or take it further, until epoch ``until`` (1-based, inclusive)."""

    trial: int
    recipe: Recipe
    until: int


@dataclass(frozen=True)
class Report:
    """What happened to a trial: one for each epoch (``running``), and one when it ends.

    Attributes:
        trial: The trial's number, as in its order.
        epoch: Epochs finished so far (0 if it failed before the first ended).
        status: ``running`` after an epoch; then exactly one of ``completed`` (it did what was ordered, or stopped early
            by its own patience), ``stopped`` (the budget or the user ended it) or ``failed``.
        score: The objective after this epoch, higher is better; NaN where there is none. In the closing report: the best.
        metrics: All validation metrics after this epoch, by name (``loss`` among them).
        seconds: Wall-clock seconds since the trial's previous report.
        peak_memory: Largest memory in bytes seen during the epoch (device memory on a GPU, resident set on a CPU).
        reason: Why it failed or was stopped; empty otherwise.
    """

    trial: int
    epoch: int
    status: Status
    score: float
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory: int = 0
    reason: str = ""


class Strategy(ABC):
    """Proposes orders and learns from reports.

    A strategy is deterministic in its arguments and the reports told to it, and is owned by one study: it is never called
    from two threads. ``state()`` after any call, given to ``restore()`` on a new object made with the same arguments,
    continues exactly: the same next orders.

    Args:
        space: What may be varied. Values of constants and inactive settings come from the recipe's defaults.
        seed: Seed of all randomness.
    """

    name: ClassVar[str]

    def __init__(self, space: Space, seed: int = 0) -> None:
        self.space = space
        self.seed = seed

    @abstractmethod
    def ask(self, room: int) -> list[Order]:
        """At most ``room`` (>= 1) orders to run next; empty if nothing is left to propose, for now or for good."""

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
