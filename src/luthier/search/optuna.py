"""`OptunaSampler`: the strategy that lets a sampler of Optuna propose the recipes. Optuna's pruners, storages
and loop have no part in it; `luthier.report.optuna` shows a finished study to Optuna's tools.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from luthier.errors import MissingExtra
from luthier.recipe import Recipe
from luthier.search.base import Order, Report, Strategy
from luthier.search.recipes import plain, rebuilt
from luthier.space import Number, Space

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from optuna import Study, Trial
    from optuna.samplers import BaseSampler

_ATTEMPTS = 10
"""Suggestions in a row that bring nothing new, after which a recipe is drawn from the priors."""
_PATIENCE = 1000
"""Draws from the priors in a row that bring nothing new, after which the space counts as used up."""
_STARTUP = {"tpe": 10, "gp": 10}
"""Completed trials before a sampler has a model: its own default."""
_REMEMBERING = {"cmaes", "nsgaii", "nsgaiii", "qmc"}
"""Samplers that keep something in the study beside its trials, so that a restored one must sample again."""


class OptunaSampler(Strategy):
    """Recipes from a sampler of Optuna: ``optuna:tpe`` (also ``optuna`` alone), ``optuna:gp`` and so on.

    A setting with a range is suggested as a float in [0, 1] and mapped through its quantile function, so that
    what a sampler takes to be uniform are the space's priors, and one coordinate serves all branches in which
    a setting has different ranges. A setting with values is suggested as a categorical, in each alternative
    by itself; their weights count in what is drawn from the priors only. Settings that are inactive are not
    suggested.

    Trial 0 is the space's default. Those before a sampler has a model are drawn from the space's priors where
    it would draw them uniformly (``tpe``, ``gp``). A suggestion that repeats a recipe is told the known
    score, as Optuna's documentation advises, and one that is forbidden is told as failed; after ten of these
    in a row the priors give the recipe.

    Completed trials are told their score, higher is better, and every epoch's before; stopped ones as pruned,
    failed ones and those without a score as failed. Every trial goes to the last epoch its recipe allows.

    A fresh sampler is made for every suggestion, seeded by the study's seed and the suggestion's number, so
    that it is a function of the trials before it. `restore` goes through all suggestions and reports again;
    only samplers that keep notes in a study (``cmaes``, ``nsgaii``, ``nsgaiii``, ``qmc``) sample again for
    it.

    Raises:
        MissingExtra: Optuna is not installed, or cmaes for ``optuna:cmaes``.
    """

    name: ClassVar[str] = "optuna"
    options: ClassVar[Sequence[str]] = ("tpe", "gp", "cmaes", "nsgaii", "nsgaiii", "qmc", "random")

    def __init__(self, space: Space, seed: int = 0, option: str = "") -> None:
        super().__init__(space, seed, option)
        self.kind = option or "tpe"
        self._optuna = _imported(self.kind)
        with _quiet(self._optuna):
            self._study: Study = self._optuna.create_study(direction="maximize")
        self._suggested = 0
        self._completed = 0
        self._trials = 0
        self._numbers: dict[Recipe, int] = {}
        self._scores: dict[int, float] = {}
        self._open: dict[int, Trial] = {}
        self._log: list[Any] = []
        self._used_up = False

    def ask(self, room: int) -> list[Order]:
        """The next ``room`` recipes, fewer where the space is used up."""
        orders: list[Order] = []
        while len(orders) < room and not self._used_up:
            recipe = self._propose()
            if recipe is None:
                self._used_up = True
            else:
                orders.append(Order(self._numbers[recipe], recipe, recipe.epochs))
        return orders

    def tell(self, report: Report) -> None:
        """A score an epoch, and how a trial ended."""
        if report.trial not in self._open:
            return
        score = float(report.score) if math.isfinite(report.score) else None
        said = report.epoch if report.status == "running" else report.status
        self._log.append([report.trial, said, score])
        self._hear(report.trial, said, score)

    @property
    def finished(self) -> bool:
        """Whether nothing new was found when it was last asked."""
        return self._used_up

    def state(self) -> dict[str, Any]:
        """What was suggested and told, in order."""
        return {"log": list(self._log), "used_up": self._used_up}

    def restore(self, state: dict[str, Any]) -> None:
        """Suggests and hears all of it again."""
        self._log = list(state["log"])
        for said in self._log:
            if isinstance(said, dict):
                self._settle(*self._replay(said))
            else:
                self._hear(*said)
        self._used_up = state["used_up"]

    def notes(self) -> list[str]:
        """Which settings the sampler learns nothing of, and draws at random."""
        lost = [name for name in self.space.dimensions if not self._modelled(name)]
        if not lost:
            return []
        return [f"Optuna's {self.kind} sampler draws these at random: {', '.join(lost)}."]

    # -- suggesting ------------------------------------------------------------------------------------------

    def _propose(self) -> Recipe | None:
        """Suggests until there is a recipe that no trial has; None if there seems to be none."""
        if self._trials == 0:
            return self._given(self.space.default())
        if self._completed >= _STARTUP.get(self.kind, 0):
            for _ in range(_ATTEMPTS if self.space.dimensions else 0):
                trial = self._begin({})
                recipe = self._build(trial)
                self._log.append({"drawn": dict(trial.params)})
                if self._settle(trial, recipe):
                    return recipe
        rng = np.random.default_rng([self.seed, self._suggested])
        for _ in range(_PATIENCE if self.space.dimensions else 0):
            believed = self.space.sample(rng.random(len(self.space.dimensions)))
            if believed not in self._numbers:
                return self._given(believed)
        return None

    def _given(self, recipe: Recipe) -> Recipe:
        """Makes a recipe that the sampler did not choose the next trial."""
        said = {"given": plain(recipe)}
        self._log.append(said)
        self._settle(*self._replay(said))
        return recipe

    def _begin(self, parameters: Mapping[str, Any]) -> Trial:
        """The next trial of the Optuna study, with some parameters fixed."""
        with _quiet(self._optuna):
            self._study.sampler = _sampler(self._optuna, self.kind, self.seed, self._suggested)
            if parameters:
                self._study.enqueue_trial(dict(parameters))
            self._suggested += 1
            return self._study.ask()

    def _replay(self, said: Mapping[str, Any]) -> tuple[Trial, Recipe | None]:
        """The trial that a line of the log began, and its recipe; None where that is forbidden."""
        if "given" in said:
            recipe = rebuilt(said["given"])
            trial = self._begin(self._parameters(recipe))
            self._build(trial)
            return trial, recipe
        trial = self._begin(said["drawn"])
        if self.kind in _REMEMBERING:
            with _quiet(self._optuna):
                trial.relative_params  # noqa: B018  (sampling leaves the sampler's notes in the study)
        return trial, self._build(trial)

    def _settle(self, trial: Trial, recipe: Recipe | None) -> bool:
        """Makes what was suggested our next trial, if it is allowed and new."""
        if recipe is not None and recipe not in self._numbers:
            self._numbers[recipe] = self._trials
            self._open[self._trials] = trial
            self._trials += 1
            return True
        known = self._scores.get(self._numbers[recipe]) if recipe is not None else None
        self._end(trial, known)
        return False

    def _build(self, trial: Trial) -> Recipe | None:
        """The recipe that a trial suggests; None where it is forbidden."""
        point = dict.fromkeys(self.space.dimensions, 0.5)

        def suggest(name: str, domain: Any) -> Any:
            if not domain.varies:
                return domain.default
            if isinstance(domain, Number):
                point[name] = trial.suggest_float(name, 0.0, 1.0)
                return domain.quantile(point[name])
            value = trial.suggest_categorical(self._label(name, domain), domain.values)
            point[name] = domain.unit(value)
            return value

        with _quiet(self._optuna):
            recipe = self.space.build(suggest)
        if recipe is None or self.space.contains(recipe):
            return recipe
        # A list of recipes has few of the combinations that its settings could have: the nearest.
        return self.space.sample(np.array(list(point.values())))

    def _parameters(self, recipe: Recipe) -> dict[str, Any]:
        """What a trial has to suggest to give a recipe."""
        found: dict[str, Any] = {}
        for name, domain in self.space.active(recipe).items():
            value = getattr(recipe, name)
            if domain.varies and isinstance(domain, Number):
                found[name] = domain.unit(value)
            elif domain.varies:
                found[self._label(name, domain)] = value
        return found

    def _label(self, name: str, domain: Any) -> str:
        """Values differ by alternative, and Optuna wants those of a name to be the same for ever."""
        domains = [alternative.domain for alternative in self.space.settings[name]]
        return name if len(domains) == 1 else f"{name}.{domains.index(domain) + 1}"

    def _modelled(self, name: str) -> bool:
        """Whether it learns anything of a setting: all but TPE model those that every trial has."""
        if self.kind in {"tpe", "random"}:
            return True
        alternatives = self.space.settings[name]
        ranged = all(isinstance(one.domain, Number) for one in alternatives)
        always = any(not one.when for one in alternatives) and (ranged or len(alternatives) == 1)
        return always and (ranged or self.kind != "cmaes")

    # -- hearing ---------------------------------------------------------------------------------------------

    def _hear(self, number: int, said: int | str, score: float | None) -> None:
        """An epoch's score, or the end of a trial."""
        trial = self._open[number]
        if isinstance(said, int):
            if score is not None:
                trial.report(score, said)
            return
        del self._open[number]
        if said == "stopped":
            self._study.tell(trial, state=self._optuna.trial.TrialState.PRUNED)
            return
        score = score if said == "completed" else None
        if score is not None:
            self._scores[number] = score
        self._end(trial, score)

    def _end(self, trial: Trial, score: float | None) -> None:
        """Tells Optuna a score, or that there is none."""
        if score is None:
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        else:
            self._completed += 1
            self._study.tell(trial, score)


def _imported(kind: str) -> ModuleType:
    """Optuna, with what the sampler of this name needs beside it."""
    try:
        import optuna
    except ImportError:
        raise MissingExtra("The strategy 'optuna'", "optuna") from None
    if kind == "cmaes" and find_spec("cmaes") is None:
        raise MissingExtra("The strategy 'optuna:cmaes'", "optuna")
    return optuna


@contextmanager
def _quiet(optuna: ModuleType) -> Iterator[None]:
    """Without Optuna's messages: experimental interfaces, and what `OptunaSampler.notes` says once."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _sampler(optuna: ModuleType, kind: str, seed: int, number: int) -> BaseSampler:
    """A sampler with Optuna's defaults for one suggestion, but that TPE knows conditions."""
    samplers = optuna.samplers
    drawn = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    kinds: dict[str, Callable[[], BaseSampler]] = {
        "tpe": lambda: samplers.TPESampler(seed=drawn, multivariate=True, group=True),
        "gp": lambda: samplers.GPSampler(seed=drawn),
        "cmaes": lambda: samplers.CmaEsSampler(seed=drawn),
        "nsgaii": lambda: samplers.NSGAIISampler(seed=drawn),
        "nsgaiii": lambda: samplers.NSGAIIISampler(seed=drawn),
        # All points are of one sequence, which the seed scrambles.
        "qmc": lambda: samplers.QMCSampler(
            scramble=True,
            seed=int(np.random.SeedSequence([seed]).generate_state(1)[0]),
            independent_sampler=samplers.RandomSampler(seed=drawn),
        ),
        "random": lambda: samplers.RandomSampler(seed=drawn),
    }
    return kinds[kind]()
