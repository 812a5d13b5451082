"""Linear heads on frozen features: what boosting starts from, and repeats.

The features are the engine's; how heads become an ensemble is in `adaboost` and `boosting`.
"""

from __future__ import annotations

from luthier.engine import warm
from luthier.ensemble.base import Part
from luthier.ensemble.bench import Bench, Plan
from luthier.recipe import Recipe


def is_linear(recipe: Recipe) -> bool:
    """Whether a recipe trains a linear head on features that never change."""
    return (
        recipe.adaptation == "probe"
        and recipe.head == "linear"
        and recipe.init == "pretrained"
        and recipe.augmentation == "none"
    )


def recipes(bench: Bench) -> list[Recipe]:
    """Recipes of linear heads for the best trial's model: the best that was tried, or the usual ones."""
    tried = [trial.recipe for trial in bench.context.ranked if is_linear(trial.recipe)]
    if tried:
        return tried[:1]
    best = bench.context.ranked[0].recipe
    pooled = bench.task.modality == "text" and bench.task.level == "example"
    like = Recipe(
        model=best.model,
        head="linear",
        pooling="mean" if pooled else "native",
        max_length=best.max_length,
        image_size=best.image_size,
    )
    return [warm.probe_recipe(like, rate) for rate in warm.RATES]


def linear(bench: Bench) -> Part | None:
    """The best linear head at hand: a trial's, or the best of a few that are trained; None for none."""
    kept = next((trial for trial in bench.kept() if is_linear(trial.recipe)), None)
    if kept is not None:
        return Part(kept.recipe, kept.seed, kept.trial)
    found = recipes(bench)
    if not bench.affordable(found[0], len(found)):
        return None
    plans = [Plan(recipe, bench.seed(0)) for recipe in found]
    parts = [part for part in bench.train(plans) if part is not None]
    return max(parts, key=lambda part: bench.judged(bench.answers(part)), default=None)
