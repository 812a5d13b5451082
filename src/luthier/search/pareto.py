"""`Pareto`: several objectives by a strategy that knows one score: one such search for each set of weights.

How objectives become a score lives in `scalarisation`; the front is made of trials, in `study`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np

from luthier.recipe import Recipe
from luthier.search import registry
from luthier.search.base import Order, Report, Status, Strategy
from luthier.search.past import PastStudy
from luthier.search.recipes import plain, rebuilt
from luthier.search.scalarisation import Aim, scalarise, spread
from luthier.space import Space


@dataclass
class _Trial:
    """A trial, whoever asked for it.

    Attributes:
        recipe: Its settings.
        scores: After each epoch; None where there was none.
        seconds: Of each epoch.
        metrics: Those that aims name.
        until: The epoch that it is ordered to; 0: nothing is out.
        ended: How it ended, if it cannot go on.
        reason: Why.
    """

    recipe: Recipe
    scores: list[float | None] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    until: int = 0
    ended: Status | None = None
    reason: str = ""

    @property
    def reached(self) -> int:
        """Epochs that were reported."""
        return len(self.scores)

    def state(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        copied = {"scores": [*self.scores], "seconds": [*self.seconds], "metrics": {**self.metrics}}
        return vars(self) | copied | {"recipe": plain(self.recipe)}

    def settles(self, until: int) -> bool:
        """Whether all is known of it that an order to this epoch asks for."""
        return self.ended is not None or self.reached >= until


@dataclass
class _Share:
    """What one search knows of a trial.

    Attributes:
        trial: The trial's number.
        until: The epoch that the search wants to hear of; 0: it waits for nothing.
        told: Epochs that it was told of.
    """

    trial: int
    until: int = 0
    told: int = 0


class Pareto(Strategy):
    """Decomposition (MOEA/D, Zhang & Li 2007): one search for each of a few weights, which take turns.

    Each search is a strategy of its own with a seed of its own. It hears of its trials what `scalarise` makes
    of score and metrics under its weights, so trials of one search are compared on one scale from the first
    epoch to the last, which strategies that pause trials need.

    A recipe that two searches propose is one trial, trained as far as the one wants that wants more, and each
    hears of it as far as it asked. Strategies whose trials start from others' weights are an exception: what
    is copied must not be trained on by somebody else, so they search once, with equal weights.

    Args:
        space: What may be varied.
        seed: Of all searches.
        option: None is known.
        strategy: By name, with its option.
        aims: The objectives, the first of which is searched for first.

    Raises:
        SettingError: The strategy is unknown, or cannot search this space.
    """

    name: ClassVar[str] = "pareto"

    def __init__(
        self, space: Space, seed: int = 0, option: str = "", *, strategy: str, aims: Sequence[Aim]
    ) -> None:
        super().__init__(space, seed, option)
        kind, _ = registry.resolve(strategy)
        self.uses_priors = kind.uses_priors  # type: ignore[misc]
        self.inherits = kind.inherits  # type: ignore[misc]
        self.aims = tuple(aims)
        weights = spread(len(self.aims))
        self._weights = weights[-1:] if kind.inherits else weights
        self._searches = [
            registry.create(strategy, space, _seed(seed, at)) for at in range(len(self._weights))
        ]
        self._trials: list[_Trial] = []
        self._numbers: dict[Recipe, int] = {}
        self._shares: list[list[_Share]] = [[] for _ in self._searches]
        self._turn = 0

    # -- asking ----------------------------------------------------------------------------------------------

    def recall(self, studies: Sequence[PastStudy]) -> None:
        """Tells every search: what did well in the metric is a good start under all weights."""
        for search in self._searches:
            search.recall(studies)

    def foresee(self, seconds: float, cost: Callable[[Recipe], tuple[float, float] | None]) -> None:
        """Tells every search, each as if all the time were its own."""
        for search in self._searches:
            search.foresee(seconds, cost)

    def ask(self, room: int) -> list[Order]:
        """The next orders: what a search still waits for, then of each search in turn an even part."""
        orders = [self._order(number) for number in self._due()[:room]]
        count = len(self._searches)
        for place, at in enumerate([(self._turn + step) % count for step in range(count)]):
            part = math.ceil((room - len(orders)) / (count - place))
            if found := self._ask(at, part) if part else []:
                self._turn = (at + 1) % count
            orders += found
        return orders

    def _ask(self, at: int, room: int) -> list[Order]:
        """Orders of one search that somebody has to carry out; what is known already it is told at once."""
        orders: list[Order] = []
        while not orders and not self._searches[at].finished:
            asked = self._searches[at].ask(room)
            if not asked:
                break
            for order in asked:
                share = self._share(at, order)
                trial = self._trials[share.trial]
                if trial.settles(share.until):
                    self._settle(at, order.trial)
                elif not trial.until:
                    orders.append(self._order(share.trial, order.parent))
        return orders

    def _share(self, at: int, order: Order) -> _Share:
        """A search's view of the trial that it orders, begun if it is new to it, or to all."""
        mine = self._shares[at]
        if order.trial == len(mine):
            number = None if self.inherits else self._numbers.get(order.recipe)
            if number is None:
                number = len(self._trials)
                self._trials.append(_Trial(order.recipe))
                self._numbers.setdefault(order.recipe, number)
            mine.append(_Share(number))
        mine[order.trial].until = order.until
        return mine[order.trial]

    def _order(self, number: int, parent: int | None = None) -> Order:
        """Takes a trial as far as any search waits for."""
        trial = self._trials[number]
        trial.until = max(share.until for _, _, share in self._waiting(number))
        return Order(number, trial.recipe, trial.until, parent=parent)

    def _waiting(self, number: int | None = None) -> list[tuple[int, int, _Share]]:
        """Shares of searches that wait for a trial, or any, each with the search and its number for it."""
        return [
            (at, local, share)
            for at, shares in enumerate(self._shares)
            for local, share in enumerate(shares)
            if share.until and (number is None or share.trial == number)
        ]

    def _due(self) -> list[int]:
        """Trials that are not out, and that somebody wants to hear more of."""
        waiting = {share.trial for _, _, share in self._waiting()}
        return sorted(number for number in waiting if not self._trials[number].until)

    # -- telling ---------------------------------------------------------------------------------------------

    def tell(self, report: Report) -> None:
        """Keeps what was reported of a trial that is out, and tells the searches that wait for it."""
        if report.trial >= len(self._trials) or not self._trials[report.trial].until:
            return
        trial = self._trials[report.trial]
        known = {aim.name for aim in self.aims if aim.name in report.metrics}
        trial.metrics |= {name: float(report.metrics[name]) for name in known}
        waiting = self._waiting(report.trial)
        if report.status == "running":
            trial.scores.append(float(report.score) if math.isfinite(report.score) else None)
            trial.seconds.append(float(report.seconds))
            for at, local, _ in waiting:
                self._inform(at, local)
            return
        # One that stops before the epoch it was ordered to, or says why it did, will not go further.
        if report.status != "completed" or report.reason or trial.reached < trial.until:
            trial.ended, trial.reason = report.status, report.reason
        trial.until = 0
        for at, local, share in waiting:
            if trial.settles(share.until):
                self._settle(at, local)

    def _inform(self, at: int, local: int) -> None:
        """Tells a search of the epochs that it asked for and was not told of."""
        share = self._shares[at][local]
        trial = self._trials[share.trial]
        for epoch in range(share.told + 1, min(trial.reached, share.until) + 1):
            share.told = epoch
            score, seconds = self._score(at, trial, epoch), trial.seconds[epoch - 1]
            self._searches[at].tell(Report(local, epoch, "running", score, dict(trial.metrics), seconds))

    def _settle(self, at: int, local: int) -> None:
        """Tells a search how its order ended; one that asked for less than was trained hears of no end."""
        share = self._shares[at][local]
        trial = self._trials[share.trial]
        self._inform(at, local)
        status: Status = "completed"
        reason = ""
        if trial.ended is not None and trial.reached <= share.until:
            status, reason = trial.ended, trial.reason
        scores = [self._score(at, trial, epoch) for epoch in range(1, share.told + 1)]
        usable = [score for score in scores if math.isfinite(score)] if status != "failed" else []
        best = max(usable, default=math.nan)
        share.until = 0
        epoch = 1 + scores.index(best) if usable else 0
        self._searches[at].tell(
            Report(local, share.told, status, best, dict(trial.metrics), reason=reason, best_epoch=epoch)
        )

    def _score(self, at: int, trial: _Trial, epoch: int) -> float:
        """What a search is to think of a trial after an epoch."""
        score = trial.scores[epoch - 1]
        given = math.nan if score is None else score
        return scalarise(given, trial.metrics, self.aims, self._weights[at])

    # -- the rest of the contract ----------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether every search is, and none of them waits for more than is being trained."""
        return all(search.finished for search in self._searches) and not any(
            share.until > self._trials[share.trial].until for _, _, share in self._waiting()
        )

    def notes(self) -> list[str]:
        """What the searches say, each thing once, and how many there are."""
        count, several = len(self._searches), len(self.aims)
        how = f"{count} searches take turns" if count > 1 else "one search weighs them equally"
        said = [note for search in self._searches for note in search.notes()]
        return [f"There are {several} objectives: {how}.", *dict.fromkeys(said)]

    def state(self) -> dict[str, Any]:
        """The states of the searches, the trials, what each search knows of them, and the ranges."""
        return {
            "aims": [asdict(aim) for aim in self.aims],
            "turn": self._turn,
            "searches": [search.state() for search in self._searches],
            "trials": [trial.state() for trial in self._trials],
            "shares": [[[one.trial, one.until, one.told] for one in shares] for shares in self._shares],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continues with the ranges that the search began with, whatever would be measured now."""
        self.aims = tuple(Aim(**aim) for aim in state["aims"])
        self._turn = state["turn"]
        for search, kept in zip(self._searches, state["searches"], strict=True):
            search.restore(kept)
        self._trials = [_Trial(**kept | {"recipe": rebuilt(kept["recipe"])}) for kept in state["trials"]]
        self._shares = [[_Share(*kept) for kept in shares] for shares in state["shares"]]
        self._numbers = {}
        for number, trial in enumerate(self._trials):
            self._numbers.setdefault(trial.recipe, number)


def _seed(seed: int, at: int) -> int:
    """The run's own seed for the first search; others for the rest, so that they propose other recipes."""
    return seed if at == 0 else int(np.random.SeedSequence([seed, at]).generate_state(1)[0] % 2**31)
