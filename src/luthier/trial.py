"""What passes between strategy, study and engine: an `Order` goes down, `Report`s come up. Plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from luthier.recipe import Recipe

Status = Literal["running", "completed", "stopped", "failed"]


@dataclass(frozen=True)
class Order:
    """Start trial ``trial`` with ``recipe``, or take it further, until epoch ``until`` (1-based, inclusive).

    ``seed`` decides the new weights, the batches, dropout and augmentation. Strategies leave it alone: it is
    no setting to be searched, and the study gives each trial its own.
    ``parent`` is the trial whose weights a new one starts from, as they are after the last epoch it was
    ordered to; it must be of the same model and adaptation. None: the pre-trained weights and a new head.
    ``repeats`` is the trial whose recipe this one trains on another seed: the study's own affair, too.
    """

    trial: int
    recipe: Recipe
    until: int
    seed: int = 0
    parent: int | None = None
    repeats: int | None = None


@dataclass(frozen=True)
class Report:
    """What happened to a trial: one for each epoch (``running``), and one when its order ends.

    Attributes:
        trial: The trial's number, as in its order.
        epoch: Epochs finished so far (0 if it failed before the first ended).
        status: ``running`` after an epoch; then exactly one of ``completed`` (it did what was ordered, or
            stopped early by its own patience), ``stopped`` (the budget or the user ended it) or ``failed``.
        score: The objective after this epoch, higher is better; NaN where there is none. In the closing
            report: the best.
        metrics: All validation metrics after this epoch, by name (``loss`` and ``train_loss`` among them).
        seconds: Wall-clock seconds since the trial's previous report.
        peak_memory: Largest memory in bytes seen during the epoch (device memory on a GPU, resident set on a
            CPU).
        reason: Why it failed or was stopped; empty otherwise.
        best_epoch: In the closing report: the epoch whose weights were kept, 0 if none.
        trainable: In the closing report: parameters that were trained.
        parameters: In the closing report: parameters of the whole network, 0 if none was built.
    """

    trial: int
    epoch: int
    status: Status
    score: float = math.nan
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory: int = 0
    reason: str = ""
    best_epoch: int = 0
    trainable: int = 0
    parameters: int = 0
