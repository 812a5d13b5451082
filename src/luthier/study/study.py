"""The study loop: ask, train, tell, under a budget. The only place that sees both search and engine."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import pandas as pd

from luthier.engine.cost import Cost
from luthier.engine.engine import Engine
from luthier.errors import RunError
from luthier.recipe import Recipe
from luthier.search.base import Strategy
from luthier.study import schedule
from luthier.study.budget import Budget
from luthier.study.finished import Finished
from luthier.study.listener import Listener
from luthier.study.objectives import Objectives
from luthier.study.proposals import Proposals, Repeats
from luthier.study.store import Store
from luthier.trial import Order, Report

__all__ = ["Finished", "Study"]

# Trials that may fail before any succeeds: after these the fault is not the recipe's.
HOPELESS = 3
# A trial in which the process died this often is given up: it takes the process down.
DEADLY = 4
# Trials in which the process died this often train one by one: one that takes it down takes no other along.
SUSPECT = 2
# Orders in a row that a strategy may want to begin and may not, before the search counts as over.
PATIENCE = 1000
# Trials in a row that break a constraint before they are trained, after which the search counts as over.
BARREN = 200
# Where no number is given, weights are kept of as many of the best trials as fit these bytes: an ensemble can
# only be made of what is there.
KEEP_BYTES, KEEP_LEAST, KEEP_MOST = 2**31, 3, 16


class Study:
    """A search over trials, kept in a store after every step.

    Args:
        store: Where everything is written.
        run: The run's id in the store.
        strategy: Fresh; its state is restored from the store where there is one.
        engine: Trains.
        budget: The clock.
        listener: Told what happens.
        seed: Of the run; each trial's own seed follows from it and the trial's number.
        first: Recipes to train before the strategy is asked, as the first trials; it is not told of them.
        trials: Trials at most, or None.
        keep: How many of the best trials keep their weights in the end; None: as many as fit `KEEP_BYTES`, at
            least `KEEP_LEAST` and at most `KEEP_MOST`.
        hold: How many keep them as long as the search goes on, if that is more.
        room: Trials given to the engine at once, at most.
        interrupted: Gives a reason when the user wants to stop.
        objectives: What trials are judged by; by default their scores.
    """

    def __init__(
        self,
        store: Store,
        run: str,
        strategy: Strategy,
        engine: Engine,
        budget: Budget,
        listener: Listener,
        *,
        seed: int,
        first: Sequence[Recipe] = (),
        trials: int | None = None,
        keep: int | None = 3,
        hold: int = 0,
        room: int = 1,
        interrupted: Callable[[], str | None] = lambda: None,
        objectives: Objectives | None = None,
    ) -> None:
        self.store = store
        self.run_id = run
        self.strategy = strategy
        self.proposals = Proposals(strategy, first, seed)
        self.engine = engine
        self.budget = budget
        self.listener = listener
        self.max_trials = trials
        self.keep = keep
        self.hold = hold
        self.room = room
        self.interrupted = interrupted
        self.objectives = objectives or Objectives()
        self.finished: list[Finished] = []
        self._reached: dict[int, int] = {}
        self._left: set[int] = set()
        self._training: dict[int, Order] = {}
        self._barren = 0

    @property
    def best(self) -> Finished | None:
        """The trial that the objectives put first: without any, the one with the best validation score."""
        return self.objectives.best(self.finished)

    def run(self, hold_back: Callable[[Finished | None], float]) -> None:
        """Searches until the budget, the trials or the strategy's ideas are used up, or the user stops it.

        Args:
            hold_back: Seconds that what comes after the search will take, given the best trial so far.

        Raises:
            RunError: Every trial fails, or nothing can be written.
        """
        self._catch_up(hold_back)
        repeats = self.proposals.repeats
        if repeats is not None and repeats.budget == self.budget.total:
            return
        while self.halted() is None and (orders := self._next()):
            self._train(orders)
            self.budget.reserve = hold_back(self.best)

    def halted(self) -> str | None:
        """Why nothing further is to be trained now, or None."""
        if reason := self.interrupted():
            return reason
        return "the budget ended" if self.budget.left <= 0 else None

    def repeat(self, decided: Repeats, untils: Mapping[int, int]) -> None:
        """Trains finalists on further seeds, all together, after the search.

        Their weights are kept until `settle`. A resumed run goes on with what was decided before.

        Args:
            decided: Which, and on how many seeds.
            untils: The epoch until which each finalist is repeated.
        """
        repeated = self.store.trials(self.run_id)["repeats"].dropna()
        had = Counter(int(finalist) for finalist in repeated)
        orders = self.proposals.repeat(decided, self.store.recipes(self.run_id), untils, had)
        if orders:
            self._train(orders)

    def settle(self, chosen: Finished) -> None:
        """Keeps the weights of the chosen trial, and of the best others, as many as are to be kept."""
        first = [chosen, *(found for found in self.usable() if found.trial != chosen.trial)]
        self.engine.checkpoints.keep({*self._fitting(first), *self._front()})

    def _fitting(self, found: Iterable[Finished], least: int = 1) -> list[int]:
        """Numbers of those of the trials, the best first, whose weights there is room for."""
        if self.keep is not None:
            return [each.trial for each in itertools.islice(found, max(self.keep, least))]
        numbers: list[int] = []
        taken = 0
        for each in itertools.islice(found, max(KEEP_MOST, least)):
            taken += self.engine.checkpoints.size(each.trial)
            if taken > KEEP_BYTES and len(numbers) >= max(KEEP_LEAST, least):
                break
            numbers.append(each.trial)
        return numbers

    def _front(self) -> list[int]:
        """Trials that no other beats in all of several objectives."""
        return self.objectives.front(self.finished) if self.objectives.measured else []

    @property
    def ranked(self) -> list[Finished]:
        """Trials with a score, the best first by the objectives."""
        return self.objectives.ranked(self.finished)

    def usable(self) -> Iterator[Finished]:
        """Those whose weights are kept, the best first.

        The best of all need not be among them: where another was chosen, its weights may be gone.
        """
        return (found for found in self.ranked if self.engine.checkpoints.has(found.trial))

    def _catch_up(self, hold_back: Callable[[Finished | None], float]) -> None:
        """Continues what an earlier process began: finished trials count, unfinished ones train anew."""
        unfinished = self.store.unfinished_trials(self.run_id)
        state = self.store.run(self.run_id).strategy_state
        self.proposals.restore(state, {left.number for left in unfinished})
        recipes = self.store.recipes(self.run_id)
        self._reached = self.store.reached(self.run_id)
        self.engine.recall(self._reached)
        for row in self.store.trials(self.run_id).to_dict("records"):
            if math.isfinite(row["score"]) and row["status"] in {"completed", "stopped"}:
                self.finished.append(
                    Finished(
                        trial=int(row["number"]),
                        recipe=recipes[int(row["number"])],
                        seed=int(row["seed"]),
                        score=row["score"],
                        loss=row["loss"],
                        epoch=int(row["best_epoch"]),
                        seconds=row["seconds"],
                        repeats=None if pd.isna(row["repeats"]) else int(row["repeats"]),
                    )
                )
            if row["status"] == "completed" and not row["reason"] and pd.isna(row["repeats"]):
                self._left.add(int(row["number"]))
        self.budget.reserve = hold_back(self.best)
        again = []
        for left in unfinished:
            if left.attempts >= DEADLY:
                reason = f"the process died {left.attempts} times while it trained"
                self._close(left.order, Report(left.order.trial, 0, "failed", reason=reason))
            else:
                again.append(left.order)
        apart = any(left.attempts >= SUSPECT for left in unfinished)
        for orders in [[order] for order in again] if apart else [again]:
            if orders and self.halted() is None:
                self._train(orders)

    def _next(self) -> list[Order]:
        """The next orders, as many as there is room and time for; empty when the search is over."""
        if self._barren >= BARREN:
            self.listener.note(
                f"The search ends: of the last {self._barren} recipes none kept to the constraints."
            )
            return []
        recipes = self.store.recipes(self.run_id)
        begun = {trial: recipe for trial, recipe in recipes.items() if trial not in self.proposals.apart}
        new = self.room if self.max_trials is None else min(self.room, self.max_trials - len(begun))
        for _ in range(PATIENCE):
            if new < 1 and not self._unspent(begun):
                return []
            self.strategy.foresee(self.budget.left, self._cost)
            self.proposals.ask(len(begun), max(1, new), self.engine.gains_by_company)
            self.proposals.waiting = schedule.as_begun(self.proposals.waiting, begun)
            if ended := schedule.at_their_end(self.proposals.waiting, self._reached):
                self.proposals.drop(ended, "its schedule, shortened to the time there was, is at its end")
                continue
            others = [order for order in self.proposals.waiting if order.trial not in begun]
            if new > 0 or not others:
                break
            # Trials may still go on. Whoever waits for more of them to begin must hear that none will.
            self.proposals.drop(others, "as many trials as were asked for have begun")
        orders = self.proposals.waiting[: max(1, new)]
        fitted = schedule.fitting(
            orders, self._costs(orders), self.budget.left, self._reached, needed=not self.finished,
            say=self.listener.note,
        )  # fmt: skip
        self.proposals.begin(len(fitted))
        return fitted

    def _cost(self, recipe: Recipe) -> tuple[float, float] | None:
        """Predicted seconds of a trial: once, and for each epoch."""
        cost = self.engine.predict_cost(recipe)
        return None if cost is None else (cost.once, cost.each)

    def _unspent(self, begun: Mapping[int, Recipe]) -> bool:
        """Whether a trial was left before the end of its epochs."""
        return any(self._reached.get(trial, 0) < begun[trial].epochs for trial in self._left)

    def _costs(self, orders: Sequence[Order]) -> list[Cost | None]:
        """What orders will take; nothing where their trials will not be trained."""
        refused = [bool(self.objectives.refusal(order.recipe)) for order in orders]
        trained = [order.recipe for order, no in zip(orders, refused, strict=True) if not no]
        costs = iter(self.engine.predict_costs(trained))
        return [Cost(0.0, 0.0) if no else next(costs) for no in refused]

    def _train(self, orders: list[Order]) -> None:
        """Carries out orders together: reports of different trials come mixed, one of each ends it.

        Those whose turn had not come when the engine was halted wait again, and leave no trace.
        """
        self.store.start_trials(self.run_id, orders, strategy_state=self.proposals.state())
        for order in orders:
            self.listener.trial_started(order.trial, order.recipe.describe(), order.recipe.epochs)
        self._training = {order.trial: order for order in orders}
        withdrawn: list[Order] = []
        orders = self._refuse(orders)
        self._inherit(orders)
        for report in self.engine.run(orders, halt=self.halted, on_step=self._step):
            report = self.objectives.noted(report, self._training[report.trial].recipe)
            if report.status == "running":
                self._reached[report.trial] = report.epoch
                self.proposals.take(report)
                self.store.report(self.run_id, report, spent=self.budget.spent)
                self.listener.report(report, self.engine.task.metric)
            elif _never_began(report):
                withdrawn.append(self._training.pop(report.trial))
                self.listener.report(report, self.engine.task.metric)
            else:
                self._close(self._training.pop(report.trial), report)
        if withdrawn:
            self.proposals.put_back(withdrawn)
            self.store.withdraw_trials(
                self.run_id,
                [order.trial for order in withdrawn],
                strategy_state=self.proposals.state(),
            )
        self._give_up_if_hopeless()

    def _refuse(self, orders: Sequence[Order]) -> list[Order]:
        """Closes trials whose structure breaks a constraint, as failed; the others, to be trained."""
        kept = []
        for order in orders:
            if reason := self.objectives.refusal(order.recipe):
                report = Report(order.trial, 0, "failed", reason=reason)
                self._close(self._training.pop(order.trial), self.objectives.noted(report, order.recipe))
                self._barren += 1
            else:
                kept.append(order)
                self._barren = 0
        return kept

    def _inherit(self, orders: Sequence[Order]) -> None:
        """Sees to it that trials which start from another's weights find them, also in a new process."""
        for order in orders:
            origin = self.store.origin(self.run_id, order.trial)
            if origin is not None and not self.engine.holds(order.trial, self._reached.get(order.trial, 0)):
                self._bring(origin)
                self.engine.inherit(order.trial, origin.trial)

    def _bring(self, origin: Order) -> None:
        """Takes a trial to where it stood, training it again if it does not stand there. Nobody is told."""
        if self.engine.holds(origin.trial, origin.until):
            return
        self.engine.checkpoints.forget(origin.trial)
        earlier = self.store.origin(self.run_id, origin.trial)
        if earlier is not None:
            self._bring(earlier)
            self.engine.inherit(origin.trial, earlier.trial)
        self.engine.retrace(origin, halt=self.halted, on_step=self._step)

    def _give_up_if_hopeless(self) -> None:
        """Ends the run when all that was tried failed, which what was stopped or never trained did not."""
        if self.finished:
            return
        trials, recipes = self.store.trials(self.run_id), self.store.recipes(self.run_id)
        refused = [number for number, recipe in recipes.items() if self.objectives.refusal(recipe)]
        failed = trials[(trials["status"] != "stopped") & ~trials["number"].isin(refused)]
        if len(failed) >= HOPELESS:
            raise RunError(
                f"The first {len(failed)} trials all failed; the last one: {failed['reason'].iloc[-1]}.",
                "Mend the cause (or choose other settings), then resume the run.",
            )

    def _close(self, order: Order, report: Report) -> None:
        """Tells strategy, store and listener of a trial's end.

        What the strategy was told, or is to be told, goes into the store with it, in one step.
        """
        self.proposals.take(report)
        self.store.finish_trial(
            self.run_id,
            report,
            spent=self.budget.spent,
            strategy_state=self.proposals.state(),
        )
        self._left.discard(order.trial)
        if report.status == "completed" and not report.reason and order.repeats is None:
            self._left.add(order.trial)
        if math.isfinite(report.score):
            self.finished = [found for found in self.finished if found.trial != order.trial]
            seconds = float(self.store.trials(self.run_id).set_index("number")["seconds"].loc[order.trial])
            loss = report.metrics.get("loss", math.inf)
            self.finished.append(
                Finished(
                    order.trial,
                    order.recipe,
                    order.seed,
                    report.score,
                    loss,
                    report.best_epoch,
                    seconds,
                    order.repeats,
                )
            )
            self._tidy()
        self.listener.report(report, self.engine.task.metric)
        self.listener.time(self.budget.spent, self.budget.total)

    def _tidy(self) -> None:
        """Removes the weights and outputs that there is no room for."""
        best = self._fitting(self.usable(), self.hold)
        decided = self.proposals.repeats
        rivals = set() if decided is None else set(decided.finalists) | self.proposals.apart
        # Trials in training may have weights on disk already.
        kept = {*best, *rivals, *self._front(), *self._training}
        self.engine.checkpoints.keep(kept)
        if self.engine.kept is not None:
            self.engine.kept.trim([*self._training, *(found.trial for found in self.ranked)])

    def _step(self, done: float) -> None:
        self.listener.step(done)
        self.listener.time(self.budget.spent, self.budget.total)


def _never_began(report: Report) -> bool:
    """Whether a trial was stopped before there was a network to train it in."""
    return report.status == "stopped" and report.parameters == 0
