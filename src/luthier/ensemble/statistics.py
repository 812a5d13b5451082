"""Batch normalisation of averaged weights: its statistics are estimated anew, since the mean of statistics is
not the statistics of the mean (Izmailov et al. 2018, algorithm 1).
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from luthier.engine.batches import generator
from luthier.engine.forward import forward, place, to_device
from luthier.ensemble.bench import Bench
from luthier.models.network import Network
from luthier.recipe import Recipe

# Training rows that statistics are estimated on: their means are then known to a fiftieth of their spread.
ROWS = 2048


def reestimated(
    bench: Bench, recipe: Recipe, seed: int, state: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """A trained state with statistics of its own weights; as it is where no batch normalisation is trained.

    Args:
        bench: Has the training rows.
        recipe: Of the network.
        seed: Of the network.
        state: As `Network.trained_state` gives it.
    """
    if not any(name.endswith(".running_mean") for name in state):
        return state
    network = bench.network(recipe, seed)
    network.load_trained_state(state)
    engine = bench.engine
    place(network, engine.device).eval()
    norms = _trained(network)
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    examples = engine.inputs.split("train", engine.sources[recipe.model], recipe).examples
    chosen = generator(bench.context.seed, 13).permutation(len(examples))[:ROWS]
    with torch.inference_mode():
        for indices in np.array_split(chosen, max(1, round(len(chosen) / max(32, recipe.batch_size)))):
            forward(network, to_device(examples.batch(indices).inputs, engine.device))
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    network.eval()
    return {name: value.cpu() for name, value in network.trained_state().items()}


def _trained(network: Network) -> list[_BatchNorm]:
    return [
        module
        for module in network.backbone.modules()
        if isinstance(module, _BatchNorm) and module.weight.requires_grad
    ]
