"""Three trials of one structure that differ in all else, alone and as one network, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import models_tiny
import torch
from torch.nn.functional import pad

from luthier.engine import stacked
from luthier.engine.forward import place
from luthier.engine.noise import Noise
from luthier.models import network
from luthier.models.source import Source
from luthier.recipe import Recipe

CPU = torch.device("cpu")
ROWS = 3
LENGTHS = [9, 6, 7]
RATES = [
    {"dropout": 0.1, "head_dropout": 0.3, "lora_dropout": 0.0},
    {"dropout": 0.0, "head_dropout": 0.1, "lora_dropout": 0.2},
    {"dropout": 0.3, "head_dropout": 0.0, "lora_dropout": 0.4},
]
UPDATES = [
    {"lora_rank": 2, "lora_alpha": 4.0},
    {"lora_rank": 4, "lora_alpha": 16.0},
    {"lora_rank": 1, "lora_alpha": 3.0},
]
Change = Callable[[network.Network], Any]


@dataclass
class Batch:
    """A trial's own batch, and its longest sequence; None for images."""

    inputs: dict[str, torch.Tensor]
    length: int | None


@dataclass
class Prepared:
    """A network ready for its trials, in training mode, at the beginning of an epoch."""

    network: network.Network
    noise: Noise
    recipes: list[Recipe]

    def outputs(self, batches: Sequence[Batch]) -> list[torch.Tensor]:
        """Logits of each trial, without padding."""
        lengths = [batch.length for batch in batches if batch.length is not None]
        self.noise.extent(ROWS, lengths or None)
        parts = self.network(**folded(batches)).chunk(len(batches))
        return [p[:, : b.length] if p.ndim == 3 else p for p, b in zip(parts, batches, strict=True)]

    def backward(self, batches: Sequence[Batch]) -> list[torch.Tensor]:
        """As `outputs`, after a backward pass from the sum of the trials' losses."""
        outputs = self.outputs(batches)
        torch.autograd.backward(sum(((each + 1) ** 2).mean() for each in outputs))
        return [each.detach() for each in outputs]

    def states(self) -> list[dict[str, torch.Tensor]]:
        return [stacked.state(self.network, k, recipe) for k, recipe in enumerate(self.recipes)]


def recipes(kind: str, adaptation: str, **settings: Any) -> list[Recipe]:
    common = {"model": kind, "adaptation": adaptation, "last_k": 1, **settings}
    return [Recipe(**{**rates, **update, **common}) for rates, update in zip(RATES, UPDATES, strict=True)]


def batches(kind: str) -> list[Batch]:
    return [_batch(kind, trial, length) for trial, length in enumerate(LENGTHS)]


def _batch(kind: str, trial: int, length: int) -> Batch:
    generator = torch.Generator().manual_seed(trial)
    if kind in models_tiny.IMAGE:
        pixels = torch.randn(ROWS, 3, models_tiny.SIDE, models_tiny.SIDE, generator=generator)
        return Batch({"pixel_values": pixels.double()}, None)
    ids = torch.randint(7, 29, (ROWS, length), generator=generator)
    mask = torch.ones_like(ids)
    ids[-1, 4:], mask[-1, 4:] = 1, 0
    return Batch({"input_ids": ids, "attention_mask": mask}, length)


def folded(given: Sequence[Batch]) -> dict[str, torch.Tensor]:
    """The trials' batches as one, padded to the longest of all."""
    longest = max(batch.length or 0 for batch in given)
    found = {}
    for name in given[0].inputs:
        values = [batch.inputs[name] for batch in given]
        if name in ("input_ids", "attention_mask"):
            filling = 1 if name == "input_ids" else 0
            values = [pad(value, (0, longest - value.shape[1]), value=filling) for value in values]
        elif name == "states" and given[0].length is not None:
            # Rubbish, as a cache may leave it there.
            values = [pad(value, (0, 0, 0, longest - value.shape[1]), value=7.0) for value in values]
        found[name] = torch.cat(values)
    return found


def build(found: Source, recipe: Recipe, seed: int = 0, level: Any = "example") -> network.Network:
    return network.build(found, recipe, level=level, num_outputs=3, seed=seed).double()


def started(net: network.Network, seed: int) -> dict[str, torch.Tensor]:
    """A trained state in which nothing is 0 or 1, and that no other seed has."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: value + 0.05 * torch.rand(value.shape, generator=generator, dtype=value.dtype)
        if value.is_floating_point()
        else value + seed
        for name, value in net.trained_state().items()
    }


def states(found: Source, wanted: Sequence[Recipe], level: Any = "example") -> list[dict[str, torch.Tensor]]:
    return [started(build(found, recipe, k, level), k) for k, recipe in enumerate(wanted)]


def prepared(
    found: Source,
    wanted: Sequence[Recipe],
    weights: Sequence[dict[str, torch.Tensor]],
    seeds: Sequence[int],
    *,
    level: Any = "example",
    change: Change = lambda net: None,
) -> Prepared:
    """A network for some trials, from the roomiest of their recipes and changed before it is prepared."""
    rates = [recipe.dropout for recipe in wanted if recipe.dropout is not None]
    largest = max(wanted, key=lambda recipe: recipe.lora_rank)
    net = build(found, largest.model_copy(update={"dropout": max(rates, default=None)}), 9, level)
    change(net)
    noise = Noise(seeds, CPU)
    stacked.prepare(net, noise, list(wanted))
    place(net, CPU).train()
    for index, state in enumerate(weights):
        stacked.load(net, index, state)
        noise.start(index, 1)
    return Prepared(net, noise, list(wanted))


def each_alone(
    found: Source,
    wanted: Sequence[Recipe],
    weights: Sequence[dict[str, torch.Tensor]],
    *,
    level: Any = "example",
    change: Change = lambda net: None,
) -> list[Prepared]:
    """The same trials, each in a network of its own."""
    return [
        prepared(found, [recipe], [state], [100 + k], level=level, change=change)
        for k, (recipe, state) in enumerate(zip(wanted, weights, strict=True))
    ]


def together(
    found: Source,
    wanted: Sequence[Recipe],
    weights: Sequence[dict[str, torch.Tensor]],
    *,
    level: Any = "example",
    change: Change = lambda net: None,
) -> Prepared:
    seeds = [100 + k for k in range(len(wanted))]
    return prepared(found, wanted, weights, seeds, level=level, change=change)


def assert_close(ours: torch.Tensor, theirs: torch.Tensor, what: str = "") -> None:
    """Equal but for rounding: to a billionth of the largest number."""
    assert ours.shape == theirs.shape, what
    scale = max(1.0, float(theirs.detach().abs().max())) if theirs.numel() else 1.0
    assert float((ours - theirs).detach().abs().max()) <= 1e-9 * scale, what


def assert_same_gradients(stack: Prepared, alone: Sequence[Prepared]) -> None:
    for found, each in zip(stacked.gradients(stack.network), alone, strict=True):
        expected = stacked.gradients(each.network)[0]
        assert found.keys() == expected.keys()
        assert any(bool(gradient.any()) for gradient in expected.values())
        for name, gradient in expected.items():
            own = tuple(slice(0, size) for size in gradient.shape)
            assert_close(found[name][own], gradient, name)


def assert_same_states(stack: Prepared, alone: Sequence[Prepared]) -> None:
    for found, each in zip(stack.states(), alone, strict=True):
        expected = each.states()[0]
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_close(found[name], value, name)
