"""Bagging: the best recipe trained on bootstrap resamples of the training rows, in one stack.

Networks whose answers depend much on the rows that they happened to see gain by it; stable ones hardly do.
"""

from __future__ import annotations

import numpy as np

from luthier.engine.batches import generator
from luthier.engine.lesson import Lesson
from luthier.ensemble.base import Average, Candidate
from luthier.ensemble.bench import Bench, Plan, Refused
from luthier.ensemble.ways import Context

# Below this a mean is hardly steadier than what it is of; fewer only where no more parts are wanted.
FEWEST = 3


def resample(count: int, seed: int) -> np.ndarray:
    """(count,) rows drawn with replacement: a function of the seed alone."""
    return generator(seed, 7).integers(0, count, size=count)


def bagging(context: Context) -> Candidate | None:
    """The mean of networks of the best recipe, each trained on its own resample (Breiman 1996, section 1).

    Each member has a resample of as many rows as there are, and a head and batches of its own seed. Frozen
    outputs are computed once for all of them.
    """
    with Bench(context, "bagging") as bench:
        if not context.ranked:
            raise Refused("no trial came to its end")
        recipe = context.ranked[0].recipe
        count, fewest = bench.affordable(recipe, context.parts), max(2, min(FEWEST, context.parts))
        if count < fewest:
            raise Refused(f"time is left for {count} trainings of the best recipe, and it takes {fewest}")
        rows = len(context.engine.inputs.frames["train"])
        seeds = [bench.seed(index) for index in range(count)]
        plans = [Plan(recipe, seed, Lesson(rows=resample(rows, seed))) for seed in seeds]
        parts = [part for part in bench.train(plans) if part is not None]
        if len(parts) < fewest:
            raise Refused(f"{len(parts)} of {count} trainings came to their end")
        answers = [bench.answers(part) for part in parts]
        combination = Average((1 / len(parts),) * len(parts))
        return bench.candidate(
            parts, combination, combination.outputs(context.task, answers),
            f"{len(parts)} networks of the best recipe, each on a bootstrap resample of the training rows",
        )  # fmt: skip
    return None
