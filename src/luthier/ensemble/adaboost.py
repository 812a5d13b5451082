"""AdaBoost over linear heads on frozen features: each learns most from what those before it got wrong.

For one class an example; what fits the slopes of any loss is in `boosting`.
"""

from __future__ import annotations

import math

import numpy as np

from luthier.engine.lesson import Lesson
from luthier.ensemble.base import Average, Candidate, Part
from luthier.ensemble.bench import Bench, Plan, Refused
from luthier.ensemble.frozen import recipes
from luthier.ensemble.ways import Context
from luthier.recipe import Recipe


def vote(error: float, classes: int) -> float:
    """What a head counts: log((1 - error) / error) + log(classes - 1); Zhu et al. 2009, SAMME, step 2(c).

    Args:
        error: Its weighted share of wrong answers, above 0. From 1 - 1 / classes on, where it guesses, its
            vote is 0 or less.
        classes: How many there are.
    """
    return math.log((1 - error) / error) + math.log(classes - 1)


def reweighted(shares: np.ndarray, wrong: np.ndarray, amount: float) -> np.ndarray:
    """(n,) shares of rows, together 1, after a head with this vote; Zhu et al. 2009, SAMME, steps 2(d), (e).

    Args:
        shares: (n,) before.
        wrong: (n,) bool, where the head was wrong.
        amount: Its `vote`.
    """
    found = shares * np.exp(amount * wrong)
    return np.asarray(found / found.sum())


def adaboost(context: Context) -> Candidate | None:
    """Linear heads trained one after the other on reweighted rows (Zhu et al. 2009, SAMME).

    Rows are weighted in the loss, not drawn. The heads' probabilities are averaged by their votes, where the
    paper counts the votes themselves: so the answer keeps probabilities. How many heads there are is chosen
    on validation; all of them read the same frozen features.
    """
    with Bench(context, "adaboost") as bench:
        if context.task.target_kind != "class" or context.task.level != "example":
            raise Refused("it is for tasks with one class an example")
        if not context.ranked:
            raise Refused("no trial came to its end")
        recipe = _recipe(bench)
        if recipe is None or bench.affordable(recipe, 2, together=False) < 2:
            raise Refused("no time is left for two linear heads")
        parts, votes = _rounds(bench, recipe)
        if len(parts) < 2:
            raise Refused("after one head there was nothing to correct, or no time to")
        answers = [bench.answers(part) for part in parts]
        prefixes = range(2, len(parts) + 1)
        means = {size: _mean(votes[:size]) for size in prefixes}
        said = {size: means[size].outputs(context.task, answers[:size]) for size in prefixes}
        size = max(prefixes, key=lambda size: (*bench.judged(said[size]), -size))
        return bench.candidate(
            parts[:size], means[size], said[size], f"{size} linear heads on the same frozen features"
        )
    return None


def _recipe(bench: Bench) -> Recipe | None:
    """What each round trains: a rate that does well on the rows as they are."""
    found = recipes(bench)
    if len(found) == 1:
        return found[0]
    if not bench.affordable(found[0], len(found)):
        return None
    parts = [part for part in bench.train([Plan(each, bench.seed(0)) for each in found]) if part is not None]
    best = max(parts, key=lambda part: bench.judged(bench.answers(part)), default=None)
    return None if best is None else best.recipe


def _rounds(bench: Bench, recipe: Recipe) -> tuple[list[Part], list[float]]:
    """Heads and their votes, until time ends or a head guesses or makes no error."""
    truth = np.asarray(bench.engine.inputs.targets("train"), dtype=np.int64)
    known, classes = truth >= 0, bench.task.num_outputs
    shares = known / known.sum()
    parts: list[Part] = []
    votes: list[float] = []
    while len(parts) < bench.context.parts and bench.stop() is None:
        # Weights of 1 on the whole keep the rate's meaning.
        lesson = Lesson(weights=shares * len(truth))
        (part,) = bench.train([Plan(recipe, bench.seed(1 + len(parts)), lesson)])
        if part is None:
            break
        said = np.argmax(np.stack(bench.answers(part, "train")), axis=1)
        wrong = known & (said != truth)
        error = float(shares[wrong].sum())
        if error >= 1 - 1 / classes:
            break
        parts.append(part)
        # A head without an error would count all: one that was wrong on half a row counts much.
        votes.append(vote(max(error, 0.5 / known.sum()), classes))
        if not wrong.any():
            break
        shares = reweighted(shares, wrong, votes[-1])
    return parts, votes


def _mean(votes: list[float]) -> Average:
    total = sum(votes)
    return Average(tuple(amount / total for amount in votes))
