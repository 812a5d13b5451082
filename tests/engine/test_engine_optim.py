from __future__ import annotations

from typing import Any

import pytest
import torch

from luthier.engine.optim import Updater, rate_factor
from luthier.recipe import OptimizerName, Recipe


class Pair(torch.nn.Module):
    """A body of two blocks and a head, with the interface that an `Updater` reads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lower, self.upper, self.head = (torch.nn.Linear(3, 3) for _ in range(3))

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        return dict(self.named_parameters())

    def depth(self, name: str) -> int:
        return {"head": 0, "upper": 1, "lower": 2}[name.split(".")[0]]

    def loss(self) -> torch.Tensor:
        x = torch.linspace(-1, 1, 12).reshape(4, 3)
        return (self.head(self.upper(self.lower(x)).tanh()) ** 2).sum()


def recipe(**settings: Any) -> Recipe:
    plain = {
        "model": "x",
        "learning_rate": 0.01,
        "weight_decay": 0.0,
        "clip_norm": None,
        "schedule": "constant",
    }
    return Recipe.parse(plain | {"warmup": 0.0} | settings)


def updater_of(net: Pair, chosen: Recipe, steps: int) -> Updater:
    start = {name: parameter.detach().clone() for name, parameter in net.trainable().items()}
    return Updater(net.trainable(), net.depth, chosen, steps, start)


def train(updater: Updater, net: Pair, steps: int = 3) -> torch.Tensor:
    for _ in range(steps):
        net.loss().backward()
        updater.step()
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def reference(make: Any, steps: int = 3) -> torch.Tensor:
    net = Pair()
    optimizer = make(net)
    for _ in range(steps):
        optimizer.zero_grad()
        net.loss().backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def decayed(net: Pair, decay: float) -> list[dict[str, Any]]:
    weights = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim == 1]
    return [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("adamw", lambda n: torch.optim.AdamW(decayed(n, 0.1), lr=0.01)),
        ("adam", lambda n: torch.optim.Adam(decayed(n, 0.1), lr=0.01)),
    ],
)
def test_decay_is_that_of_the_reference(name: OptimizerName, make: Any) -> None:
    net = Pair()
    ours = train(updater_of(net, recipe(optimizer=name, weight_decay=0.1), 3), net)  # type: ignore[arg-type]
    torch.testing.assert_close(ours, reference(make))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("sgd", lambda n: torch.optim.SGD(n.parameters(), lr=0.01, momentum=0.9, nesterov=True)),
        ("adafactor", lambda n: torch.optim.Adafactor(n.parameters(), lr=0.01, weight_decay=0.0)),
        ("rmsprop", lambda n: torch.optim.RMSprop(n.parameters(), lr=0.01, momentum=0.9)),
    ],
)
def test_without_decay_it_is_the_reference(name: OptimizerName, make: Any) -> None:
    net = Pair()
    torch.testing.assert_close(train(updater_of(net, recipe(optimizer=name), 3), net), reference(make))  # type: ignore[arg-type]


def test_decoupled_decay_does_not_pass_through_momentum() -> None:
    """Without gradient, decoupled decay shrinks weights by exactly 1 - rate * decay in every optimizer."""
    for name in ("adamw", "sgd", "rmsprop", "lion"):
        net = Pair()
        before = net.upper.weight.detach().clone()
        updater = updater_of(net, recipe(optimizer=name, weight_decay=0.5), 1)  # type: ignore[arg-type]
        for parameter in net.parameters():
            parameter.grad = torch.zeros_like(parameter)
        updater.step()
        torch.testing.assert_close(net.upper.weight.detach(), before * (1 - 0.01 * 0.5))


def test_lion_moves_by_the_sign() -> None:
    net = Pair()
    before = net.head.weight.detach().clone()
    updater = updater_of(net, recipe(optimizer="lion"), 2)  # type: ignore[arg-type]
    net.loss().backward()
    assert net.head.weight.grad is not None
    first = net.head.weight.grad.clone()
    updater.step()
    torch.testing.assert_close(net.head.weight.detach(), before - 0.01 * first.sign())
    net.loss().backward()
    second, middle = net.head.weight.grad.clone(), net.head.weight.detach().clone()
    updater.step()
    # The momentum after one step is (1 - beta 2) times the gradient.
    update = 0.9 * (0.01 * first) + 0.1 * second
    torch.testing.assert_close(net.head.weight.detach(), middle - 0.01 * update.sign())


def test_rates_by_depth() -> None:
    net = Pair()
    updater = updater_of(net, recipe(head_lr_ratio=5.0, layer_decay=0.5), 1)  # type: ignore[arg-type]
    peaks = {group["depth"]: group["peak"] for group in updater.groups}
    assert peaks == pytest.approx({0: 0.05, 1: 0.01, 2: 0.005})


def test_penalties_are_gradients_of_the_loss() -> None:
    net = Pair()
    updater = updater_of(net, recipe(optimizer="sgd", momentum=0.0, l1=0.3, l2_start=0.7), 2)  # type: ignore[arg-type]
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    train(updater, net, 2)

    other = Pair()
    for _ in range(2):
        loss = other.loss()
        for name, parameter in other.named_parameters():
            if parameter.ndim > 1:
                loss = loss + 0.3 * parameter.abs().sum()
            if not name.startswith("head"):
                loss = loss + 0.35 * ((parameter - start[name]) ** 2).sum()
        for parameter, gradient in zip(
            other.parameters(), torch.autograd.grad(loss, list(other.parameters())), strict=True
        ):
            parameter.data -= 0.01 * gradient
    for ours, theirs in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_gradients_are_clipped() -> None:
    net = Pair()
    before = [p.detach().clone() for p in net.parameters()]
    updater = updater_of(net, recipe(optimizer="sgd", momentum=0.0, clip_norm=0.001, learning_rate=1.0), 1)  # type: ignore[arg-type]
    train(updater, net, 1)
    moved = torch.cat([(p - b).flatten() for p, b in zip(net.parameters(), before, strict=True)])
    assert float(moved.detach().norm()) == pytest.approx(0.001, rel=1e-3)


def test_schedules() -> None:
    linear = [rate_factor("linear", step, 10, 0.2) for step in range(10)]
    assert linear[:2] == [0.5, 1.0]
    assert linear[2] == 1.0
    assert linear[-1] == pytest.approx(1 / 8)
    assert linear[2:] == sorted(linear[2:], reverse=True)
    assert rate_factor("cosine", 5, 10, 0.0) == pytest.approx(0.5)
    assert [rate_factor("constant", step, 4, 0.0) for step in range(4)] == [1.0] * 4
