"""What a trial is between two epochs: taken out of one stack, kept, and put into another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from luthier.engine.kept import Later
from luthier.engine.lesson import Lesson
from luthier.recipe import Recipe


@dataclass
class TrialState:
    """Everything that a training needs to go on as if it had never stopped.

    Random numbers need no place here: those of an epoch are a function of the seed and the epoch.

    Attributes:
        weights: What is trained, as `Network.trained_state` names it.
        optimizer: Parameter name to the optimizer's tensors for it, named as torch.optim does (``exp_avg``,
            ``momentum_buffer``, ``step``, ...); empty before the first step.
        epoch: Finished epochs.
        steps: Optimizer steps so far; the schedule goes by it.
        best: The weights of the best epoch, named like ``weights``; empty before the first epoch ended.
        best_epoch: The epoch they are of, 1-based; 0 if none.
        best_score: Its score, higher is better.
        best_metrics: All its metrics.
        said: What it said of the validation split, until that is written down; None where nothing is to be.
    """

    weights: dict[str, torch.Tensor]
    optimizer: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    epoch: int = 0
    steps: int = 0
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    best_score: float = -math.inf
    best_metrics: dict[str, float] = field(default_factory=dict)
    said: Later | None = None


@dataclass
class Member:
    """One trial as a stack sees it.

    Attributes:
        recipe: Its settings.
        seed: What its batches, dropout and augmentation depend on, together with the epoch.
        state: Where it stands; replaced as it goes on.
        start: The weights that L2-SP pulls to (Li et al. 2018); empty where the recipe does not ask for it.
        class_weights: (outputs,) weights of classes in the training loss, or None.
        lesson: What it learns from; None for each training row once, with its own answer.
    """

    recipe: Recipe
    seed: int
    state: TrialState
    start: dict[str, torch.Tensor] = field(default_factory=dict)
    class_weights: torch.Tensor | None = None
    lesson: Lesson | None = None

    @property
    def rows(self) -> np.ndarray | None:
        """The training rows that an epoch goes through, or None for each once."""
        return None if self.lesson is None else self.lesson.rows


@dataclass
class Position:
    """Where in the middle of an epoch a stack stands.

    Attributes:
        step: Steps taken.
        seconds: Wall-clock seconds they took.
        totals: (members,) summed losses so far.
        noise: Each member's state of random numbers.
    """

    step: int
    seconds: float
    totals: torch.Tensor
    noise: list[Any]

    def part(self, first: int, size: int) -> Position:
        """That of some of the members, who go on in a stack of their own."""
        whole, end = len(self.totals), first + size
        return Position(
            self.step, self.seconds * size / whole, self.totals[first:end].clone(), self.noise[first:end]
        )


@dataclass(frozen=True)
class EpochResult:
    """One trial's finished epoch.

    Attributes:
        epoch: Its number, 1-based.
        metrics: Validation metrics and ``train_loss``.
        seconds: Its share of the wall-clock seconds of its stack's epoch.
        peak_memory: Largest memory in bytes during the epoch.
    """

    epoch: int
    metrics: dict[str, float]
    seconds: float
    peak_memory: int


class Diverged(Exception):
    """A trial's loss is no longer a finite number; the message says where."""


class Unjudged(Diverged):
    """There is no validation loss, though the trial may be sound: training knows none of the answers."""


def of_validation(loss: float, epoch: int, outputs: Sequence[np.ndarray]) -> Diverged:
    """What to make of a validation loss that is not finite.

    Args:
        loss: NaN or infinite.
        epoch: After which it was found.
        outputs: What the trial said of the validation split.
    """
    if math.isnan(loss) and all(bool(np.isfinite(output).all()) for output in outputs):
        return Unjudged("no validation example has an answer that training knows, so none gives a loss")
    return Diverged(f"the validation loss became {loss} in epoch {epoch}")


class Halted(Exception):
    """The caller asked to stop in the middle of an epoch; the message says why."""
