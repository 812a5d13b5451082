"""`Evolution`: the strategy by its name, in either form. The forms live in `generations` and `dehb`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from luthier.search.base import Order, Report, Strategy
from luthier.search.dehb import Dehb
from luthier.search.generations import Generations
from luthier.space import Space


class Evolution(Strategy):
    """Evolutionary search: whole trainings (see `Generations`), or many short and few long ones (see `Dehb`).

    Args:
        space: What is searched.
        seed: Of all draws.
        option: Empty for `Generations`, ``dehb`` for `Dehb`.
    """

    name: ClassVar[str] = "evolution"
    options: ClassVar[Sequence[str]] = ("dehb",)

    def __init__(self, space: Space, seed: int = 0, option: str = "") -> None:
        super().__init__(space, seed, option)
        self.form: Strategy = Dehb(space, seed) if option == "dehb" else Generations(space, seed)

    def ask(self, room: int) -> list[Order]:
        """What the form proposes."""
        return self.form.ask(room)

    def tell(self, report: Report) -> None:
        """Tells the form."""
        self.form.tell(report)

    @property
    def finished(self) -> bool:
        """Whether the space is used up."""
        return self.form.finished

    def state(self) -> dict[str, Any]:
        """The form's state."""
        return self.form.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Restores the form."""
        self.form.restore(state)
