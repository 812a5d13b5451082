"""Averages of the weights along one more training of the best recipe: SWA and EWA.

Averages of the weights of several trials are in `soup`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from luthier.data.findings import counted
from luthier.engine.group import explain
from luthier.engine.setting import Setting
from luthier.engine.state import Diverged, Halted
from luthier.ensemble.base import Average, Candidate, Part
from luthier.ensemble.bench import Bench, Refused
from luthier.ensemble.statistics import reestimated
from luthier.ensemble.ways import Context
from luthier.errors import RunError
from luthier.recipe import Recipe
from luthier.trial import Order

State = dict[str, torch.Tensor]
# SWA's rate, of the recipe's: it is to wander about a good place, not to leave it.
RATE = 0.5
# Weights that SWA averages, an epoch; fine-tunings have few epochs.
POINTS = 4
# EWA's memory, in epochs, each tried along the same training; and how often an epoch weights are looked at.
MEMORIES = (0.1, 0.3, 1.0)
LOOKS = 50


class Running:
    """An exponentially weighted mean of weights, without the pull of where it began.

    The sum of decay^age * weights over that of decay^age, as Adam's moments are corrected (Kingma & Ba 2015,
    section 3): decay 0 is the last weights, decay 1 the mean of all.

    Args:
        decay: What earlier weights count, from one look to the next; in [0, 1].
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.total = 0.0
        self.mean: State = {}

    def see(self, weights: State) -> None:
        """Takes in weights; they are not kept."""
        self.total = self.decay * self.total + 1
        share = 1 / self.total
        for name, value in weights.items():
            if not value.is_floating_point():
                self.mean[name] = value.clone()
            elif name not in self.mean or share == 1:
                self.mean[name] = value.to(torch.promote_types(value.dtype, torch.float32), copy=True)
            else:
                self.mean[name].lerp_(value.to(self.mean[name].dtype), share)


def swa(context: Context) -> Candidate | None:
    """The mean of the weights along a training at a constant rate, from the best trial's weights on
    (Izmailov et al. 2018, algorithm 1), which count as the first.
    """
    with Bench(context, "swa") as bench:
        kept = bench.kept()
        if not kept:
            raise Refused("no trial's weights are kept")
        best = kept[0]
        changes = {
            "schedule": "constant", "warmup": 0.0, "learning_rate": RATE * best.recipe.learning_rate,
            "epochs": max(2, math.ceil(best.epoch / 2)), "patience": None,
        }  # fmt: skip
        recipe = best.recipe.model_copy(update=changes)
        start = context.engine.checkpoints.load(best.trial)
        order = Order(bench.number(), recipe, recipe.epochs, bench.seed(0))
        context.engine.start_from(order.trial, start)
        mean = Running(1.0)
        setting = _along(bench, order, [mean], POINTS, first=True)
        (part,), (outputs,) = _judged(bench, setting, recipe, order.seed, [mean])
        note = f"the mean of the weights along {counted(recipe.epochs, 'epoch')} from trial {best.trial} on"
        return bench.candidate([part], Average((1.0,)), outputs, note)
    return None


def ewa(context: Context) -> Candidate | None:
    """The exponentially weighted mean of the weights along a training of the best recipe, for some decays;
    the best of them on validation (Polyak & Juditsky 1992; Morales-Brotons et al. 2024).
    """
    with Bench(context, "ewa") as bench:
        if not context.ranked:
            raise Refused("no trial came to its end")
        best = context.ranked[0]
        recipe = best.recipe.model_copy(update={"patience": None})
        order = Order(bench.number(), recipe, recipe.epochs, best.seed)
        rows = len(context.engine.inputs.frames["train"])
        looks = min(LOOKS, math.ceil(rows / recipe.batch_size))
        means = [Running(math.exp(-1 / (looks * memory))) for memory in MEMORIES]
        setting = _along(bench, order, means, looks)
        parts, answers = _judged(bench, setting, recipe, order.seed, means)
        which = max(range(len(parts)), key=lambda at: bench.judged(answers[at]))
        note = f"the mean of the weights along the best recipe's training, over the last {MEMORIES[which]:g} "
        return bench.candidate([parts[which]], Average((1.0,)), answers[which], note + "epochs or so")
    return None


def _along(
    bench: Bench, order: Order, means: Sequence[Running], looks: int, *, first: bool = False
) -> Setting:
    """Trains, and shows the means the weights so often an epoch.

    Raises:
        Refused: Time does not suffice, or the training fails.
    """
    if not bench.affordable(order.recipe, 1):
        raise Refused(f"no time is left for {counted(order.recipe.epochs, 'epoch')} of the best recipe")
    try:
        setting, stack = bench.engine.begin([order], halt=bench.stop)
        if first:
            _see(means, stack.weights(0))
        look = _every(looks, stack.steps_per_epoch, lambda: _see(means, stack.weights(0)))
        for _ in range(order.until):
            (result,) = stack.run_epoch(bench.stop, look)
            if isinstance(result, Diverged):
                raise Refused(str(result))
    except (RunError, Refused):
        raise
    except Halted as halted:
        raise Refused(f"{halted} before its training was over") from None
    except Exception as error:  # As in the engine: a training that fails is a result with a reason.
        raise Refused(explain(error)) from error
    return setting


def _every(looks: int, steps: int, look: Callable[[], None]) -> Callable[[float], None]:
    """Told the share of an epoch that is done, looks so often an epoch, the last time at its end."""
    places = {math.ceil((place + 1) * steps / looks) for place in range(min(looks, steps))}

    def on_step(done: float) -> None:
        if round(done * steps) in places:
            look()

    return on_step


def _see(means: Sequence[Running], weights: State) -> None:
    for mean in means:
        mean.see(weights)


def _judged(
    bench: Bench, setting: Setting, recipe: Recipe, seed: int, means: Sequence[Running]
) -> tuple[list[Part], list[list[np.ndarray]]]:
    """Networks of the means, and what they say of the validation split."""
    parts = []
    for mean in means:
        state = reestimated(bench, recipe, seed, setting.whole(mean.mean))
        parts.append(bench.saved(recipe, seed, state))
    return parts, [bench.answers(part) for part in parts]
