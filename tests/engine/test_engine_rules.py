"""Rows of matrices take the steps that `Updater` takes with the parameters of each trial alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.engine.optim import Updater
from luthier.engine.rules import KINDS, Rules
from luthier.recipe import Recipe

OUTPUTS, WIDTH, TOTAL = 3, 4, 9
NAMES = ("head.classifier.weight", "head.classifier.bias")


def recipe(**settings: Any) -> Recipe:
    return Recipe.parse({"model": "x", "learning_rate": 0.05, "weight_decay": 0.1} | settings)


recipes = st.builds(
    recipe,
    optimizer=st.sampled_from(KINDS),
    learning_rate=st.floats(1e-4, 0.3),
    head_lr_ratio=st.sampled_from([1.0, 3.0]),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    nesterov=st.booleans(),
    weight_decay=st.sampled_from([0.0, 0.2]),
    l1=st.sampled_from([0.0, 0.05]),
    clip_norm=st.sampled_from([None, 0.3, 100.0]),
    schedule=st.sampled_from(["constant", "linear", "cosine"]),
    warmup=st.sampled_from([0.0, 0.4]),
)


class Alone:
    """One trial's parameters and its own optimizer."""

    def __init__(self, chosen: Recipe, start: torch.Tensor) -> None:
        weight, bias = start[:-OUTPUTS].view(OUTPUTS, WIDTH), start[-OUTPUTS:]
        values = zip(NAMES, (weight, bias), strict=True)
        self.named = {name: torch.nn.Parameter(value.clone()) for name, value in values}
        self.updater = Updater(self.named, lambda name: 0, chosen, TOTAL)

    def step(self, gradient: torch.Tensor) -> None:
        weight, bias = self.named.values()
        weight.grad = gradient[:-OUTPUTS].view(OUTPUTS, WIDTH).clone()
        bias.grad = gradient[-OUTPUTS:].clone()
        self.updater.step()

    def flat(self) -> torch.Tensor:
        return torch.cat([value.detach().flatten() for value in self.named.values()])


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def stack(chosen: list[Recipe], dtype: torch.dtype = torch.float64) -> tuple[Rules, torch.Tensor]:
    parameters = numbers(len(chosen), OUTPUTS * (WIDTH + 1)).to(dtype)
    return Rules(chosen, parameters, OUTPUTS * WIDTH, [TOTAL] * len(chosen)), parameters


def step(rules: Rules, gradients: torch.Tensor, plan: torch.Tensor) -> None:
    rules.update(gradients.clone(), plan)
    rules.taken += 1


def in_order(chosen: list[Recipe]) -> list[Recipe]:
    return sorted(chosen, key=lambda each: KINDS.index(each.optimizer))


@given(st.lists(recipes, min_size=1, max_size=6), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_rows_step_as_alone(chosen: list[Recipe], seed: int) -> None:
    chosen = in_order(chosen)
    rules, parameters = stack(chosen)
    alone = [Alone(each, start) for each, start in zip(chosen, parameters.clone(), strict=True)]
    plan = rules.plan([0] * len(chosen), TOTAL)
    for index in range(TOTAL):
        gradients = numbers(*parameters.shape, seed=seed + index)
        step(rules, gradients, plan[index])
        for one, gradient in zip(alone, gradients, strict=True):
            one.step(gradient)
    for row, one in zip(parameters, alone, strict=True):
        torch.testing.assert_close(row, one.flat(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("optimizer", KINDS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_state_is_torchs(optimizer: str, momentum: float) -> None:
    chosen = [recipe(optimizer=optimizer, momentum=momentum)] * 2
    rules, parameters = stack(chosen)
    alone = Alone(chosen[1], parameters[1].clone())
    assert rules.state(1) == {}
    plan = rules.plan([0, 0], TOTAL)
    for index in range(3):
        gradients = numbers(*parameters.shape, seed=index)
        step(rules, gradients, plan[index])
        alone.step(gradients[1])
    ours, theirs = rules.state(1), alone.updater.state()
    for name, place in zip(NAMES, (slice(None, -OUTPUTS), slice(-OUTPUTS, None)), strict=True):
        assert ours.keys() == theirs.get(name, {}).keys()
        for key, value in theirs.get(name, {}).items():
            mine = ours[key][place] if ours[key].ndim else ours[key]
            torch.testing.assert_close(mine, value.flatten() if value.ndim else value, check_dtype=True)


@pytest.mark.parametrize("optimizer", KINDS)
def test_a_row_goes_on_elsewhere_among_others(optimizer: str) -> None:
    """A trial that moves between stacks, at another row and step, does as if it had stayed."""
    one, other = recipe(optimizer=optimizer), recipe(optimizer=optimizer, momentum=0.4, learning_rate=0.2)
    rules, parameters = stack([one, other])
    alone = Alone(one, parameters[0].clone())
    plan = rules.plan([0, 0], 4)
    for index in range(4):
        gradients = numbers(*parameters.shape, seed=index)
        step(rules, gradients, plan[index])
        alone.step(gradients[0])
    later, moved = stack([other, one])
    moved[1] = parameters[0]
    later.load(1, rules.state(0), steps=4)
    plan = later.plan([0, 4], 5)
    for index in range(5):
        gradients = numbers(*moved.shape, seed=10 + index)
        step(later, gradients, plan[index])
        alone.step(gradients[1])
    torch.testing.assert_close(moved[1], alone.flat(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("optimizer", KINDS)
def test_rows_never_meet(optimizer: str) -> None:
    """Gradients that are no numbers leave the other rows as they would be without them."""
    chosen = [recipe(optimizer=optimizer, clip_norm=clip, l1=0.1) for clip in (1.0, None, 1.0)]
    found = []
    for bad in (0.0, float("nan"), float("inf")):
        rules, parameters = stack(chosen)
        gradients = numbers(*parameters.shape)
        gradients[1] += bad
        step(rules, gradients, rules.plan([0] * 3, TOTAL)[0])
        found.append(parameters[[0, 2]])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_a_gradient_too_large_to_square_passes_unclipped() -> None:
    """A norm that overflows says nothing of a trial that does not clip."""
    chosen = [recipe(optimizer="sgd", momentum=0.0, clip_norm=c, weight_decay=0.0) for c in (None, 1.0)]
    rules, parameters = stack(chosen, torch.float32)
    before = parameters.clone()
    step(rules, torch.full_like(parameters, 1e30), rules.plan([5, 5], 1)[0])
    assert bool(torch.isfinite(parameters).all())
    assert bool((parameters[0] < -1e20).all())
    assert torch.equal(parameters[1], before[1])


def test_decay_in_float32_is_rounded_once() -> None:
    chosen = [recipe(optimizer="sgd", learning_rate=3e-5, weight_decay=0.01, schedule="constant", warmup=0)]
    rules, _ = stack(chosen, torch.float32)
    left = rules.plan([0], 1)[0, 2, 0, 0]
    assert float(left) == float(np.float32(1 - 3e-5 * 0.01))


def test_rows_must_be_sorted() -> None:
    with pytest.raises(ValueError, match="sorted"):
        stack([recipe(optimizer="lion"), recipe(optimizer="adamw")])
