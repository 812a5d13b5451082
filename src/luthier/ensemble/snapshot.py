"""Snapshots: a training that goes through cycles of its rate, and leaves a network at each one's end.

Means of the weights along a training, instead of the answers, are in `averaging`.
"""

from __future__ import annotations

import math

from luthier.data.findings import counted
from luthier.ensemble.base import Average, Candidate
from luthier.ensemble.bench import Bench, Plan, Refused
from luthier.ensemble.ways import Context
from luthier.recipe import Recipe
from luthier.study.study import Finished

# Networks at most, the best trial among them: each further cycle takes half as long as that did.
SNAPSHOTS = 5


def cycle(best: Finished) -> Recipe:
    """What a cycle trains: the best trial's recipe, from its full rate down to zero along a cosine, for half
    the epochs that the trial took to its best (Huang et al. 2017, equation 2).
    """
    changes = {
        "schedule": "cosine", "warmup": 0.0, "epochs": max(1, math.ceil(best.epoch / 2)), "patience": None,
    }  # fmt: skip
    return best.recipe.model_copy(update=changes)


def snapshot(context: Context) -> Candidate | None:
    """The mean of the best trial and of what some cycles of warm restarts from its weights come to.

    The first snapshot is the trial itself. Each cycle starts from the weights of the one before, with a new
    optimizer, and gives those of its best epoch.
    """
    with Bench(context, "snapshot") as bench:
        kept = bench.kept()
        if not kept:
            raise Refused("no trial's weights are kept")
        best = kept[0]
        recipe = cycle(best)
        count = bench.affordable(recipe, min(SNAPSHOTS, context.parts) - 1, together=False)
        if count < 1:
            raise Refused(f"no time is left for a cycle of {counted(recipe.epochs, 'epoch')}")
        parts = [context.part(best)]
        for index in range(count):
            start = context.engine.checkpoints.load(parts[-1].trial)
            (part,) = bench.train([Plan(recipe, bench.seed(index), start=start)])
            if part is None:
                break
            parts.append(part)
        if len(parts) < 2:
            raise Refused("no cycle came to its end")
        answers = [bench.answers(part) for part in parts]
        combination = Average((1 / len(parts),) * len(parts))
        return bench.candidate(
            parts, combination, combination.outputs(context.task, answers),
            f"trial {best.trial} and {counted(len(parts) - 1, 'cycle')} of {counted(recipe.epochs, 'epoch')} "
            "from its weights",
        )  # fmt: skip
    return None
