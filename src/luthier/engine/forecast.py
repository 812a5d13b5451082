"""`Forecast`: what recipes will cost on one dataset, from what was seen of their models. How it is worked out
is `cost`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from luthier.engine.cost import Cost, CostModel, profile
from luthier.engine.inputs import Inputs
from luthier.engine.setting import Setting
from luthier.engine.sharing import shares
from luthier.models.network import Network
from luthier.models.source import Source
from luthier.recipe import Recipe

# Examples that a model's speed is measured on.
SAMPLE = 32


class Forecast:
    """Tells the cost model what it has to know of recipes and data, and asks it.

    Args:
        inputs: The encoded splits.
        sources: Models by the name that recipes use.
        device: Where it is trained.
    """

    def __init__(self, inputs: Inputs, sources: dict[str, Source], device: torch.device) -> None:
        self.model = CostModel()
        self._inputs = inputs
        self._sources = sources
        self._device = device
        self._met: set[tuple[str, int | None]] = set()
        self._blocks: dict[str, int] = {}

    def know(self, other: Forecast) -> None:
        """Takes over what another measured of the same models on this machine."""
        self.model = other.model
        self._met, self._blocks = set(other._met), dict(other._blocks)

    def meet(self, network: Network, recipe: Recipe) -> None:
        """Times a model that is seen for the first time, so that costs can be told before anything is
        trained.
        """
        source = self._sources[recipe.model]
        size = recipe.image_size
        if (source.fingerprint, size) in self._met:
            return
        self._blocks[source.fingerprint] = network.num_blocks
        examples = self._inputs.split("train", source, recipe).examples
        middle = np.argsort(examples.lengths, kind="stable")[len(examples) // 2 :][:SAMPLE]
        self.model.note(source.fingerprint, profile(network, examples.batch(middle).inputs, self._device))
        self._met.add((source.fingerprint, size))

    def knows(self, recipe: Recipe) -> bool:
        """Whether a recipe's model was seen."""
        return self._sources[recipe.model].fingerprint in self._blocks

    def depth(self, recipe: Recipe) -> int:
        """Depth of the deepest parameter that a recipe trains, of a known model; see `Network.cut`."""
        blocks = self._blocks[self._sources[recipe.model].fingerprint]
        deepest = {"probe": 0, "last_k": min(recipe.last_k, blocks), "lora": blocks}
        return deepest.get(recipe.adaptation, blocks + 1)

    def predict(self, recipe: Recipe, depth: int, *, cached: bool, size: int = 1) -> Cost | None:
        """What a recipe of a known model will cost, or None where its speed is not known yet.

        Args:
            recipe: What would be trained.
            depth: See `depth`.
            cached: Whether its frozen outputs are at hand.
            size: Trials in its stack; the cost is that of one of them.
        """
        fingerprint = self._sources[recipe.model].fingerprint
        return self.model.predict(fingerprint, recipe, size=size, cached=cached, **self._work(recipe, depth))

    def observe(self, setting: Setting, recipe: Recipe, size: int, seconds: float) -> None:
        """Teaches the cost model what an epoch took."""
        work = self._work(recipe, setting.depth) | {"cacheable": setting.cached}
        self.model.observe(setting.source.fingerprint, recipe, size, seconds, **work)

    def passed(self, source: Source, recipe: Recipe, depth: int, rows: int, seconds: float) -> None:
        """Teaches the cost model what a pass over the frozen part took."""
        self.model.observe_prefix(
            source.fingerprint, recipe, seconds, cut=depth, rows=rows, extent=self._extent(recipe)
        )

    def _work(self, recipe: Recipe, depth: int) -> dict[str, Any]:
        """What the cost model asks of a recipe."""
        rows = {name: len(frame) for name, frame in self._inputs.frames.items()}
        blocks = self._blocks[self._sources[recipe.model].fingerprint]
        return {
            "cut": depth, "rows": rows["train"], "validation_rows": rows["validation"],
            "cacheable": shares(recipe) and depth < blocks, "extent": self._extent(recipe),
        }  # fmt: skip

    def _extent(self, recipe: Recipe) -> float | None:
        """Pixels of an image; None for texts, whose mean length was profiled."""
        side = recipe.image_size or getattr(
            self._inputs.processor(self._sources[recipe.model]), "image_size", None
        )
        return None if side is None else float(side) ** 2
