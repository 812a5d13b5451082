"""`Auto`: a ladder of probes, promising trials and continued trials, in which each slice of time goes where a
learning-curve model expects most from it. The model lives in `curve_model`, what it learnt from in `prior`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np

from luthier.recipe import Recipe
from luthier.search import features
from luthier.search import prior as priors
from luthier.search.base import Order, Report, Strategy
from luthier.search.curve_model import CurveModel, fitted
from luthier.search.expectation import Expectation
from luthier.search.past import PastStudy, scale
from luthier.search.points import Points
from luthier.search.prior import Prior
from luthier.space import Choice, Listed, Space

CANDIDATES = 256
"""Recipes drawn from a space to choose among; a list has its own."""
SETTLED = 0.0001
"""The search ends when no trial is expected to add this much to the best score, on a scale of 0 to 1."""


@dataclass
class _Trial:
    """A trial: which candidate, the most epochs it may have, its scores and seconds an epoch, the epoch it is
    ordered to (0: nothing is out), and whether it is over.
    """

    candidate: int
    epochs: int
    scores: list[float | None] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    until: int = 0
    over: bool = False


class Auto(Strategy):
    """Chooses recipes by what past studies say of them, and goes on with trials by how they do.

    First, where the space has linear probes, one of each model, whole: on cached features they cost seconds,
    and tell models apart. Next the space's default, whole: what is known to do well is soon there, with its
    schedule at its end. Then a slice at a time, of the trial, new or paused, with the highest::

        max over h of  E[max(0, best after h more epochs - best score so far)] / sqrt(seconds of h epochs + c)

    where a slice is one epoch, or half of those behind a trial, and ``c`` are four epochs of the median
    candidate. The expectation is over a sample of curves from a model of past studies (`CurveModel`), which
    this study's own results correct (`Expectation`). Improvement over the root of cost, not cost: epochs that
    come cheap are many and small, and the best score is wanted at every budget. The search ends when no trial
    is expected to add `SETTLED` to the best score by its last epoch, unless the option is ``patient``.

    Candidates are the space's default and scrambled Sobol points through its priors, `CANDIDATES` in all; of
    a `Listed` space, the list. Trials that fail are not taken up again. The state holds what was ordered and
    told; all else follows from it, the space, the seed and the prior.

    Args:
        space: What may be varied.
        seed: Of candidates and trees.
        option: ``patient``: goes on as long as there are candidates.
        prior: Past studies; the user's own, or else those that ship with Luthier.
    """

    name: ClassVar[str] = "auto"
    options: ClassVar[Sequence[str]] = ("patient",)

    def __init__(self, space: Space, seed: int = 0, option: str = "", *, prior: Prior | None = None) -> None:
        super().__init__(space, seed, option)
        self._prior = prior
        self._recalled: tuple[PastStudy, ...] = ()
        self._trials: list[_Trial] = []
        self._seconds = math.inf
        self._cost: Callable[[Recipe], tuple[float, float] | None] = lambda recipe: None
        self._ended = ""
        self._changed = ""

    # -- what is there to choose from ------------------------------------------------------------------------

    @cached_property
    def prior(self) -> Prior:
        """What is known of past studies, those that it was told of among them."""
        known = priors.current() if self._prior is None else self._prior
        told = Prior.from_studies(self._recalled)
        return known.joined(told) if told.studies else known

    @cached_property
    def candidates(self) -> list[Recipe]:
        """Recipes to choose among: probes first, then the default, then draws."""
        if isinstance(self.space, Listed):
            return list(self.space.recipes)
        return list(dict.fromkeys([*self._first, *self._drawn]))

    @cached_property
    def _drawn(self) -> tuple[Recipe, ...]:
        return _points(json.dumps(self.space.to_dict()), self.seed)

    @cached_property
    def _first(self) -> list[Recipe]:
        """What is trained to its end before anything is weighed; nothing of a list."""
        if isinstance(self.space, Listed):
            return []
        return list(dict.fromkeys([*self._probes, *self._drawn[:1]]))

    @cached_property
    def _probes(self) -> list[Recipe]:
        """The probe at the centre of the priors, of each model; none where the space has no probes or a list
        is given.
        """
        kinds = [alternative.domain for alternative in self.space.settings.get("adaptation", ())]
        mixed = [domain for domain in kinds if isinstance(domain, Choice) and domain.varies]
        if isinstance(self.space, Listed) or len(kinds) != 1 or not mixed or "probe" not in mixed[0].values:
            return []
        (models,) = [alternative.domain for alternative in self.space.settings["model"]]
        point = np.full(len(self.space.dimensions), 0.5)
        point[self.space.dimensions.index("adaptation")] = mixed[0].unit("probe")
        found = []
        for model in models.listed():
            if models.varies:
                point[self.space.dimensions.index("model")] = models.unit(model)
            found.append(self.space.sample(point))
        # Where probes are forbidden for a model, sampling has gone elsewhere.
        return [recipe for recipe in dict.fromkeys(found) if recipe.adaptation == "probe"]

    @cached_property
    def _expectation(self) -> Expectation:
        rows, names = features.of_space(self.space, self.candidates)
        model: CurveModel = fitted(self.prior, tuple(names), self.seed)
        identities = [features.model_of(recipe) for recipe in self.candidates]
        epochs = np.array([recipe.epochs for recipe in self.candidates])
        return Expectation(model, model.rows(rows, identities), epochs)

    # -- the contract ----------------------------------------------------------------------------------------

    def recall(self, studies: Sequence[PastStudy]) -> None:
        """Adds studies to the prior; such as have few trials teach nothing, see `prior.FEWEST`."""
        self._recalled = tuple(studies)
        vars(self).pop("prior", None)

    def foresee(self, seconds: float, cost: Callable[[Recipe], tuple[float, float] | None]) -> None:
        """Keeps what is known of time for the next orders."""
        self._seconds, self._cost = seconds, cost
        vars(self).pop("_costs", None)

    def ask(self, room: int) -> list[Order]:
        """The next ``room`` orders; fewer when all else is out, or nothing more is expected."""
        orders: list[Order] = []
        while len(orders) < room and not self._ended:
            chosen = self._next()
            if chosen is None:
                break
            number, epochs = chosen
            trial = self._trials[number]
            recipe = self.candidates[trial.candidate]
            trial.until = min(len(trial.scores) + epochs, trial.epochs)
            orders.append(Order(number, recipe, trial.until))
        return orders

    def _next(self) -> tuple[int, int] | None:
        """The trial to go on with, begun if it is new, and by how many epochs; None for none."""
        begun = {trial.candidate: number for number, trial in enumerate(self._trials)}
        out = sum(trial.until > 0 for trial in self._trials)
        for at in range(len(self._first)):
            if at not in begun:
                return self._begin(at), self.candidates[at].epochs
        closed = {trial.candidate for trial in self._trials if trial.over or trial.until}
        if len(closed) == len(self.candidates):
            self._ended = "" if out else "every candidate was trained to its end"
            return None
        at, gain = self._best(closed)
        if gain < SETTLED and self.option != "patient" and self._scores():
            # What is out may still change the picture.
            if not out:
                self._ended = (
                    f"no trial is expected to add more than {SETTLED:g} to the best score "
                    f"(on a scale of 0 to 1; the most is {gain:.2g})"
                )
            return None
        number = begun[at] if at in begun else self._begin(at)
        return number, max(1, len(self._trials[number].scores) // 2)

    def _begin(self, candidate: int) -> int:
        self._trials.append(_Trial(candidate, self.candidates[candidate].epochs))
        return len(self._trials) - 1

    def _best(self, closed: set[int]) -> tuple[int, float]:
        """The open candidate with the highest expected improvement for its cost, and the largest improvement
        that any open candidate is expected to bring by its end.
        """
        offset, factor = scale(self._scores())
        seen = {
            trial.candidate: [
                0.0 if score is None else min(max((score - offset) * factor, 0.0), 1.0)
                for score in trial.scores
            ]
            for trial in self._trials
            if trial.scores
        }
        seconds = {trial.candidate: float(np.mean(trial.seconds)) for trial in self._trials if trial.scores}
        over = {trial.candidate for trial in self._trials if trial.over}
        worth, gains = self._expectation.improvement(seen, seconds, over, self._seconds, self._costs)
        worth[list(closed)] = -math.inf
        gains[list(closed)] = -math.inf
        return int(worth.argmax()), float(gains.max())

    @cached_property
    def _costs(self) -> np.ndarray | None:
        """(candidates, 2): predicted seconds of each, once and for each epoch; None where one is unknown.

        Asked for once a round: nothing is learnt of costs within it.
        """
        found = []
        for recipe in self.candidates:
            cost = self._cost(recipe)
            if cost is None:
                return None
            found.append(cost)
        return np.array(found)

    def _scores(self) -> list[float]:
        return [score for trial in self._trials for score in trial.scores if score is not None]

    def tell(self, report: Report) -> None:
        """Keeps an epoch's score and seconds; at an order's end, whether the trial can go on."""
        if report.trial >= len(self._trials):
            return
        trial = self._trials[report.trial]
        if report.status == "running":
            trial.scores.append(float(report.score) if math.isfinite(report.score) else None)
            trial.seconds.append(max(float(report.seconds), 1e-6))
            return
        # A trial that ended before the epoch it was ordered to, or says why it did, will not go further.
        cut = len(trial.scores) < trial.until or report.status != "completed" or bool(report.reason)
        trial.over = trial.over or cut or len(trial.scores) >= trial.epochs
        trial.until = 0

    @property
    def finished(self) -> bool:
        """Whether it was found that no more is expected, or that every candidate was trained to its end."""
        return bool(self._ended)

    @property
    def ended(self) -> str:
        """Why the search ended by itself; empty while it goes on."""
        return self._ended

    def notes(self) -> list[str]:
        """What is learnt from, and why the search ended, where it did."""
        studies = len(self.prior.studies)
        found = [f"Proposals start from {len(self.prior.study):,} trials of {studies} past studies."]
        if self._changed:
            found.append(self._changed)
        return [*found, f"The search ended: {self._ended}."] if self._ended else found

    def state(self) -> dict[str, Any]:
        """What was ordered and told."""
        return {
            "trials": [asdict(trial) for trial in self._trials],
            "ended": self._ended,
            "prior": self.prior.digest,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what was ordered and told; a prior that changed since is said in `notes`."""
        self._trials = [_Trial(**trial) for trial in state["trials"]]
        self._ended = state["ended"]
        if state["prior"] != self.prior.digest:
            self._changed = (
                "The prior changed since this search began: it goes on as if it had begun with it."
            )


@lru_cache(maxsize=4)
def _points(space: str, seed: int) -> tuple[Recipe, ...]:
    """The first points of a space in its plain form, as JSON; kept, for a strategy that is restored draws the
    same again.
    """
    points = Points(Space.from_dict(json.loads(space)), seed)
    found: list[Recipe] = []
    while points.upcoming is not None and len(found) < CANDIDATES:
        found.append(points.take())
    return tuple(found)
