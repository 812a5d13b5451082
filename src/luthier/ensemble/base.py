"""What an ensemble is: `Part`s, each a trained network, and how their outputs become one.

How parts are chosen or trained lives in one file a way; how an ensemble is stored in `saved`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from luthier.recipe import Recipe
from luthier.tasks.base import Task

Outputs = Sequence[np.ndarray]
"""n arrays, as `Task.outputs` cuts them."""


@dataclass(frozen=True)
class Part:
    """One network of an ensemble.

    Attributes:
        recipe: How it is built.
        seed: Of its trial.
        trial: Its weights' number among the engine's checkpoints; below zero for what no trial of the study
            has, such as an average of weights.
    """

    recipe: Recipe
    seed: int
    trial: int


class Combination(ABC):
    """How the outputs of some networks become one: plain numbers that survive a JSON file."""

    kind: ClassVar[str]

    @abstractmethod
    def outputs(self, task: Task, parts: Sequence[Outputs]) -> list[np.ndarray]:
        """The ensemble's outputs, to be judged and decoded like a network's.

        Args:
            task: The fitted task.
            parts: Each part's outputs on the same n examples.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """JSON values, without the kind."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: dict[str, Any]) -> Combination:
        """What `state` wrote."""


@dataclass(frozen=True)
class Average(Combination):
    """Weighted mean of the parts' answers, as the task takes means: of probabilities where it has them.

    Attributes:
        weights: One a part, together 1.
    """

    weights: tuple[float, ...]
    kind: ClassVar[str] = "average"

    def outputs(self, task: Task, parts: Sequence[Outputs]) -> list[np.ndarray]:
        """See `Task.blend`."""
        return list(parts[0]) if len(parts) == 1 else task.blend(parts, self.weights)

    def state(self) -> dict[str, Any]:
        """The weights."""
        return {"weights": list(self.weights)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Average:
        """From the weights."""
        return cls(tuple(float(weight) for weight in state["weights"]))


@dataclass
class Candidate:
    """An ensemble that could be shipped.

    Attributes:
        name: The way it was made, as ``--ensemble`` names it: ``greedy``, ``soup``, ...
        parts: Its networks; one only where weights were averaged or distilled.
        combination: How their outputs become one.
        validation: Its outputs on the validation split.
        seconds: What making it took.
        note: What a reader should know.
        refit: Outputs on all n validation rows of what would have been made of the same networks, had each
            row been there as often as (n,) counts say; None where nothing is fitted to validation rows after
            training. By it the gain is judged on rows that it was not fitted to.
    """

    name: str
    parts: list[Part]
    combination: Combination
    validation: list[np.ndarray]
    seconds: float = 0.0
    note: str = ""
    refit: Callable[[np.ndarray], list[np.ndarray]] | None = None
