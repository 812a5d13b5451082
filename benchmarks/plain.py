"""The same trainings written plainly in PyTorch, one at a time, from features cached above the frozen part.

Batches come in the engine's order, so that the losses are those of the same trainings. Where nothing is
cached the whole network runs, on batches of similar length.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from jobs import Work, say
from luthier.engine.batches import EVALUATION_BATCH, evaluation_batches, training_batches
from luthier.engine.optim import rate_factor
from luthier.models.network import Network
from luthier.recipe import Recipe
from luthier.tasks.base import Examples
from luthier.trial import Order


@dataclass(frozen=True)
class Data:
    """One split as the training loop reads it.

    Attributes:
        lengths: (n,) tokens of each example, ones where they all cost the same.
        targets: (n,) classes.
        logits: Logits of a network for the examples at some indices.
    """

    lengths: np.ndarray
    targets: torch.Tensor
    logits: Callable[[Network, np.ndarray], torch.Tensor]


class Plain:
    """Trains a job's trials; features are computed when it is made, outside of the clock."""

    def __init__(self, work: Work) -> None:
        self.work = work
        make = {"probe": pooled, "last_k": states}.get(work.recipe.adaptation, whole)
        network = channels_last(work.network(work.orders[0]))
        started = time.perf_counter()
        self.train_data, self.validation_data = (
            make(network, work.recipe, work.split(name).examples) for name in ("train", "validation")
        )
        if make is not whole:
            say(f"  plain PyTorch: features in {time.perf_counter() - started:.1f} s, which do not count")

    def train(self, order: Order) -> tuple[float, float]:
        """Seconds, and the validation loss after the last epoch. Building the network does not count."""
        network = channels_last(self.work.network(order))
        started = time.perf_counter()
        fit(network, order, self.train_data)
        loss = evaluate(network, self.validation_data)
        return time.perf_counter() - started, loss


def fit(network: Network, order: Order, data: Data) -> None:
    """The training loop."""
    recipe = order.recipe
    parameters = list(network.trainable().values())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
    steps = -(-len(data.lengths) // recipe.batch_size) * recipe.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: rate_factor(recipe.schedule, step, steps, recipe.warmup)
    )
    network.train()
    for epoch in range(1, recipe.epochs + 1):
        for indices in training_batches(data.lengths, recipe.batch_size, order.seed, epoch):
            loss = F.cross_entropy(data.logits(network, indices), data.targets[indices])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()


@torch.no_grad()
def evaluate(network: Network, data: Data) -> float:
    """The mean loss of a split."""
    network.eval()
    total = 0.0
    for indices in evaluation_batches(data.lengths, EVALUATION_BATCH):
        logits = data.logits(network, indices)
        total += float(F.cross_entropy(logits, data.targets[indices], reduction="sum"))
    return total / len(data.lengths)


def whole(network: Network, recipe: Recipe, examples: Examples) -> Data:
    """Nothing is cached: the whole network runs on padded batches."""

    def logits(network: Network, indices: np.ndarray) -> torch.Tensor:
        return network(**to_inputs(examples, indices))

    return Data(examples.lengths, targets(examples), logits)


@torch.no_grad()
def pooled(network: Network, recipe: Recipe, examples: Examples) -> Data:
    """What the head reads is cached, one vector an example."""
    values = torch.cat([network.features(**inputs) for inputs in passes(examples)])
    return Data(
        np.ones(len(values), dtype=np.int64),
        targets(examples),
        lambda network, indices: network.head(values[indices]),
    )


@torch.no_grad()
def states(network: Network, recipe: Recipe, examples: Examples) -> Data:
    """What goes into the lowest trained block is cached."""
    text = hasattr(network.backbone, "encoder")
    layers = network.backbone.encoder.layer if text else network.backbone.layer
    found: list[torch.Tensor] = []
    hook = layers[-recipe.last_k].register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    for inputs in passes(examples):
        network.features(**inputs)
    hook.remove()
    if not text:
        return image_states(torch.cat(found), recipe.last_k, examples)
    longest = int(examples.lengths.max())
    values = torch.cat([F.pad(each, (0, 0, 0, longest - each.shape[1])) for each in found])
    return text_states(values, recipe.last_k, examples)


def text_states(values: torch.Tensor, last: int, examples: Examples) -> Data:
    """The upper blocks of a BERT on cached states (n, longest, width), the head on its first token."""
    lengths = torch.from_numpy(examples.lengths)

    def logits(network: Network, indices: np.ndarray) -> torch.Tensor:
        length = int(lengths[indices].max())
        padding = torch.arange(length) >= lengths[indices][:, None]
        mask = torch.zeros(padding.shape).masked_fill(padding, torch.finfo(torch.float32).min)
        states = values[indices, :length]
        for layer in network.backbone.encoder.layer[-last:]:
            states = layer(states, mask[:, None, None] if padding.any() else None)
        return network.head(states[:, 0])

    return Data(examples.lengths, targets(examples), logits)


def image_states(values: torch.Tensor, last: int, examples: Examples) -> Data:
    """The upper blocks of a MobileNetV2 on cached states (n, channels, height, width), and its head."""

    def logits(network: Network, indices: np.ndarray) -> torch.Tensor:
        states = values[indices].contiguous(memory_format=torch.channels_last)
        for layer in network.backbone.layer[-last:]:
            states = layer(states)
        return network.head(network.backbone.conv_1x1(states).mean(dim=(2, 3)))

    return Data(examples.lengths, targets(examples), logits)


def passes(examples: Examples) -> Iterator[dict[str, torch.Tensor]]:
    """Inputs of a whole split, in its order."""
    for start in range(0, len(examples), EVALUATION_BATCH):
        yield to_inputs(examples, np.arange(start, min(start + EVALUATION_BATCH, len(examples))))


def targets(examples: Examples) -> torch.Tensor:
    """(n,) classes."""
    return examples.batch(np.arange(len(examples))).targets


def to_inputs(examples: Examples, indices: np.ndarray) -> dict[str, torch.Tensor]:
    """A padded batch, images with their channels last."""
    return {
        name: value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
        for name, value in examples.batch(indices).inputs.items()
    }


def channels_last(network: Network) -> Network:
    """Convolutions run faster so."""
    return network.to(memory_format=torch.channels_last)
