"""`Hyperband`: many trials briefly, few to the end. The rungs live in `ladder`, who goes on in `halving` and
`asha`, where recipes come from in `source` and `bohb`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from luthier.search.asha import Asha
from luthier.search.base import Order, Report, Strategy
from luthier.search.bohb import ModelSource
from luthier.search.halving import Halving
from luthier.search.ladder import Ladder
from luthier.search.source import Source
from luthier.space import Space


class Hyperband(Strategy):
    """Hyperband (Li et al. 2018) over epochs: trials pause at rungs, and only the best third goes on.

    The resource is a recipe's own ``epochs``; a rung is a share of them, so recipes of different lengths can
    be compared (see `Ladder`, also for why the lowest rung is at two epochs or more). A trial that goes on is
    continued from where it stands, never trained again. Trial 0 is the space's default and the others are
    quasi-random, as in `Random`; brackets repeat until the space is used up.

    Options:

    - ``asha``: does not wait for a rung's slower trials (Li et al. 2020): for many workers.
    - ``bohb``: a model of good and bad recipes proposes those of new brackets (Falkner et al. 2018).

    Args:
        space: What may be varied. How many rungs there are follows from the epochs of its default.
        seed: Seed of all randomness.
        option: ``asha``, ``bohb`` or empty.
    """

    name: ClassVar[str] = "hyperband"
    options: ClassVar[Sequence[str]] = ("asha", "bohb")

    def __init__(self, space: Space, seed: int = 0, option: str = "") -> None:
        super().__init__(space, seed, option)
        self._ladder = Ladder(space.default().epochs)
        self._source = ModelSource(space, seed) if option == "bohb" else Source(space, seed)
        kind = Asha if option == "asha" else Halving
        self._schedule = kind(self._ladder, self._source)

    def ask(self, room: int) -> list[Order]:
        """The next ``room`` trials, new or continued; those of one rung at a time unless it is ``asha``."""
        return [Order(trial, recipe, until) for trial, recipe, until in self._schedule.ask(room)]

    def tell(self, report: Report) -> None:
        """Takes note of a report; a trial has reached its rung when its order is closed."""
        self._schedule.tell(report)

    @property
    def finished(self) -> bool:
        """Whether the space is used up and every trial has been left behind or trained to its end."""
        return self._schedule.finished

    def state(self) -> dict[str, Any]:
        """The trials that can still go on; recipes follow from the seed (and the model's proposals)."""
        return {"source": self._source.state(), "schedule": self._schedule.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Draws the recipes again and takes every trial to where it stood."""
        self._schedule.restore(state["schedule"], self._source.restore(state["source"]))

    def notes(self) -> list[str]:
        """A warning where there is nothing between the first epochs and the last."""
        if self._ladder.top:
            return []
        least, epochs = self._ladder.least, self._ladder.epochs
        return [
            f"Hyperband pauses trials after {least} epochs or more, and the recipes of this space have about "
            f"{epochs}: every trial is trained to its end. More epochs would give it something to save."
        ]
