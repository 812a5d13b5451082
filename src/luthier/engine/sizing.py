"""`Sizing`: how many trials go in a stack: as many as pay and fit in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from luthier.engine.cost import CostModel
from luthier.engine.memory import MemoryModel, available, is_out_of_memory
from luthier.engine.plan import structure
from luthier.engine.setting import STEPS, Setting
from luthier.engine.stacked import Unstackable
from luthier.engine.watchdog import Hung
from luthier.recipe import Recipe
from luthier.trial import Order

# Heads on cached vectors that are trained together: they take next to no memory.
HEADS = 1024
# Most trials of other kinds in a stack, on an accelerator and on a CPU; see docs/engine.md for the
# measurements.
STACK = (64, 8)
# Share of the steps ahead that may be spent on seeing which size of a stack is faster.
TRYING = 0.02
# The number of a trial that nothing is kept of.
UNKNOWN = -(10**9)


class Sizing:
    """Sizes of stacks on one device, by what was measured of each structure.

    Args:
        device: Where trials train.
        cost: Knows what stacks of some sizes took.
        stack: Trials in a stack at most, or None for as many as pay and fit.
    """

    def __init__(self, device: torch.device, cost: CostModel, stack: int | None) -> None:
        self.device = device
        self.cost = cost
        self.stack = stack
        self.memory = MemoryModel()
        self._gains: dict[tuple[Any, ...], bool] = {}

    @property
    def room(self) -> int:
        """Trials that can be of use at once: with more, no stack grows."""
        return self.stack or STACK[self.device.type == "cpu"]

    def gains_by_company(self, recipe: Recipe) -> bool:
        """Whether trials like this one cost less with others beside them than one after the other.

        On a CPU a whole network in training keeps its arithmetic busy by itself: a stack of four takes .96 of
        what four take alone. Where parts are frozen a stack reads and calls less.
        """
        return self.device.type != "cpu" or recipe.adaptation != "full"

    def of(self, setting: Setting, orders: Sequence[Order], epochs: int) -> int:
        """How many of these trials go in a stack.

        Args:
            setting: What they have in common.
            orders: All of them.
            epochs: That are ahead of all of them together.
        """
        if self.stack is not None:
            return self.stack
        if setting.closed_form:
            return HEADS
        cap = min(len(orders), self.room)
        if cap == 1:
            return 1
        recipe, shape = setting.recipe, structure(setting.recipe)
        if self.memory.activations(shape) is None:
            self.memory.note(shape, *setting.measure())
        fitting = self.memory.largest_size(
            shape, trainable=setting.trainable, optimizer="adamw", cap=cap, available=available(self.device),
            batch=-(-recipe.batch_size // recipe.accumulate),
        )  # fmt: skip
        if self._worth_timing(setting, epochs, fitting):
            fitting = self._faster(setting, orders[:fitting])
        elif setting.convolves and self.device.type == "cpu" and shape not in self._gains:
            # Measured where it was tried: a stack of four takes twice the time that four take alone.
            return 1
        return self.cost.best_size(setting.source.fingerprint, recipe, fitting)

    def _worth_timing(self, setting: Setting, epochs: int, size: int) -> bool:
        """Whether nothing is known of stacks of this shape, and trying is little beside the work ahead."""
        ahead = epochs * math.ceil(len(setting.train) / setting.recipe.batch_size)
        trying = (1 + STEPS) * (1 + size)
        known = self.cost.has_sizes(setting.source.fingerprint, setting.recipe)
        return size > 1 and not known and trying <= TRYING * ahead

    def _faster(self, setting: Setting, orders: Sequence[Order]) -> int:
        """One, or as many as there are: whichever takes less of a trial's time, by some steps of both.

        A larger stack saves calls, but what it works on may no longer fit in a processor's caches.
        """
        shape = structure(setting.recipe)
        if shape not in self._gains:
            fresh = [setting.live(replace(order, trial=UNKNOWN, parent=None)) for order in orders]
            try:
                self._gains[shape] = setting.pace(fresh) < setting.pace(fresh[:1])
            except Exception as error:
                if not (isinstance(error, Unstackable | Hung) or is_out_of_memory(error)):
                    raise
                self._gains[shape] = True  # Whoever trains them deals with it, and says so.
        return len(orders) if self._gains[shape] else 1
