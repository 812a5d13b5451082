"""Optimizers as recipes name them: groups by depth, decoupled decay, penalties, clipping and the schedule.

Weight decay is decoupled for every optimizer but ``adam``, where it is the classical L2 term in the gradient:
that is the difference between the two Adams (Loshchilov & Hutter 2019, algorithm 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from luthier.recipe import Recipe


class Lion(torch.optim.Optimizer):
    """Sign of an interpolated momentum (Chen et al. 2023, algorithm 2).

    Decay is applied by `Updater`, as for the others.

    Args:
        params: Parameters or groups.
        lr: Learning rate; a third to a tenth of AdamW's is usual.
        betas: Interpolation for the update, and for the momentum.
    """

    def __init__(
        self, params: Iterable[dict[str, Any]], lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99)
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update from the gradients."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"]
                update = momentum.mul(beta1).add_(parameter.grad, alpha=1 - beta1).sign_()
                parameter.add_(update, alpha=-group["lr"])
                momentum.mul_(beta2).add_(parameter.grad, alpha=1 - beta2)


def rate_factor(schedule: str, step: int, total: int, warmup: float) -> float:
    """What the peak rate is multiplied by at a step.

    Args:
        schedule: ``constant``, ``linear`` (to zero) or ``cosine`` (to zero).
        step: 0-based step.
        total: Steps of the whole training.
        warmup: Share of all steps in which the rate rises linearly.
    """
    rising = math.ceil(warmup * total)
    if step < rising:
        return (step + 1) / rising
    if schedule == "constant":
        return 1.0
    progress = (step - rising) / max(1, total - rising)
    return 1.0 - progress if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))


class Updater:
    """One trial's optimizer: everything between a backward pass and the next forward pass.

    Args:
        parameters: What is trained, by name. In a stack these are views of the trial's slices.
        depth: How far below the output a parameter lies; see `Network.depth`.
        recipe: Optimizer, rates, decay, penalties, clipping and schedule.
        total_steps: Steps of the whole training, for the schedule.
        start: The weights that L2-SP pulls to, by name; only asked for with ``l2_start``.
    """

    def __init__(
        self, parameters: Mapping[str, torch.nn.Parameter], depth: Callable[[str], int], recipe: Recipe,
        total_steps: int, start: Mapping[str, torch.Tensor] | None = None,
    ) -> None:  # fmt: skip
        self.recipe = recipe
        self.total_steps = total_steps
        self.step_count = 0
        self.named = dict(parameters)
        self.parameters = list(self.named.values())
        self.groups = _groups(self.named, depth, recipe)
        self.optimizer = _optimizer(self.groups, recipe)
        self._decayed = [p for group in self.groups if group["decay"] for p in group["params"]]
        # L2-SP pulls only what has a meaningful start: a new head starts from noise
        # (Li et al. 2018, section 3).
        self._started = [
            (parameter, start[name])
            for name, parameter in self.named.items()
            if start is not None and recipe.l2_start > 0 and depth(name) > 0
        ]

    def step(self) -> None:
        """Penalties, clipping, decay, and one step at this step's rate; then gradients are cleared."""
        recipe = self.recipe
        factor = rate_factor(recipe.schedule, self.step_count, self.total_steps, recipe.warmup)
        with torch.no_grad():
            self._penalise()
            if recipe.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(self.parameters, recipe.clip_norm, foreach=True)
            for group in self.optimizer.param_groups:
                group["lr"] = group["peak"] * factor
                if group["decay"] and recipe.weight_decay > 0 and recipe.optimizer != "adam":
                    torch._foreach_mul_(group["params"], 1.0 - group["lr"] * recipe.weight_decay)
        self.optimizer.step()
        self.skip()

    def skip(self) -> None:
        """Clears the gradients and lets the schedule go on.

        This is the end of a step, or all of one whose gradients are useless.
        """
        self.optimizer.zero_grad(set_to_none=True)
        self.step_count += 1

    def state(self) -> dict[str, dict[str, torch.Tensor]]:
        """Copies of the optimizer's tensors, by parameter name, then by torch's name for them."""
        return {
            name: {
                key: value.detach().clone()
                for key, value in self.optimizer.state[parameter].items()
                if isinstance(value, torch.Tensor)
            }
            for name, parameter in self.named.items()
            if parameter in self.optimizer.state
        }

    def load(self, state: Mapping[str, Mapping[str, torch.Tensor]], steps: int) -> None:
        """Goes on from what `state` gave after so many steps; the tensors are taken over, not copied."""
        self.step_count = steps
        for name, tensors in state.items():
            self.optimizer.state[self.named[name]] = dict(tensors)

    def _penalise(self) -> None:
        if self.recipe.l1 > 0:
            for parameter in self._decayed:
                if parameter.grad is not None:
                    parameter.grad.add_(parameter.sign(), alpha=self.recipe.l1)
        for parameter, start in self._started:
            if parameter.grad is not None:
                parameter.grad.add_(parameter - start, alpha=self.recipe.l2_start)


def _groups(
    named: Mapping[str, torch.nn.Parameter], depth: Callable[[str], int], recipe: Recipe
) -> list[dict[str, Any]]:
    """Groups of equal depth and decay.

    The top block trains at the recipe's rate, lower ones at decayed rates, the head at its ratio.
    """
    groups: dict[tuple[int, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in named.items():
        # Biases and norm weights are not shrunk: pulling them to zero changes the function's offset, not its
        # complexity.
        groups.setdefault((depth(name), parameter.ndim > 1), []).append(parameter)
    made = []
    for (level, decay), parameters in sorted(groups.items()):
        scale = recipe.head_lr_ratio if level == 0 else recipe.layer_decay ** (level - 1)
        peak = recipe.learning_rate * scale
        made.append({"params": parameters, "lr": peak, "peak": peak, "depth": level, "decay": decay})
    return made


def _optimizer(groups: list[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    rate, momentum = recipe.learning_rate, recipe.momentum
    match recipe.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=rate, betas=(momentum, 0.999), weight_decay=0.0, fused=True)
        case "adam":
            # Each group carries its own L2: biases and norms take none here either.
            for group in groups:
                group["weight_decay"] = recipe.weight_decay if group["decay"] else 0.0
            return torch.optim.Adam(groups, lr=rate, betas=(momentum, 0.999), fused=True)
        case "sgd":
            return torch.optim.SGD(
                groups, lr=rate, momentum=momentum, nesterov=recipe.nesterov and momentum > 0
            )
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=rate, momentum=momentum)
        case "lion":
            return Lion(groups, lr=rate, betas=(momentum, 0.99))
        case "adafactor":
            return torch.optim.Adafactor(groups, lr=rate, weight_decay=0.0)
