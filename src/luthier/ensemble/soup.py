"""Soups: the weights of several trials averaged into one network, which costs what one costs.

Averages of weights along one training are in `averaging`; of outputs, elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from luthier.ensemble.base import Average, Candidate, Part
from luthier.ensemble.bench import Bench, Refused
from luthier.ensemble.statistics import reestimated
from luthier.ensemble.ways import Context
from luthier.recipe import Recipe
from luthier.study.study import Finished

State = dict[str, torch.Tensor]
# Must be equal for weights to mean the same at the same place.
KIN = ("model", "init", "adaptation", "head", "pooling", "lora_targets", "image_size")
# The largest rank that a recipe may have.
RANKS = 512


def averaged(states: Sequence[State], weights: Sequence[float]) -> State:
    """The weighted mean of trained states of the same names and shapes, in their own types.

    Args:
        states: As `Network.trained_state` gives them; whole numbers, such as counts of batches, are the
            first's.
        weights: One a state, together 1.

    Raises:
        ValueError: Names or shapes differ.
    """
    first = states[0]
    for state in states[1:]:
        if state.keys() != first.keys() or any(state[name].shape != first[name].shape for name in first):
            raise ValueError("Only weights of the same names and shapes have a mean.")
    found = {}
    for name, value in first.items():
        if not value.is_floating_point():
            found[name] = value.clone()
            continue
        mean = sum(state[name].double() * weight for state, weight in zip(states, weights, strict=True))
        found[name] = torch.as_tensor(mean).to(value.dtype)
    return found


def averaged_updates(
    states: Sequence[State], recipes: Sequence[Recipe], weights: Sequence[float]
) -> tuple[State, Recipe]:
    """States of low-rank updates whose update is the weighted mean of all updates, exactly.

    The halves' means are no mean of their products. So the halves are put beside one another: the mean of
    updates of ranks r, s, ... is an update of rank r + s + ..., of scale 1. What has no rank, such as the
    head, is averaged as it is.

    Args:
        states: Of recipes with adaptation ``lora`` and the same layers.
        recipes: Their ranks and scales count.
        weights: One a state, together 1.

    Returns:
        The state, and the first recipe with the rank and scale that it has.

    Raises:
        ValueError: The ranks are together larger than a recipe's may be.
    """
    rank = sum(recipe.lora_rank for recipe in recipes)
    if rank > RANKS:
        raise ValueError(f"The ranks are together {rank}, more than {RANKS}.")
    found = averaged([{n: v for n, v in state.items() if ".lora_" not in n} for state in states], weights)
    for name in states[0]:
        if ".lora_A." in name:
            found[name] = torch.cat([state[name] for state in states])
        elif ".lora_B." in name:
            scales = [w * r.lora_alpha / r.lora_rank for w, r in zip(weights, recipes, strict=True)]
            parts = [state[name] * scale for state, scale in zip(states, scales, strict=True)]
            found[name] = torch.cat(parts, dim=1)
    return found, recipes[0].model_copy(update={"lora_rank": rank, "lora_alpha": float(rank)})


def soup(context: Context) -> Candidate | None:
    """The mean of the weights of all trials that started where the best one did (Wortsman et al. 2022)."""
    with Bench(context, "soup") as bench:
        kin = _kin(bench)
        time = bench.judging_seconds(kin[0].recipe)
        if bench.stop() is not None or time > context.left:
            raise Refused(f"judging it takes {time:.0f} s, {max(0, context.left):.0f} s are left")
        made = _Soup(bench, kin)
        part = made.of(range(len(kin)))
        return made.candidate(part, bench.answers(part), range(len(kin)))
    return None


def greedy_soup(context: Context) -> Candidate | None:
    """The mean of the weights of those trials that make it no worse (Wortsman et al. 2022, recipe 1).

    From the best trial on, in the order of their scores, each is taken in if the validation score with it is
    at least what it was.
    """
    with Bench(context, "greedy-soup") as bench:
        kin = _kin(bench)
        time = bench.judging_seconds(kin[0].recipe)
        if bench.stop() is not None or 2 * time > context.left:
            raise Refused(f"judging two takes {2 * time:.0f} s, {max(0, context.left):.0f} s are left")
        made = _Soup(bench, kin)
        taken, best = [0], made.of([0])
        outputs = bench.answers(best)
        score = bench.judged(outputs)[0]
        for index in range(1, len(kin)):
            if bench.stop() is not None or time > context.left:
                break
            part = made.of([*taken, index])
            said = bench.answers(part)
            if bench.judged(said)[0] >= score:
                taken, best, outputs, score = [*taken, index], part, said, bench.judged(said)[0]
            else:
                bench.engine.checkpoints.remove(part.trial)
        if len(taken) < 2:
            raise Refused("with no other trial's weights was the best one at least as good")
        return made.candidate(best, outputs, taken)
    return None


class _Soup:
    """Averages of some trials' weights."""

    def __init__(self, bench: Bench, kin: Sequence[Finished]) -> None:
        self.bench = bench
        self.kin = kin
        self.states = [bench.engine.checkpoints.load(trial.trial) for trial in kin]

    def of(self, indices: Sequence[int]) -> Part:
        """The average of some of them, saved."""
        trials, states = [self.kin[i] for i in indices], [self.states[i] for i in indices]
        weights = [1 / len(trials)] * len(trials)
        recipe = trials[0].recipe
        if len(trials) == 1:
            state = states[0]
        elif recipe.adaptation == "lora":
            state, recipe = averaged_updates(states, [trial.recipe for trial in trials], weights)
        else:
            state = reestimated(self.bench, recipe, trials[0].seed, averaged(states, weights))
        return self.bench.saved(recipe, trials[0].seed, state)

    def candidate(self, part: Part, outputs: list[np.ndarray], indices: Sequence[int]) -> Candidate:
        """The one network, and of which trials it is."""
        numbers = ", ".join(str(self.kin[index].trial) for index in indices)
        return self.bench.candidate(
            [part], Average((1.0,)), outputs, f"the mean of the weights of trials {numbers}"
        )


def _kin(bench: Bench) -> list[Finished]:
    """The best trial whose weights are kept, and those whose mean with it means something; two at least.

    Raises:
        Refused: There are not two.
    """
    kept = bench.kept()
    if len(kept) < 2:
        raise Refused("the weights of fewer than two trials are kept")
    best = kept[0]
    if best.recipe.init != "pretrained":
        raise Refused("the best trial did not start from pre-trained weights")
    like = [trial for trial in kept if _key(trial.recipe) == _key(best.recipe)]
    if len(like) < 2:
        raise Refused("no other kept trial has the best one's model, adaptation and head")
    if best.recipe.adaptation == "lora":
        # As many as a recipe's rank has room for.
        ranks = np.cumsum([trial.recipe.lora_rank for trial in like])
        like = [trial for trial, rank in zip(like, ranks, strict=True) if rank <= RANKS]
    # A linear head has one best place, whatever it starts from; the units of any other have no order.
    if bench.network(best.recipe, best.seed).head_form != "linear":
        like = [trial for trial in like if _same_head(trial, best)]
    if len(like) < 2:
        raise Refused("the other kept trials' heads started elsewhere, or their ranks are too large")
    return like


def _key(recipe: Recipe) -> tuple[object, ...]:
    shared = tuple(getattr(recipe, name) for name in KIN)
    return (*shared, recipe.last_k if recipe.adaptation == "last_k" else 0)


def _same_head(trial: Finished, best: Finished) -> bool:
    """Whether two heads began with the same weights."""
    if trial.recipe.adaptation != "probe" and best.recipe.head_init == trial.recipe.head_init == "probe":
        return True
    return trial.recipe.head_init == best.recipe.head_init and trial.seed == best.seed
