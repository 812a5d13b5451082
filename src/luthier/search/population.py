"""`Population`: population-based training. Recipes that change while their trials train.

What may change, and how, lives in `perturb`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from luthier.errors import SettingError
from luthier.recipe import Recipe
from luthier.search.base import Order, Report, Strategy
from luthier.search.perturb import CHANGEABLE, changeable, continued
from luthier.search.points import Points
from luthier.search.recipes import most_epochs, plain, rebuilt
from luthier.space import Space

SIZE = 8
"""Members of a population: enough for a quarter to be two, few enough for small budgets."""
QUARTER = 4
"""One in this many is replaced after a step, by copies of the best one in this many."""
STEPS = 8
"""Steps that a training is cut into, or as many as it has epochs if that is less."""
_TRIES = 50
"""Perturbed recipes that may turn out to be known before a member is left as it is."""


@dataclass
class _Member:
    """A line of trials, each of which started from the weights of the one before it; its last trial.

    Attributes:
        recipe: Of the trial.
        total: Epochs that the line has in all: those of its first recipe.
        offset: Epochs that the line trained before this trial.
        parent: The trial whose weights this one starts from.
        trial: Its number, once it was ordered.
        until: The epoch it was ordered to.
        reached: Epochs of it that were reported.
        score: After the last of them.
        heard: Whether anything was reported since the trial was first ordered.
        over: Whether it trains no further: it failed, or ended before the epoch it was ordered to.
        failed: Whether it has no weights to go on with.
    """

    recipe: Recipe
    total: int
    offset: int = 0
    parent: int | None = None
    trial: int | None = None
    until: int = 0
    reached: int = 0
    score: float = math.nan
    heard: bool = False
    over: bool = False
    failed: bool = False

    def goal(self, step: int, steps: int) -> int:
        """The epoch of this trial at which a step ends."""
        return math.ceil(self.total * step / steps) - self.offset


class Population(Strategy):
    """Population-based training (Jaderberg et al. 2017, algorithm 1), with truncation selection.

    `SIZE` trials, the space's default and quasi-random ones, train in steps, each an equal share of their
    epochs. After a step the worst quarter, and every trial that failed, is replaced by trials that start
    from the weights of one of the best quarter, drawn at random, with its recipe, in which the settings that
    may change while training are perturbed. So a population finds a schedule of these settings rather than a
    value, in the time in which its members train once. After the last step another population begins.

    **A copy is a new trial.** Its model and all that decides its structure are its parent's. Its ``epochs``
    are those that the parent's line of trials has left, so that the line as a whole trains as long as its
    first recipe says, and so that the copy's schedule ends where the parent's would have. Its
    ``learning_rate`` is the one that the parent's schedule has come to by then, perturbed, and kept within
    its range: a linear schedule goes on as if nothing had happened, a cosine nearly so. Only its warmup is
    new, a share of what is left, as is the state of its optimizer. Where the space does not vary the rate,
    the copy's schedule starts from the fixed one again.

    **Who waits for whom.** A trial that is being copied trains on only when its copies were heard of: so
    they have its weights as they were at the end of the step. A step begins when all of the one before it
    has ended; workers beyond the size of the population stay idle.

    Raises:
        SettingError: The space varies no setting that may change while training.
    """

    name: ClassVar[str] = "population"
    inherits: ClassVar[bool] = True

    def __init__(self, space: Space, seed: int = 0, option: str = "") -> None:
        super().__init__(space, seed, option)
        if not _can_change(space):
            raise SettingError(
                "Population-based training changes settings while training; this space varies none that may.",
                f"Give one of these a range or several values: {', '.join(CHANGEABLE)}; "
                "or take another strategy.",
            )
        self._points = Points(space, seed)
        self._steps = min(STEPS, most_epochs(space))
        self._used: list[Recipe] = []
        self._parents: list[int | None] = []
        self._members: list[_Member] = []
        self._waiting: list[int] = []
        """Members that have yet to be ordered in this step, in the order in which they are to be."""
        self._out: set[int] = set()
        self._step = self._steps

    def lineage(self, trial: int) -> list[int]:
        """The trials whose weights became this one's, from the first, which is no copy, to itself.

        Raises:
            KeyError: There is no such trial.
        """
        if not 0 <= trial < len(self._parents):
            raise KeyError(trial)
        line = [trial]
        while (parent := self._parents[line[-1]]) is not None:
            line.append(parent)
        return line[::-1]

    # -- asking ---------------------------------------------------------------------------------------------

    def ask(self, room: int) -> list[Order]:
        """Orders of this step, copies first; of the next one where all of this one has ended."""
        while not self._waiting and not self._out and not self.finished:
            self._begin_step()
        held = self._being_copied()
        ready = [at for at in self._waiting if self._members[at].trial not in held][:room]
        self._waiting = [at for at in self._waiting if at not in ready]
        return [self._order(self._members[at]) for at in ready]

    def _being_copied(self) -> set[int | None]:
        return {member.parent for member in self._members if member.parent is not None and not member.heard}

    def _order(self, member: _Member) -> Order:
        new = member.trial is None
        if member.trial is None:
            member.trial = len(self._parents)
            self._parents.append(member.parent)
        member.until = member.goal(self._step, self._steps)
        self._out.add(member.trial)
        return Order(member.trial, member.recipe, member.until, parent=member.parent if new else None)

    def _begin_step(self) -> None:
        if self._step >= self._steps or all(member.failed for member in self._members):
            self._populate()
        else:
            self._step += 1
            self._exploit()
        able = [at for at, member in enumerate(self._members) if self._trains(member)]
        self._waiting = sorted(able, key=lambda at: self._members[at].trial is not None)

    def _trains(self, member: _Member) -> bool:
        """Whether a member has epochs in this step; of a short training not every step has one."""
        return not member.over and member.goal(self._step, self._steps) > member.reached

    def _populate(self) -> None:
        self._step, self._members = 1, []
        while len(self._members) < SIZE and self._points.upcoming is not None:
            recipe = self._points.upcoming
            self._use(recipe)
            self._members.append(_Member(recipe, recipe.epochs))

    def _use(self, recipe: Recipe) -> None:
        self._points.add(recipe)
        self._used.append(recipe)

    # -- selection ------------------------------------------------------------------------------------------

    def _exploit(self) -> None:
        """Replaces the worst quarter, and what failed, by copies of the best quarter."""
        ranked = sorted(range(len(self._members)), key=lambda at: _rank(self._members[at]))
        quarter = len(ranked) // QUARTER
        worst = [at for place, at in enumerate(ranked) if place >= len(ranked) - quarter]
        worst += [at for at in ranked if self._members[at].failed and at not in worst]
        best = [self._members[at] for at in ranked[: max(1, quarter)] if at not in worst]
        best = [parent for parent in best if math.isfinite(parent.score) and parent.reached > 0]
        for at in worst:
            # A tie is no reason to copy.
            better = [one for one in best if _rank(one) < _rank(self._members[at])]
            copy = self._copy(better, at) if better else None
            if copy is not None:
                self._members[at] = copy

    def _copy(self, parents: list[_Member], slot: int) -> _Member | None:
        """A member made from one of ``parents``; None where none has epochs in this step or a new recipe."""
        for attempt in range(_TRIES):
            rng = np.random.default_rng([self.seed, len(self._used), slot, attempt])
            parent = parents[int(rng.integers(len(parents)))]
            made = _Member(parent.recipe, parent.total, parent.offset + parent.reached, parent.trial)
            if made.goal(self._step, self._steps) < 1:
                continue
            left = made.total - made.offset
            made.recipe = continued(self.space, parent.recipe, parent.reached, left, rng)
            whole = made.recipe.model_copy(update={"epochs": made.total})
            if made.recipe not in self._used and self.space.contains(whole):
                self._use(made.recipe)
                return made
        return None

    # -- being told -----------------------------------------------------------------------------------------

    def tell(self, report: Report) -> None:
        """Takes note of a member's latest score, and of its end."""
        member = next((one for one in self._members if one.trial == report.trial), None)
        if member is None or report.trial not in self._out:
            return
        member.heard = True
        if report.status == "running":
            member.score, member.reached = float(report.score), report.epoch
            return
        self._out.discard(report.trial)
        if report.epoch > member.reached:
            # An engine may tell of the end alone.
            member.score, member.reached = float(report.score), report.epoch
        # Weights that give no score are no weights to go on with.
        member.failed = report.status == "failed" or not math.isfinite(member.score)
        ended = report.status != "completed" or member.reached < member.until or bool(report.reason)
        member.over = member.failed or ended

    @property
    def finished(self) -> bool:
        """Whether the last population has trained to its end and the space has no recipe for another."""
        if self._waiting or self._out or self._points.upcoming is not None:
            return False
        return self._step >= self._steps or all(member.over for member in self._members)

    def state(self) -> dict[str, Any]:
        """The population, the lineage of all trials, and the recipes used."""
        members = []
        for member in self._members:
            kept = asdict(member) | {"recipe": plain(member.recipe)}
            kept["score"] = member.score if math.isfinite(member.score) else None
            members.append(kept)
        return {
            "used": [plain(recipe) for recipe in self._used],
            "parents": list(self._parents),
            "members": members,
            "waiting": list(self._waiting),
            "out": sorted(self._out),
            "step": self._step,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        for values in state["used"]:
            self._use(rebuilt(values))
        self._parents = list(state["parents"])
        self._members = []
        for kept in state["members"]:
            score = math.nan if kept["score"] is None else kept["score"]
            self._members.append(_Member(**kept | {"recipe": rebuilt(kept["recipe"]), "score": score}))
        self._waiting, self._out, self._step = list(state["waiting"]), set(state["out"]), state["step"]


def _rank(member: _Member) -> float:
    """Lower is better."""
    return math.inf if member.failed or not math.isfinite(member.score) else -member.score


def _can_change(space: Space) -> bool:
    """Whether the space has recipes that differ in what may change alone, as a list of recipes seldom has."""
    if not changeable(space):
        return False
    rng = np.random.default_rng(0)
    recipes = [space.default(), *(space.sample(rng.random(len(space.dimensions))) for _ in range(_TRIES))]
    copies = ((recipe, continued(space, recipe, 0, recipe.epochs, rng)) for recipe in recipes)
    return any(copy != recipe and space.contains(copy) for recipe, copy in copies)
