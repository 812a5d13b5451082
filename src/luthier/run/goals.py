"""`Goals`: what a run is to reach beside its metric, and which models can: measured before any training.

What it means for trials lives in `luthier.study.objectives`, for the search in `luthier.search.pareto`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from luthier.engine.footprint import STRUCTURE, Footprints
from luthier.engine.inputs import Inputs
from luthier.errors import LuthierError, SettingError
from luthier.recipe import Recipe
from luthier.report.story import Axis
from luthier.run.inspect import search_splits
from luthier.run.prepare import Prepared, search_space
from luthier.run.rank import KEPT, Candidate
from luthier.run.settings import Settings
from luthier.search import registry as strategies
from luthier.search.base import Strategy
from luthier.search.pareto import Pareto
from luthier.search.scalarisation import Aim
from luthier.space import Choice, Listed, Space
from luthier.space.domain import Domain
from luthier.study.constraints import MEASURES, parse_constraint
from luthier.study.front import front
from luthier.study.objectives import Objectives
from luthier.study.study import Finished

# Models that go on to be fine-tuned, at most, where several objectives may want different ones.
MOST = 4
# The range of scores that count is what the probe leaves to be gained, but never less than this share of what
# always giving the same answer leaves.
LEAST = 0.05


@dataclass
class Goals:
    """Objectives and constraints of one run.

    Attributes:
        objectives: Resolved for the task, and able to measure.
        footprints: What was measured so far, to be kept with the run.
        models: Names of the models that can meet the constraints.
    """

    objectives: Objectives
    footprints: Footprints
    models: list[str]

    def kept(self, candidates: Sequence[Candidate]) -> list[str]:
        """Models that deserve to be fine-tuned, of ranked ones: the best by their probes.

        With several objectives, also those that no other beats in probe and measures, up to `MOST` in all.
        """
        names = [candidate.model for candidate in candidates]
        kept = names[:KEPT]
        if self.objectives.several:
            columns = [measure.column for measure in self.objectives.measured]
            taken = [self.objectives.measures(Recipe(model=name)) for name in names]
            known = [at for at in range(len(names)) if taken[at]]
            points = [(candidates[at].probe, *(-taken[at][column] for column in columns)) for at in known]
            kept += [names[known[at]] for at in front(points) if names[known[at]] not in kept]
        return kept[:MOST]

    def strategy(self, settings: Settings, space: Space, trivial: float, probe: float | None) -> Strategy:
        """The strategy asked for; with several objectives, one that weighs them.

        Args:
            settings: Of the run.
            space: What is searched.
            trivial: Validation score of always giving the same answer.
            probe: That of a linear head on frozen features, if there is one.
        """
        if not self.objectives.several:
            return strategies.create(settings.strategy, space, settings.seed)
        aims = self._aims(trivial, probe)
        return Pareto(space, settings.seed, strategy=settings.strategy, aims=aims)

    def _aims(self, trivial: float, probe: float | None) -> list[Aim]:
        """The objectives with their ranges. The metric is always one of them: it says what was learnt."""
        objectives = self.objectives
        names = (
            objectives.names
            if objectives.metric in objectives.names
            else (*objectives.names, objectives.metric)
        )
        top = 1.0 if objectives.maximize else 0.0
        worst = trivial if probe is None else min(probe, top - LEAST * abs(top - trivial))
        aims = []
        for name in names:
            if name in MEASURES:
                values = [known[MEASURES[name].column] for known in self.footprints.known.values()]
                aims.append(Aim(MEASURES[name].column, min(values), max(values)))
            else:
                aims.append(Aim("", top, worst))
        return aims

    @property
    def axes(self) -> list[Axis]:
        """What scores are held against in the report."""
        limits = self.objectives.constraints
        return [
            Axis(
                measure.column,
                f"{measure.name}, {measure.unit}",
                min((limit.bound for limit in limits if limit.name == measure.name), default=None),
            )
            for measure in self.objectives.measured
        ]

    def table(
        self, trials: pd.DataFrame, recipes: Mapping[int, Recipe], finished: Iterable[Finished]
    ) -> pd.DataFrame:
        """The trials table with what each takes, and whether it is on the front; as it is without goals."""
        if not self.objectives.measured:
            return trials
        taken = [self.objectives.measures(recipes[number]) for number in trials["number"]]
        table = trials.assign(pareto=trials["number"].isin(self.objectives.front(finished)))
        for measure in MEASURES.values():
            table[measure.column] = [each.get(measure.column) for each in taken]
        return table


def gather(settings: Settings, prepared: Prepared, device: torch.device, known: dict[str, Any]) -> Goals:
    """The goals of a run; nothing is measured yet.

    Args:
        settings: Its objectives and constraints.
        prepared: The task and the candidate models.
        device: Where the run predicts.
        known: What was measured in an earlier process.

    Raises:
        SettingError: An objective or constraint is of nothing that can be had here.
    """
    task = prepared.task
    inputs = Inputs(task, search_splits(prepared.dataset), prepared.dataset.root, prepared.known)
    footprints = Footprints(inputs, prepared.sources, device, known)

    def measure(recipe: Recipe) -> Mapping[str, float]:
        try:
            return footprints.of(recipe)
        except (LuthierError, RuntimeError):
            # Such as a head that the model cannot have, or too little memory: training it says what is wrong.
            return {}

    objectives = Objectives.resolve(
        settings.objectives, map(parse_constraint, settings.constraints),
        metric=task.metric, maximize=task.maximize, measure=measure,
    )  # fmt: skip
    return Goals(objectives, footprints, list(prepared.sources))


def screen(goals: Goals, prepared: Prepared, given: Space | None, say: Callable[[str], None]) -> None:
    """Leaves models out whose networks cannot meet the constraints, whatever is done to them.

    Args:
        goals: Its ``models`` are those that are left, afterwards.
        prepared: The data and task.
        given: The user's space, or None for the default one.
        say: Told which models are left out, and why.

    Raises:
        SettingError: None can meet them; says the best that could be had.
    """
    objectives = goals.objectives
    if not objectives.measured:
        return
    left, refused = [], {}
    for name in goals.models:
        reason = _refusal(objectives, structures(search_space(prepared, given, [name]), name))
        if reason:
            refused[name] = reason
        else:
            left.append(name)
    if not left:
        limits = " and ".join(f'"{limit}"' for limit in objectives.constraints if limit.name in MEASURES)
        nearest = "; ".join(f"{name} has {reason}" for name, reason in refused.items())
        raise SettingError(
            f"No model given can meet {limits}: {nearest}.",
            "Allow more, give a smaller model with --model, or make inputs smaller (max_length, image_size).",
        )
    for name, reason in refused.items():
        say(f"Left out: {name}: {reason}.")
    goals.models = left
    if objectives.several:
        _see_ranges(goals, prepared, given)


def _refusal(objectives: Objectives, recipes: Iterable[Recipe]) -> str:
    """Why none of these can be had, by the one that takes least; empty if one can."""
    first = ""
    for recipe in recipes:
        reason = objectives.refusal(recipe)
        if not reason:
            return ""
        first = first or reason
    return first


def _see_ranges(goals: Goals, prepared: Prepared, given: Space | None) -> None:
    """Measures the smallest and largest network of each model, so that ranges are known before the search."""
    for name in goals.models:
        found = structures(search_space(prepared, given, [name]), name, largest=True)
        for recipe in (found[0], found[-1]):
            goals.objectives.measures(recipe)


def structures(space: Space, model: str, *, largest: bool = False) -> list[Recipe]:
    """Recipes of each structure of a model that a space may draw, with the smallest inputs, those first.

    Conditions are not looked at, so there may be more of them than the space draws, but none is missing.

    Args:
        space: What is searched.
        model: One of its models.
        largest: Whether those with the largest inputs follow.
    """
    if isinstance(space, Listed):
        listed = [recipe for recipe in space.recipes if recipe.model == model]
        return sorted(listed, key=_extent) or [Recipe(model=model)]
    names = [name for name in STRUCTURE if name != "model"]
    choices = [_ends(space, name, largest) for name in names]
    found = [
        Recipe.parse({"model": model, **dict(zip(names, each, strict=True))})
        for each in itertools.product(*choices)
    ]
    return sorted(found, key=_extent)


def _ends(space: Space, name: str, largest: bool) -> list[Any]:
    """Values of a structural setting; of an input's extent, the least and the greatest."""
    default = Recipe.model_fields[name].default
    alternatives = space.settings.get(name, ())
    values: list[Any] = [value for one in alternatives for value in _values(one.domain)]
    if not alternatives or all(one.when for one in alternatives):
        values.append(default)  # Where no condition holds.
    values = list(dict.fromkeys(values))
    if name not in {"max_length", "image_size"}:
        return values
    values.sort(key=_large)
    return [values[0], values[-1]] if largest and len(values) > 1 else values[:1]


def _values(domain: Domain) -> Sequence[Any]:
    return domain.values if isinstance(domain, Choice) else (int(domain.low), int(domain.high))


def _large(extent: int | None) -> float:
    """An extent of None is the model's own, the largest for a text and mostly for an image."""
    return float("inf") if extent is None else extent


def _extent(recipe: Recipe) -> tuple[float, float]:
    return _large(recipe.max_length), _large(recipe.image_size)
