"""What trials of one structure have in common: the model, its splits as they read them, and how to stack
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch

from luthier.engine import heads
from luthier.engine.forward import forward, mixed, place, to_device
from luthier.engine.heads import HeadStack
from luthier.engine.inputs import Inputs
from luthier.engine.lesson import Lesson
from luthier.engine.memory import Activations
from luthier.engine.prefix import Features
from luthier.engine.sharing import Sharing, shares
from luthier.engine.state import Member, Position, TrialState
from luthier.engine.train import Training
from luthier.engine.watchdog import Watchdog
from luthier.errors import ModelError
from luthier.models import cut, first_token, vocabulary
from luthier.models.network import Network, build
from luthier.models.source import Source
from luthier.recipe import Recipe
from luthier.tasks.base import Examples
from luthier.trial import Order

Stack = Training | HeadStack
# Steps that are timed to see what a stack of some size gains; the first of each size does not count.
STEPS = 2


@dataclass
class Live:
    """A trial in training.

    Attributes:
        order: What is to be done.
        member: Its settings and where it stands.
        trainable: Parameters that it trains.
        parameters: Parameters of its whole network.
    """

    order: Order
    member: Member
    trainable: int = 0
    parameters: int = 0


class Setting:
    """The common ground of some trials.

    Making one computes the frozen outputs that are not in the store yet.

    Args:
        inputs: The encoded splits.
        source: The model.
        recipes: The trials' recipes, of one structure.
        sharing: The frozen outputs.
        device: Where to train.
        dtype: For autocast, or None.
        watchdog: Ends steps that hang.
        also: Depths at which other trials of this model will want the frozen outputs.
        halt: A reason ends the computing.
        arithmetic: Type to train in.
        meet: Shown a network of the model before anything is computed with it.
        resume: Gives the states of trials that were left.
        head: Asked for the weights of a trained head, for recipes that start with one.
        lessons: What trials learn from, by number, of those that do not learn from the rows as they are.

    Raises:
        Halted: ``halt`` gave a reason.
        ModelError: The architecture has not what the recipe asks for.
    """

    def __init__(
        self, inputs: Inputs, source: Source, recipes: Sequence[Recipe], sharing: Sharing, *, device:
        torch.device, dtype: torch.dtype | None,
        watchdog: Watchdog, also: Iterable[int] = (), halt: Callable[[], str | None] | None = None,
        arithmetic: torch.dtype = torch.float32, meet: Callable[[Network, Recipe], None] = lambda *_: None,
        resume: Callable[[int], TrialState | None] = lambda trial: None,
        head: Callable[[Recipe], dict[str, torch.Tensor]] = lambda recipe: {},
        lessons: Mapping[int, Lesson] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self.inputs = inputs
        self.task = inputs.task
        self.source = source
        self.device = device
        self.dtype = dtype
        self.watchdog = watchdog
        self.arithmetic = arithmetic
        self.step_seconds: float | None = None
        self.recipes = list(recipes)
        self.recipe = recipe = _largest(self.recipes)
        self._vocabulary: vocabulary.Vocabulary | None = None
        network = self._network(recipe, 0)
        meet(network, recipe)
        self.resume = resume
        self.lessons = lessons
        self.num_blocks = network.num_blocks
        self.depth = network.cut
        self.form = network.head_form
        assert network.maker is not None
        self._heads = network.maker
        self._probed = head(recipe)
        train, validation = (inputs.split(name, source, recipe) for name in ("train", "validation"))
        self.validation_targets = validation.targets
        self._balanced = self.task.class_weights(train.targets)
        self.train: Examples = train.examples
        self.validation: Examples = validation.examples
        # A whole frozen block at least: embeddings alone are found faster than they are read.
        self.cached = (
            shares(recipe)
            and self.depth < self.num_blocks
            and sharing.fits(network, source, recipe, self.depth)
        )
        if self.cached:
            self.train, self.validation = (
                sharing.features(network, source, recipe, name, self.depth, also, halt=halt).to(arithmetic)
                for name in ("train", "validation")
            )
        self._trained = set(network.trainable())
        self._frozen = sum(p.numel() for name, p in network.named_parameters() if name not in self._trained)
        whole = _trained_numbers(network)
        if recipe.init == "pretrained":
            self._narrow(network)
        self._start = network.trained_state() if recipe.init == "pretrained" else {}
        self._trainable = _trained_numbers(network)
        # Parameters of the whole network's trained part that no trial here holds.
        self._left_out = whole - self._trainable
        self.convolves = _mostly_convolutions(network)

    def _narrow(self, network: Network) -> None:
        """Leaves out the tokens that do not occur, where their embedding is trained."""
        self._vocabulary = vocabulary.of(network, [self.train, self.validation])
        if self._vocabulary is not None:
            self._vocabulary.narrow(network)
            self.train, self.validation = map(self._vocabulary.numbered, (self.train, self.validation))

    def whole(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What a trial trained, as a network of its recipe holds it that is not trained here."""
        return state if self._vocabulary is None else self._vocabulary.whole(state)

    @property
    def closed_form(self) -> bool:
        """Whether these trials train nothing but a linear head on vectors at hand."""
        return (
            self.cached
            and self.depth == 0
            and all(heads.supports(recipe, self.form, self.task) for recipe in self.recipes)
        )

    @property
    def trainable(self) -> int:
        """Parameters that one trial trains."""
        return self._trainable

    def live(self, order: Order) -> Live:
        """A trial where it was left, or at its start: new weights by its own seed, the others as the model
        has them, or all as its parent has.

        Raises:
            ModelError: The parent's weights are not there.
        """
        recipe, state = order.recipe, self.resume(order.trial)
        if state is None and order.parent is not None:
            raise ModelError(f"The weights of trial {order.parent}, from which it starts, are gone.")
        pulled = recipe.l2_start > 0 and recipe.adaptation != "probe"
        start = self._fresh(order) if state is None or pulled else {}
        state = state or TrialState(start)
        if self._vocabulary is not None:
            state.weights = self._vocabulary.part(state.weights)
        if lesson := self.lessons.get(order.trial):
            lesson.check(len(self.train))
        balanced = self._balanced if recipe.class_weights == "balanced" else None
        own = sum(value.numel() for name, value in state.weights.items() if name in self._trained)
        trainable = own + self._left_out
        member = Member(recipe, order.seed, state, start if pulled else {}, balanced, lesson)
        return Live(order, member, trainable, trainable + self._frozen)

    def _fresh(self, order: Order) -> dict[str, torch.Tensor]:
        recipe = order.recipe
        probed = self._probed if recipe.head_init == "probe" else {}
        if recipe.adaptation == "lora" or recipe.init == "scratch":
            return self._network(recipe, order.seed).trained_state() | probed
        # Only the head is new: the rest is the same for every seed, and building a body takes its time.
        return self._start | self._heads.state(recipe, order.seed) | probed

    def measure(self) -> tuple[float, int]:
        """Bytes that the forward pass of a batch of the longest examples keeps for its backward pass, and
        the batch's size."""
        recipe = self.recipe
        rows = min(len(self.train), -(-recipe.batch_size // recipe.accumulate))
        longest = np.argsort(-self.train.lengths, kind="stable")[:rows]
        network = place(self._ready(recipe, 0), self.device).train()
        inputs = to_device(self.train.batch(longest).inputs, self.device, self.arithmetic)
        # Dropout draws from torch's own generator here, whose state is nobody's business.
        with torch.random.fork_rng(), mixed(self.device, self.dtype), Activations(network) as kept:
            forward(network, inputs)
        return kept.bytes, rows

    def pace(self, lives: Sequence[Live]) -> float:
        """Seconds that a step of these trials in one stack takes for each of them; nothing of them changes.

        Raises:
            Unstackable: As for `stack`.
        """
        network = self._ready(_largest([live.member.recipe for live in lives]), 0)
        training = self._training(
            network, [replace(live.member, state=replace(live.member.state)) for live in lives]
        )
        return training.pace(STEPS) / len(lives)

    def stack(self, lives: Sequence[Live], position: Position | None = None) -> Stack:
        """One network of them all.

        Raises:
            Unstackable: Something they train has no stacked counterpart.
        """
        members = [live.member for live in lives]
        if self.closed_form:
            assert isinstance(self.train, Features) and isinstance(self.validation, Features)
            return HeadStack(
                members, self.task, self.train, self.validation, self.validation_targets, device=self.device,
                dtype=self.arithmetic,
            )  # fmt: skip
        network = self._ready(_largest([member.recipe for member in members]), members[0].seed)
        training = self._training(network, members)
        if position is not None:
            training.resume(position)
        return training

    def _training(self, network: Network, members: list[Member]) -> Training:
        return Training(
            network, members, self.task, self.train, self.validation, self.validation_targets,
            device=self.device, dtype=self.dtype, watchdog=self.watchdog,
            step_seconds=None if self.step_seconds is None else self.step_seconds * len(members),
        )  # fmt: skip

    def _ready(self, recipe: Recipe, seed: int) -> Network:
        """A network that begins where the examples do, and computes nothing that nobody reads."""
        network = self._network(recipe, seed)
        if self.cached and self.depth > 0:
            cut.at(network, self.depth)
        first_token.narrow(network)
        return network

    def _network(self, recipe: Recipe, seed: int) -> Network:
        network = build(
            self.source, recipe, level=self.task.level, num_outputs=self.task.num_outputs, seed=seed
        )
        network = network.to(self.arithmetic)
        if self._vocabulary is not None:
            self._vocabulary.narrow(network)
        return network


def _mostly_convolutions(network: Network) -> bool:
    """Whether convolutions hold most of what is trained."""
    kernels = sum(p.numel() for p in network.trainable().values() if p.ndim == 4)
    return 2 * kernels > _trained_numbers(network)


def _trained_numbers(network: Network) -> int:
    return sum(p.numel() for p in network.trainable().values())


def _largest(recipes: Sequence[Recipe]) -> Recipe:
    """A recipe of this structure that has room for all: for the largest rank, and for every rate of
    dropout.
    """
    largest = max(recipes, key=lambda recipe: recipe.lora_rank)
    rates = [recipe.dropout for recipe in recipes if recipe.dropout is not None]
    return largest.model_copy(update={"dropout": max(rates)}) if rates else largest
