"""The optimizers of recipes on matrices, a row a trial: each row by its own rule, rates, decay and clipping.

What `luthier.engine.optim.Updater` does to the parameters of one trial, `Rules` does to those of many in a
few operations. Adafactor is missing: its statistics are not of single numbers but of rows and columns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch

from luthier.engine.optim import rate_factor
from luthier.recipe import Recipe

# Rows come in this order, so that those of one rule lie together, and those of Adam's own weight decay, too.
KINDS = ("adamw", "adam", "sgd", "rmsprop", "lion")

# The constants that recipes leave alone, as `luthier.engine.optim` has them from torch.optim.
ADAM_BETA2, LION_BETA2, RMSPROP_ALPHA, EPS = 0.999, 0.99, 0.99, 1e-8


class Rule(ABC):
    """One optimizer's step for some rows.

    Args:
        recipes: Of these rows.
        like: (rows, parameters) matrix; the rule's own matrices start as zeros of its kind.

    Attributes:
        state: The matrices that it carries from step to step, by torch.optim's names.
    """

    names: ClassVar[tuple[str, ...]]
    """Names of its matrices."""
    counts: ClassVar[bool] = False
    """Whether torch.optim keeps a ``step`` beside them."""

    def __init__(self, recipes: Sequence[Recipe], like: torch.Tensor) -> None:
        self.state = {name: torch.zeros_like(like) for name in self.names}
        self.momentum = _column([recipe.momentum for recipe in recipes], like)
        # Rounded once, from the exact difference: 1 - 0.9 in float32 is off in the seventh digit.
        self.rest = _column([1 - recipe.momentum for recipe in recipes], like)

    @abstractmethod
    def update(
        self, x: torch.Tensor, g: torch.Tensor, work: torch.Tensor, size: torch.Tensor, eps: torch.Tensor
    ) -> None:
        """Moves ``x`` along, in place.

        Args:
            x: (rows, parameters).
            g: Gradients; their memory may be used.
            work: Memory of the same shape.
            size: (rows, 1) negative step sizes.
            eps: (rows, 1) what is added to denominators.
        """


class Adam(Rule):
    """Adam and AdamW (Kingma & Ba 2015); bias corrections are in ``size`` and ``eps``."""

    names = ("exp_avg", "exp_avg_sq")
    counts = True

    def update(
        self, x: torch.Tensor, g: torch.Tensor, work: torch.Tensor, size: torch.Tensor, eps: torch.Tensor
    ) -> None:
        """Moves along the mean gradient divided by the root of the mean square."""
        mean, square = self.state["exp_avg"], self.state["exp_avg_sq"]
        mean.lerp_(g, self.rest)
        square.mul_(ADAM_BETA2).addcmul_(g, g, value=1 - ADAM_BETA2)
        torch.sqrt(square, out=work)
        torch.div(mean, work.add_(eps), out=work)
        x.addcmul_(work, size)


class SGD(Rule):
    """Gradient descent with momentum, in Nesterov's form for some rows."""

    names = ("momentum_buffer",)

    def __init__(self, recipes: Sequence[Recipe], like: torch.Tensor) -> None:
        super().__init__(recipes, like)
        ahead = [recipe.nesterov and recipe.momentum > 0 for recipe in recipes]
        self.nesterov = any(ahead)
        # A row moves along own * gradient + share * momentum.
        self.own = _column([float(a) for a in ahead], like)
        self.share = _column([r.momentum if a else 1.0 for r, a in zip(recipes, ahead, strict=True)], like)

    def update(
        self, x: torch.Tensor, g: torch.Tensor, work: torch.Tensor, size: torch.Tensor, eps: torch.Tensor
    ) -> None:
        """Moves along the momentum, or further along what it will be."""
        momentum = self.state["momentum_buffer"]
        momentum.mul_(self.momentum).add_(g)
        if self.nesterov:
            x.addcmul_(g.mul_(self.own).addcmul_(momentum, self.share), size)
        else:
            x.addcmul_(momentum, size)


class RMSprop(Rule):
    """RMSprop with momentum, as torch has it."""

    names = ("square_avg", "momentum_buffer")
    counts = True

    def update(
        self, x: torch.Tensor, g: torch.Tensor, work: torch.Tensor, size: torch.Tensor, eps: torch.Tensor
    ) -> None:
        """Moves along the momentum of gradients divided by the root of their mean square."""
        square, momentum = self.state["square_avg"], self.state["momentum_buffer"]
        square.mul_(RMSPROP_ALPHA).addcmul_(g, g, value=1 - RMSPROP_ALPHA)
        torch.sqrt(square, out=work)
        torch.div(g, work.add_(eps), out=work)
        x.addcmul_(momentum.mul_(self.momentum).add_(work), size)


class Lion(Rule):
    """See `luthier.engine.optim.Lion`."""

    names = ("momentum",)

    def update(
        self, x: torch.Tensor, g: torch.Tensor, work: torch.Tensor, size: torch.Tensor, eps: torch.Tensor
    ) -> None:
        """Moves by the sign of an interpolated momentum."""
        momentum = self.state["momentum"]
        torch.mul(momentum, self.momentum, out=work)
        x.addcmul_(work.addcmul_(g, self.rest).sign_(), size)
        momentum.mul_(LION_BETA2).add_(g, alpha=1 - LION_BETA2)


_CLASSES: dict[str, type[Rule]] = {"adamw": Adam, "adam": Adam, "sgd": SGD, "rmsprop": RMSprop, "lion": Lion}


class Rules:
    """Everything between the gradients of many trials and their next weights.

    Args:
        recipes: One a row, sorted as `KINDS` has their optimizers.
        parameters: (trials, parameters), changed in place by `update`.
        decayed: The first so many parameters of a row are weights; the rest are biases, which are not shrunk.
        totals: Steps of each trial's whole training, for its schedule.
    """

    def __init__(
        self, recipes: Sequence[Recipe], parameters: torch.Tensor, decayed: int, totals: Sequence[int]
    ) -> None:
        places = [KINDS.index(recipe.optimizer) for recipe in recipes]
        if places != sorted(places):
            raise ValueError("The rows are not sorted by their optimizers.")
        self.recipes, self.parameters, self.decayed, self.totals = recipes, parameters, decayed, totals
        self.taken = np.zeros(len(recipes), dtype=np.int64)
        """Steps that each row's optimizer has behind it; whoever calls `update` counts them."""
        self._work = torch.empty_like(parameters)
        self._groups: list[tuple[slice, Rule]] = []
        classes = [_CLASSES[recipe.optimizer] for recipe in recipes]
        for made in dict.fromkeys(classes):
            rows = slice(classes.index(made), classes.index(made) + classes.count(made))
            self._groups.append((rows, made(recipes[rows], parameters[rows])))
        self._peaks = np.array([recipe.learning_rate * recipe.head_lr_ratio for recipe in recipes])
        self._l1 = _some([recipe.l1 for recipe in recipes], parameters)
        # Adam's own kind of decay goes through the gradient, all others' does not.
        coupled = [recipe.weight_decay * (recipe.optimizer == "adam") for recipe in recipes]
        self._coupled = _some(coupled, parameters)
        self._decay = np.array([recipe.weight_decay for recipe in recipes]) - coupled
        self._shrinks = bool(self._decay.any())
        self._clip: torch.Tensor | None = None
        if any(recipe.clip_norm is not None for recipe in recipes):
            self._clip = _column([recipe.clip_norm or 1.0 for recipe in recipes], parameters)
        self._clipped = _column([recipe.clip_norm is not None for recipe in recipes], parameters).bool()

    def plan(self, steps: Sequence[int], count: int) -> torch.Tensor:
        """What depends on the step, for some steps ahead.

        Args:
            steps: The step each trial's schedule stands at.
            count: Steps ahead.

        Returns:
            (count, 3, trials, 1) for `update`: negative step sizes, epsilons, what decay leaves of weights.
        """
        # Numbers that Python's floats are elsewhere: float64, rounded once at the end.
        factors = np.empty((count, len(self.recipes)))
        for row, (recipe, start, total) in enumerate(zip(self.recipes, steps, self.totals, strict=True)):
            schedule, warmup = recipe.schedule, recipe.warmup
            factors[:, row] = [rate_factor(schedule, start + i, total, warmup) for i in range(count)]
        rates = self._peaks * factors
        sizes, eps = rates.copy(), np.full_like(rates, EPS)
        for rows, rule in self._groups:
            if isinstance(rule, Adam):
                ages = self.taken[rows] + np.arange(1, count + 1)[:, None]
                first = 1 - np.array([recipe.momentum for recipe in self.recipes[rows]]) ** ages
                second = np.sqrt(1 - ADAM_BETA2**ages)
                sizes[:, rows] *= second / first
                eps[:, rows] *= second
        columns = np.stack([-sizes, eps, 1 - rates * self._decay], axis=1)
        return torch.from_numpy(columns).unsqueeze(-1).to(self.parameters.device, self.parameters.dtype)

    def update(self, gradients: torch.Tensor, now: torch.Tensor) -> None:
        """One step of all trials: penalty, clipping, decay, then each row's rule.

        Args:
            gradients: (trials, parameters); their memory is used.
            now: (3, trials, 1), this step of a `plan`.
        """
        size, eps, left = now.unbind(0)
        x, g, work = self.parameters, gradients, self._work
        weights, slopes = x[:, : self.decayed], g[:, : self.decayed]
        if self._l1 is not None:
            slopes.addcmul_(weights.sign(), self._l1)
        if self._clip is not None:
            norms = torch.linalg.vector_norm(g, dim=1, keepdim=True)
            factor = torch.clamp(self._clip / (norms + 1e-6), max=1.0)
            g.mul_(torch.where(self._clipped, factor, 1.0))
        if self._coupled is not None:
            slopes.addcmul_(weights, self._coupled)
        if self._shrinks:
            weights.mul_(left)
        for rows, rule in self._groups:
            rule.update(x[rows], g[rows], work[rows], size[rows], eps[rows])

    def matrices(self) -> list[torch.Tensor]:
        """All that `update` changes and the next step reads."""
        return [self.parameters, *(matrix for _, rule in self._groups for matrix in rule.state.values())]

    def state(self, row: int) -> dict[str, torch.Tensor]:
        """Copies of what a trial's optimizer remembers, in main memory.

        Returns:
            torch.optim's names to (parameters,), and ``step`` to a scalar; empty before the first step.
        """
        rows, rule = self._rule(row)
        if not self.taken[row]:
            return {}
        kept = {name: rule.state[name] for name in rule.names}
        if self.recipes[row].momentum == 0:
            kept.pop("momentum_buffer", None)  # torch.optim keeps none then.
        found = {name: matrix[row - rows.start].to("cpu", copy=True) for name, matrix in kept.items()}
        if rule.counts:
            found["step"] = torch.tensor(float(self.taken[row]), dtype=torch.float32)
        return found

    def load(self, row: int, state: Mapping[str, torch.Tensor], steps: int) -> None:
        """Goes on from what `state` gave.

        Args:
            row: The trial.
            state: As from `state`; what it lacks stays zero.
            steps: Steps taken so far, for optimizers that keep no ``step`` of their own.
        """
        rows, rule = self._rule(row)
        for name, matrix in rule.state.items():
            if name in state:
                matrix[row - rows.start].copy_(state[name])
        # Adam corrects by its own count: none where it remembers nothing.
        self.taken[row] = int(state.get("step", 0)) if rule.counts else steps

    def _rule(self, row: int) -> tuple[slice, Rule]:
        return next((rows, rule) for rows, rule in self._groups if rows.start <= row < rows.stop)


def _column(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).to(like.device, like.dtype).unsqueeze(-1)


def _some(values: Sequence[float], like: torch.Tensor) -> torch.Tensor | None:
    """A column, or None where it would do nothing."""
    return _column(values, like) if any(values) else None
