"""Some rows of an engine's training split as the splits of another engine, which shares its frozen outputs.

How rows are drawn for a cross-validation is `luthier.evaluate.resampling`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import numpy as np
import torch

from luthier.engine.checkpoint import Checkpoints
from luthier.engine.engine import Engine
from luthier.engine.inputs import Inputs, Split
from luthier.engine.prefix import Features
from luthier.engine.sharing import Sharing
from luthier.models.network import Network
from luthier.models.source import Source
from luthier.recipe import Recipe
from luthier.tasks.base import Batch, Examples

POOL = "train"
"""The split that rows are of."""


class Rows:
    """Some of a split's examples.

    Args:
        examples: The split.
        rows: (m,) which of them, in their order here.
    """

    def __init__(self, examples: Examples, rows: np.ndarray) -> None:
        self.examples = examples
        self.rows = rows
        self.lengths = examples.lengths[rows]
        self.truncated = examples.truncated

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: np.ndarray) -> Batch:
        """These of them; ``indices`` of the batch are the places here."""
        found = self.examples.batch(self.rows[indices])
        return Batch(found.inputs, found.targets, indices)

    def targets_of(self, indices: np.ndarray) -> torch.Tensor:
        """Their targets."""
        return self.examples.targets_of(self.rows[indices])

    def fingerprint(self) -> str:
        """A hex digest of the split's and the rows."""
        digest = hashlib.sha256(self.examples.fingerprint().encode())
        digest.update(np.ascontiguousarray(self.rows, dtype=np.int64).tobytes())
        return digest.hexdigest()


class RowInputs(Inputs):
    """Splits that are rows of another's training split.

    Args:
        inputs: Has the training split.
        rows: Split name to (m,) rows of it.
    """

    def __init__(self, inputs: Inputs, rows: dict[str, np.ndarray]) -> None:
        frames = {name: inputs.frames[POOL].iloc[each] for name, each in rows.items()}
        super().__init__(inputs.task, frames, inputs.root)
        self.pool = inputs
        self.rows = rows
        self._processors = inputs._processors

    def split(self, name: str, source: Source, recipe: Recipe) -> Split:
        """Rows of the split that was encoded once."""
        whole, rows = self.pool.split(POOL, source, recipe), self.rows[name]
        return Split(Rows(whole.examples, rows), [whole.targets[row] for row in rows])

    def encoded(self, name: str, source: Source, recipe: Recipe) -> bool:
        """Whether the pool's split is at hand."""
        return self.pool.encoded(POOL, source, recipe)


class RowSharing(Sharing):
    """Frozen outputs of rows, taken from those of the whole training split.

    Args:
        inputs: The rows.
        pool: The frozen outputs of all of them.
    """

    def __init__(self, inputs: RowInputs, pool: Sharing) -> None:
        super().__init__(inputs, pool.store, pool.device, pool.dtype, pool.autocast, pool.passed)
        self.pool = pool
        self.rows = inputs.rows

    def features(
        self, network: Network, source: Source, recipe: Recipe, split: str, depth: int, also: Iterable[int]
        = (), *, halt: Callable[[], str | None] | None = None,
    ) -> Features:  # fmt: skip
        """As for `Sharing.features`."""
        recipe = recipe if split == POOL else recipe.model_copy(update={"augmentation": "none"})
        whole = self.pool.features(network, source, recipe, POOL, depth, also, halt=halt)
        return whole.of_rows(Rows(whole.examples, self.rows[split]), self.rows[split])

    def known(self, source: Source, recipe: Recipe, split: str, depth: int) -> bool:
        """Whether those of all rows need no computing."""
        return self.pool.known(source, recipe, POOL, depth)

    def bytes(self, network: Network, source: Source, recipe: Recipe, depth: int) -> int:
        """What those of all rows take."""
        return self.pool.bytes(network, source, recipe, depth)


def on_rows(pool: Engine, rows: dict[str, np.ndarray], checkpoints: Checkpoints) -> Engine:
    """An engine whose splits are rows of another's training split.

    Args:
        pool: The other; what it measured and computed serves both.
        rows: ``train`` and ``validation`` to (m,) rows.
        checkpoints: Its own.
    """
    inputs = RowInputs(pool.inputs, rows)
    engine = Engine(
        inputs, pool.sources, checkpoints, str(pool.device), store=pool.sharing.store,
        dtype=pool.sharing.dtype, auto=pool.auto, arithmetic=pool.arithmetic,
    )  # fmt: skip
    engine.sharing = RowSharing(inputs, pool.sharing)
    engine.know(pool)
    return engine
