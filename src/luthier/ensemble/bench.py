"""`Bench`: what ways that train networks or average weights share: numbers, time, training, and cleaning up.

What is trained, and what becomes of it, is each way's own affair.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch

from luthier.engine.batches import generator
from luthier.engine.cost import Cost
from luthier.engine.inputs import Split
from luthier.engine.lesson import Lesson
from luthier.engine.sharing import shares
from luthier.ensemble.base import Candidate, Combination, Part
from luthier.ensemble.ways import Context
from luthier.models.network import Network
from luthier.recipe import Recipe
from luthier.study.study import Finished
from luthier.trial import Order

# Checkpoint numbers of networks that no trial of the study has: each way counts down from its own, so that a
# way that is tried again, after a run was killed, writes over what it left.
FIRST = {
    "bagging": -100, "adaboost": -200, "boosting": -300, "snapshot": -400, "soup": -500, "greedy-soup": -600,
    "swa": -700, "ewa": -800, "distil": -900,
}  # fmt: skip
# Of the time that is left, what predicted costs may come to.
SURE = 0.9


@dataclass(frozen=True)
class Plan:
    """A network to be trained.

    Attributes:
        recipe: Its settings.
        seed: Its seed.
        lesson: What it learns from; None for the training rows as they are.
        start: Trained weights that it starts from; None for the pre-trained ones and a new head.
    """

    recipe: Recipe
    seed: int
    lesson: Lesson | None = None
    start: dict[str, torch.Tensor] | None = None


class Refused(Exception):
    """There is no ensemble of this kind; the message says why, without a full stop."""


class Bench:
    """One making of one ensemble. When it is left, only the checkpoints of the candidate's parts remain.

    If it is left by a `Refused`, the reason is said and nothing raised.

    Args:
        context: What may be used.
        name: The way, in `FIRST`.
    """

    def __init__(self, context: Context, name: str) -> None:
        self.context = context
        self.engine = context.engine
        self.task = context.engine.task
        self.name = name
        self._started = time.perf_counter()
        self._taken: list[int] = []
        self._kept: set[int] = set()
        self._network: tuple[tuple[Recipe, int], Network] | None = None

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        for number in self._taken:
            if number not in self._kept:
                self.engine.checkpoints.remove(number)
        if not isinstance(error, Refused):
            return False
        self.context.say(f"No ensemble by {self.name}: {error}.")
        return True

    def number(self) -> int:
        """The next free checkpoint number."""
        found = FIRST[self.name] - len(self._taken)
        self._taken.append(found)
        return found

    def seed(self, index: int) -> int:
        """A seed for the index-th network, a function of the context's alone."""
        return int(generator(self.context.seed, -FIRST[self.name], index).integers(2**31))

    def stop(self) -> str | None:
        """A reason to end, or None."""
        return self.context.halt() or ("its time ended" if self.context.left <= 0 else None)

    def kept(self) -> list[Finished]:
        """The trials whose weights are at hand, the best first."""
        return [trial for trial in self.context.ranked if self.engine.checkpoints.has(trial.trial)]

    def affordable(self, recipe: Recipe, most: int, *, together: bool = True) -> int:
        """How many trainings of a recipe fit in the time that is left, with an epoch's time for judging each.

        Args:
            recipe: What would be trained.
            most: No more are wanted.
            together: Whether they train in stacks, or one after the other.
        """
        left = SURE * self.context.left
        for count in range(most, 0, -1):
            costs = self._costs([recipe] * count if together else [recipe])
            seconds = sum(cost.total(recipe.epochs + 1) for cost in costs)
            if (seconds if together else count * seconds) <= left:
                return count
        return 0

    def judging_seconds(self, recipe: Recipe, split: str = "validation") -> float:
        """Seconds that outputs on a split will take, where they are not read from cached features."""
        if self._at_hand(recipe, split):
            return 0.0
        rows = {name: len(frame) for name, frame in self.engine.inputs.frames.items()}
        (cost,) = self._costs([recipe.model_copy(update={"adaptation": "full"})])
        # A step is a forward pass and a backward one, which is two; validation takes the first alone.
        return cost.each * rows[split] / (3 * rows["train"] + rows["validation"])

    def train(self, plans: Sequence[Plan]) -> list[Part | None]:
        """Trains networks together; None for those that did not come to their end."""
        orders, lessons = [], {}
        for plan in plans:
            number = self.number()
            orders.append(Order(number, plan.recipe, plan.recipe.epochs, plan.seed))
            if plan.lesson is not None:
                lessons[number] = plan.lesson
            if plan.start is not None:
                self.engine.start_from(number, plan.start)
        done = {
            report.trial
            for report in self.engine.run(orders, halt=self.stop, lessons=lessons)
            if report.status == "completed" and report.best_epoch > 0
        }
        return [Part(o.recipe, o.seed, o.trial) if o.trial in done else None for o in orders]

    def saved(self, recipe: Recipe, seed: int, state: dict[str, torch.Tensor]) -> Part:
        """Weights that were made without a training of the engine, as a part."""
        part = Part(recipe, seed, self.number())
        self.engine.checkpoints.save(part.trial, state)
        return part

    def network(self, recipe: Recipe, seed: int) -> Network:
        """A recipe's network to put weights in; the last one that was asked for is kept."""
        key = (recipe, seed if recipe.init == "scratch" else 0)
        if self._network is None or self._network[0] != key:
            self._network = (key, self.engine.network(recipe, seed))
        return self._network[1]

    def answers(self, part: Part, name: str = "validation") -> list[np.ndarray]:
        """A part's outputs on a split; from cached features where it trains a head alone."""
        network = self.network(part.recipe, part.seed)
        network.load_trained_state(self.engine.checkpoints.load(part.trial))
        return self.engine.outputs(network, part.recipe, self.split(part.recipe, name))

    def split(self, recipe: Recipe, name: str) -> Split:
        """A split for a recipe, as the frozen body has it where that is known."""
        engine = self.engine
        if self._at_hand(recipe, name):
            features = engine.features(recipe, name, self.network(recipe, 0))
            return Split(features, engine.inputs.targets(name))
        return engine.inputs.split(name, engine.sources[recipe.model], recipe)

    def _at_hand(self, recipe: Recipe, name: str) -> bool:
        """Whether what a recipe's head reads of a split is cached."""
        if recipe.adaptation != "probe" or not shares(recipe):
            return False
        if recipe.augmentation != "none" and name == "train":
            return False  # What is cached are random views.
        return self.engine.sharing.known(self.engine.sources[recipe.model], recipe, name, 0)

    def judged(self, outputs: Sequence[np.ndarray]) -> tuple[float, float]:
        """Validation score of some outputs, and for ties the negative loss; higher is better."""
        metrics = self.task.metrics(outputs, self.context.targets)
        found = (self.task.score(metrics), -metrics["loss"])
        return found if all(np.isfinite(found)) else (-np.inf, -np.inf)

    def candidate(
        self, parts: Sequence[Part], combination: Combination, validation: list[np.ndarray], note: str
    ) -> Candidate:
        """The ensemble; its parts' weights stay."""
        self._kept |= {part.trial for part in parts}
        seconds = time.perf_counter() - self._started
        return Candidate(self.name, list(parts), combination, validation, seconds, note)

    def _costs(self, recipes: Sequence[Recipe]) -> list[Cost]:
        found = self.engine.predict_costs(recipes)
        if any(cost is None for cost in found):
            # A model that was not seen yet is timed where a network of it is built.
            self.network(recipes[0], 0)
            found = self.engine.predict_costs(recipes)
        return [cost for cost in found if cost is not None]
