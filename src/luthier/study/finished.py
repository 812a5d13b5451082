"""`Finished`: a trial that came to something, as the search leaves it. What is written down is `records`."""

from __future__ import annotations

from dataclasses import dataclass

from luthier.recipe import Recipe


@dataclass(frozen=True)
class Finished:
    """A trial whose weights can be used.

    Attributes:
        trial: Its number.
        recipe: Its settings.
        seed: Its seed.
        score: Of its best epoch, higher is better.
        loss: Validation loss of that epoch, which decides between equal scores.
        epoch: The best epoch, 1-based.
        seconds: Wall-clock seconds it took.
        repeats: The trial whose recipe it trained on another seed, or None.
    """

    trial: int
    recipe: Recipe
    seed: int
    score: float
    loss: float
    epoch: int
    seconds: float
    repeats: int | None = None
