"""Gradient boosting on frozen features, shipped as one network: its stages are units of one ``mlp`` head.

How stages are fitted lives in `stages`; boosting by reweighted rows in `adaboost`.
"""

from __future__ import annotations

import numpy as np
import torch

from luthier.data.findings import counted
from luthier.engine.heads import BIAS, WEIGHT
from luthier.engine.prefix import Features
from luthier.ensemble.base import Average, Candidate, Part
from luthier.ensemble.bench import Bench, Refused
from luthier.ensemble.frozen import linear
from luthier.ensemble.stages import Hidden, Rows, boost
from luthier.ensemble.ways import Context
from luthier.recipe import Recipe

SHRINKAGES = (0.03, 0.1, 0.3, 1.0)
UNITS, STAGES = 8, 60


def boosting(context: Context) -> Candidate | None:
    """Small networks fitted one after the other to what is left of the loss (Friedman 2001), from the best
    linear head on.

    A linear layer is exactly two units of a GELU layer an output, and so the sum of all is one head of one
    hidden layer: it costs next to nothing more than the linear one. Stages and shrinkage are chosen by
    validation loss.
    """
    with Bench(context, "boosting") as bench:
        if context.task.level != "example":
            raise Refused("it is for tasks with one answer an example")
        if not context.ranked:
            raise Refused("no trial came to its end")
        if bench.stop() is not None:
            raise Refused("no time is left")
        part = linear(bench)
        if part is None:
            raise Refused("no linear head was at hand, or could be trained in time")
        splits = ("train", "validation")
        seconds = sum(bench.judging_seconds(part.recipe, name) for name in splits)
        if seconds > context.left:
            raise Refused(f"frozen features take {seconds:.0f} s, {max(0, context.left):.0f} s are left")
        train, validation = (_features(bench, part, name) for name in splits)
        begin = _begin(bench, part, train)
        width = train.values.shape[1]
        room = (width - begin.units) // UNITS
        if room < 1:
            raise Refused(f"vectors of {width} numbers have no room for stages beside the linear head")
        result = boost(
            context.task, _rows(train), _rows(validation), begin,
            shrinkages=SHRINKAGES, units=UNITS, stages=min(STAGES, room), seed=bench.seed(1), stop=bench.stop,
        )  # fmt: skip
        if not result.stages:
            raise Refused("no stage did better on validation than what it starts from")
        made = bench.saved(_recipe(part.recipe), part.seed, _state(result.network.padded(width)))
        return bench.candidate(
            [made], Average((1.0,)), bench.answers(made),
            f"{counted(result.stages, 'stage')} of {UNITS} units, shrinkage {result.shrinkage:g}, on "
            + ("a linear head" if begin.units else "what the majority says"),
        )  # fmt: skip
    return None


def _features(bench: Bench, part: Part, name: str) -> Features:
    return bench.engine.features(part.recipe, name, bench.network(part.recipe, part.seed))


def _rows(features: Features) -> Rows:
    return Rows(features.values.float(), features.targets_of(np.arange(len(features))))


def _begin(bench: Bench, part: Part, train: Features) -> Hidden:
    """The linear head; where the hidden layer has no room for it, what the majority says."""
    state = bench.engine.checkpoints.load(part.trial)
    weight, bias = state[WEIGHT].float(), state[BIAS].float()
    if 4 * len(weight) <= train.values.shape[1]:
        return Hidden.of_linear(weight, bias)
    answers = bench.engine.inputs.targets("train")
    constant = torch.from_numpy(bench.task.majority(answers, answers[:1])[0]).float()
    return Hidden(weight[:0], bias[:0], weight.new_zeros(len(constant), 0), constant)


def _recipe(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"head": "mlp", "head_dropout": 0.0, "head_init": "random"})


def _state(head: Hidden) -> dict[str, torch.Tensor]:
    """As `Network.trained_state` names it."""
    return {
        "head.dense.weight": head.weight, "head.dense.bias": head.bias,
        "head.classifier.weight": head.output, "head.classifier.bias": head.constant,
    }  # fmt: skip
