"""The study loop: ask, train, tell, under a budget. The only place that sees both search and engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from luthier.engine.engine import Engine
from luthier.errors import RunError
from luthier.recipe import Recipe
from luthier.search.base import Strategy
from luthier.study.budget import Budget
from luthier.study.listener import Listener
from luthier.study.store import Store
from luthier.trial import Order, Report

# Trials that may fail before any succeeds: after these the fault is not the recipe's.
HOPELESS = 3
# A trial in which the process died this often is given up: it takes the process down.
DEADLY = 4


@dataclass(frozen=True)
class Finished:
    """A trial whose weights can be used.

    Attributes:
        trial: Its number.
        recipe: Its settings.
        seed: Its seed.
        score: Of its best epoch, higher is better.
        loss: Validation loss of that epoch, which decides between equal scores.
        epoch: The best epoch, 1-based.
        seconds: Wall-clock seconds it took.
    """

    trial: int
    recipe: Recipe
    seed: int
    score: float
    loss: float
    epoch: int
    seconds: float


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
        keep: How many of the best trials keep their weights.
        interrupted: Gives a reason when the user wants to stop.
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
        keep: int = 3,
        interrupted: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.store = store
        self.run_id = run
        self.strategy = strategy
        self.engine = engine
        self.budget = budget
        self.listener = listener
        self.seed = seed
        self.first = list(first)
        self.max_trials = trials
        self.keep = keep
        self.interrupted = interrupted
        self.finished: list[Finished] = []

    @property
    def best(self) -> Finished | None:
        """The trial with the best validation score; of equal ones that with the lower loss."""
        return max(self.finished, key=lambda f: (f.score, -f.loss), default=None)

    def run(self, hold_back: Callable[[Finished | None], float]) -> None:
        """Searches until the budget, the trials or the strategy's ideas are used up, or the user stops it.

        Args:
            hold_back: Seconds that what comes after the search will take, given the best trial so far.

        Raises:
            RunError: Every trial fails, or nothing can be written.
        """
        self.budget.reserve = hold_back(self.best)
        self._catch_up()
        while not self._over() and (order := self._next()) is not None:
            if (fitted := self._fit(order)) is None:
                break
            self._train(fitted)
            self.budget.reserve = hold_back(self.best)

    def _over(self) -> bool:
        counted = len(self.store.recipes(self.run_id))
        enough = self.max_trials is not None and counted >= self.max_trials
        return enough or self._halt() is not None

    def _halt(self) -> str | None:
        if reason := self.interrupted():
            return reason
        return "the budget ended" if self.budget.left <= 0 else None

    def _catch_up(self) -> None:
        """Continues what an earlier process began: finished trials count, unfinished ones train anew."""
        run = self.store.run(self.run_id)
        if run.strategy_state is not None:
            self.strategy.restore(run.strategy_state)
        recipes = self.store.recipes(self.run_id)
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
                    )
                )
        for left in self.store.unfinished_trials(self.run_id):
            if left.attempts >= DEADLY:
                reason = f"the process died {left.attempts} times while it trained"
                self._close(left.order, Report(left.order.trial, 0, "failed", reason=reason))
            elif self._halt() is None:
                self._train(left.order)

    def _next(self) -> Order | None:
        """The next of the first recipes, or what the strategy asks for, numbered after them."""
        number = len(self.store.recipes(self.run_id))
        if number < len(self.first):
            recipe = self.first[number]
            # The run's own seed: what was trained before the study, such as a probe, is met again as it was.
            return Order(number, recipe, recipe.epochs, self.seed)
        for order in self.strategy.ask(1):
            number = order.trial + len(self.first)
            return replace(order, trial=number, seed=self._trial_seed(number))
        return None

    def _tell(self, report: Report) -> None:
        """Tells the strategy of a trial of its own, under the number it knows."""
        if report.trial >= len(self.first):
            self.strategy.tell(replace(report, trial=report.trial - len(self.first)))

    def _trial_seed(self, trial: int) -> int:
        """A function of the run's seed and the trial's number alone."""
        return int(np.random.SeedSequence([self.seed, trial]).generate_state(1)[0] % 2**31)

    def _fit(self, order: Order) -> Order | None:
        """The order with as many epochs as the time left allows, or None where it allows none.

        A schedule that ends in time beats one that is cut off. The first trial is always begun: a run should
        end with a model.
        """
        cost, wanted = self.engine.predict_cost(order.recipe), order.recipe.epochs
        epochs = wanted if cost is None else cost.epochs_within(self.budget.left, wanted)
        if epochs == wanted:
            return order
        if epochs < 1 and self.finished:
            return None
        recipe = order.recipe.model_copy(update={"epochs": max(1, epochs)})
        self.listener.note(
            f"Trial {order.trial} gets {recipe.epochs} of {wanted} epochs: the time left allows no more."
        )
        return replace(order, recipe=recipe, until=min(order.until, recipe.epochs))

    def _train(self, order: Order) -> None:
        self.store.start_trial(self.run_id, order, strategy_state=self.strategy.state())
        self.listener.trial_started(order.trial, order.recipe.describe(), order.recipe.epochs)
        for report in self.engine.run([order], halt=self._halt, on_step=self._step):
            if report.status == "running":
                self._tell(report)
                self.store.report(self.run_id, report, spent=self.budget.spent)
                self.listener.report(report, self.engine.task.metric)
            else:
                self._close(order, report)
        if len(self.finished) == 0 and len(self.store.trials(self.run_id)) >= HOPELESS:
            reasons = self.store.trials(self.run_id)["reason"]
            raise RunError(
                f"The first {len(reasons)} trials all failed; the last one: {reasons.iloc[-1]}.",
                "Mend the cause (or choose other settings), then resume the run.",
            )

    def _close(self, order: Order, report: Report) -> None:
        """Tells strategy, store and listener of a trial's end.

        The strategy's state goes into the store with it, in one step.
        """
        self._tell(report)
        self.store.finish_trial(
            self.run_id,
            report,
            spent=self.budget.spent,
            strategy_state=self.strategy.state(),
        )
        if math.isfinite(report.score):
            seconds = float(self.store.trials(self.run_id).set_index("number")["seconds"].loc[order.trial])
            loss = report.metrics.get("loss", math.inf)
            self.finished.append(
                Finished(
                    order.trial, order.recipe, order.seed, report.score, loss, report.best_epoch, seconds
                )
            )
            ranked = sorted(self.finished, key=lambda f: (-f.score, f.loss))
            self.engine.checkpoints.keep({f.trial for f in ranked[: self.keep]})
        self.listener.report(report, self.engine.task.metric)
        self.listener.time(self.budget.spent, self.budget.total)

    def _step(self, done: float) -> None:
        self.listener.step(done)
        self.listener.time(self.budget.spent, self.budget.total)
