"""What trials of one model share below their first trainable layer: its outputs for each split, computed
once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

import torch

from luthier.engine import cache, prefix
from luthier.engine.cache import FeatureCache
from luthier.engine.inputs import Inputs
from luthier.models import cut
from luthier.models.network import Network
from luthier.models.source import Source
from luthier.recipe import Recipe
from luthier.tasks.base import Examples

# Fixed random changes of each image where an augmented one passes frozen layers; see `prefix.compute`.
VIEWS = 4


class Sharing:
    """The frozen outputs of an engine's models on its splits.

    Args:
        inputs: The encoded splits.
        store: Where computed outputs are kept.
        device: Where to compute them.
        dtype: Of kept states; pooled vectors are float32 always.
        autocast: The type that a recipe's passes run in, or None for float32.
        passed: Told of each pass: the model, the recipe, its shallowest depth, its rows and its seconds.
        note: Told what a person should know.
    """

    def __init__(
        self, inputs: Inputs, store: FeatureCache, device: torch.device, dtype: str,
        autocast: Callable[[Recipe], torch.dtype | None] = lambda recipe: None,
        passed: Callable[[Source, Recipe, int, int, float], None] = lambda *_: None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:  # fmt: skip
        self.inputs = inputs
        self.store = store
        self.device = device
        self.dtype = dtype
        self.autocast = autocast
        self.passed = passed
        self.note = note
        self._keys: dict[tuple[object, ...], str] = {}

    def features(
        self, network: Network, source: Source, recipe: Recipe, split: str, depth: int, also: Iterable[int]
        = (), *, halt: Callable[[], str | None] | None = None,
    ) -> prefix.Features:  # fmt: skip
        """The outputs of what lies below a depth, from the store or by one pass over the split.

        Args:
            network: A whole network of the recipe, frozen below ``depth`` at least.
            source: Its model.
            recipe: Its preprocessing and pooling count, and for the training split its augmentation.
            split: Its name.
            depth: See `cut.capture`.
            also: Other depths that will be wanted: missing ones are filled by the same pass.
            halt: A reason ends the pass.

        Raises:
            Halted: ``halt`` gave a reason.
        """
        examples = self.inputs.split(split, source, recipe).examples
        found = self.store.get(self.key(source, recipe, split, depth), examples)
        if found is not None:
            return found
        wanted = [depth] + [
            other
            for other in sorted(set(also) - {depth})
            if other < network.num_blocks
            and self.fits(network, source, recipe, other)
            and not self.known(source, recipe, split, other)
        ]
        views, started = self._views(recipe, split), time.perf_counter()

        def compute(part: Examples, depths: Collection[int]) -> dict[int, prefix.Features]:
            return prefix.compute(
                network, part, depths, self.device, dtype=self.dtype, autocast=self.autocast(recipe),
                views=views, augmentation=recipe.augmentation, halt=halt,
            )  # fmt: skip

        computed, rows = self._grown(source, recipe, split, wanted, compute)
        if left := [each for each in wanted if each not in computed]:
            computed |= compute(examples, left)
            rows = len(examples) * max(1, views)
        self.passed(source, recipe, min(left or wanted), rows, time.perf_counter() - started)
        for each, features in computed.items():
            self.store.put(self.key(source, recipe, split, each), features)
        # What is too large for memory is read where it lies from now on.
        return self.store.get(self.key(source, recipe, split, depth), examples) or computed[depth]

    def _grown(
        self, source: Source, recipe: Recipe, split: str, depths: Sequence[int],
        compute: Callable[[Examples, Collection[int]], dict[int, prefix.Features]],
    ) -> tuple[dict[int, prefix.Features], int]:  # fmt: skip
        """Outputs of a split whose first rows an earlier run had computed, and how many rows were left to
        compute; of the depths at which it had.

        Augmented views are not met again: they depend on how many rows there are.
        """
        if self._views(recipe, split) or not (parts := self.inputs.parts(split, source, recipe)):
            return {}, 0
        old, new = parts
        met = {
            depth: found
            for depth in depths
            if (found := self.store.get(self._key(source, recipe, split, depth, old), old)) is not None
        }
        if not met:
            return {}, 0
        examples, added = self.inputs.split(split, source, recipe).examples, compute(new, list(met))
        # Rows of the one may have been too large for the type that the other was kept in.
        grown = {
            depth: replace(found, values=torch.cat([found.values, added[depth].values]), examples=examples)
            for depth, found in met.items()
            if found.values.dtype == added[depth].values.dtype
        }
        if grown:
            self.note(
                f"Frozen outputs of {source.name}: {len(old):,} of {len(examples):,} {split} rows were "
                "computed by an earlier run."
            )
        return grown, len(new)

    def known(self, source: Source, recipe: Recipe, split: str, depth: int) -> bool:
        """Whether these outputs need no computing; no, where the split would have to be encoded to tell."""
        encoded = self.inputs.encoded(split, source, recipe)
        return encoded and self.store.has(self.key(source, recipe, split, depth))

    def fits(self, network: Network, source: Source, recipe: Recipe, depth: int) -> bool:
        """Whether the outputs of all splits are small enough to be kept."""
        return self.bytes(network, source, recipe, depth) <= self.store.capacity

    def bytes(self, network: Network, source: Source, recipe: Recipe, depth: int) -> int:
        """What the outputs at a depth take in the store, over all splits, going by one example."""
        total = 0.0
        width = (
            4
            if depth == 0 and network.level == "example"
            else torch.finfo(getattr(torch, self.dtype)).bits // 8
        )
        for split in self.inputs.frames:
            examples = self.inputs.split(split, source, recipe).examples
            one = examples.batch(examples.lengths.argsort()[:1])
            with torch.no_grad():
                state = cut.capture(network, [depth], one.inputs)[depth]
            ragged = network.level == "token" or (depth > 0 and "attention_mask" in one.inputs)
            each = math.prod(state.shape[1:]) * width
            rows = (
                int(examples.lengths.sum()) / max(1, int(examples.lengths.min())) if ragged else len(examples)
            )
            total += each * rows * max(1, self._views(recipe, split))
        return int(total)

    def _views(self, recipe: Recipe, split: str) -> int:
        return VIEWS if recipe.augmentation != "none" and split == "train" else 0

    def key(self, source: Source, recipe: Recipe, split: str, depth: int) -> str:
        """The name of these outputs in the store: equal for recipes that share them."""
        views, autocast = self._views(recipe, split), str(self.autocast(recipe) or torch.float32)
        pooling = recipe.pooling if depth == 0 else "none"
        local = (*Inputs.key(source, recipe), split, depth, pooling, views and recipe.augmentation, autocast)
        if local not in self._keys:
            examples: Examples = self.inputs.split(split, source, recipe).examples
            self._keys[local] = self._key(source, recipe, split, depth, examples)
        return self._keys[local]

    def _key(self, source: Source, recipe: Recipe, split: str, depth: int, examples: Examples) -> str:
        """As `key`, of any rows."""
        # Weights and preprocessing, the rows by their content, and what is made of them. The pooling of the
        # head counts only where pooled vectors are kept, so that heads of all kinds share the states below
        # them.
        views = self._views(recipe, split)
        return cache.key(
            weights=source.fingerprint, data=examples.fingerprint(), depth=depth,
            level=self.inputs.task.level, pooling=recipe.pooling if depth == 0 else "none",
            device=self.device.type, dtype=self.dtype, precision=str(self.autocast(recipe) or torch.float32),
            views=views, augmentation=recipe.augmentation if views else "none",
        )  # fmt: skip


def shares(recipe: Recipe) -> bool:
    """Whether what a recipe leaves frozen is the same in other trials and all epochs."""
    return recipe.init == "pretrained" and recipe.adaptation in ("probe", "last_k")
