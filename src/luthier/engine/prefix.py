"""The frozen part of a network, computed once: features of every example, kept and handed to any head.

Where only the head is trained, the body's outputs are the same in every epoch and every trial. The body runs in eval mode, so
its dropout and batch statistics are off; that is what makes the outputs cacheable, and it is how `Network` trains such a recipe
without a cache, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from luthier.engine.batches import evaluation_batches
from luthier.models.network import Network
from luthier.tasks.base import Batch, Examples

EVALUATION_BATCH = 128


@dataclass
class Features:
    """A split's frozen outputs; an `Examples` whose batches carry ``features`` instead of tokens or pixels.

    Attributes:
        values: (n, width), or (total tokens, width) with ``offsets`` for outputs that keep their tokens.
        offsets: (n + 1,) where each example's tokens begin and end, or None.
        examples: What the features were computed from; targets come from there.
    """

    values: torch.Tensor
    offsets: np.ndarray | None
    examples: Examples

    def __post_init__(self) -> None:
        self.truncated = self.examples.truncated
        # Pooled vectors all cost the same.
        self.lengths = np.ones(len(self.examples), dtype=np.int64) if self.offsets is None else np.diff(self.offsets)
        self._targets: list[torch.Tensor] | None = None

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def nbytes(self) -> int:
        """Memory taken, in bytes."""
        return self.values.numel() * self.values.element_size()

    def batch(self, indices: np.ndarray) -> Batch:
        """Features (batch, width) or zero-padded (batch, length, width), with the targets of these examples."""
        if self.offsets is None:
            features = self.values[torch.as_tensor(indices, dtype=torch.int64)]
        else:
            rows = [self.values[self.offsets[i] : self.offsets[i + 1]] for i in indices]
            features = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        batch = self.examples.batch(indices)
        return Batch({"features": features.float()}, batch.targets, indices)


def compute(network: Network, examples: Examples, device: torch.device, *, batch_size: int = EVALUATION_BATCH) -> Features:
    """Runs the frozen body over a split, longest examples first.

    Args:
        network: A network whose body is frozen; its head is not used.
        examples: The split.
        device: Where to compute; the features themselves are kept in main memory in float32.
        batch_size: Examples a forward pass.
    """
    network.to(device).eval()
    rows: list[torch.Tensor | None] = [None] * len(examples)
    ragged = False
    with torch.inference_mode():
        for indices in evaluation_batches(examples.lengths, batch_size):
            batch = examples.batch(indices)
            features = network.features(**{k: v.to(device) for k, v in batch.inputs.items()}).cpu()
            ragged = features.ndim == 3
            for row, index in enumerate(indices):
                rows[index] = features[row, : examples.lengths[index]].clone() if ragged else features[row].clone()
    kept = [row for row in rows if row is not None]
    if not ragged:
        return Features(torch.stack(kept), None, examples)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in kept])]).astype(np.int64)
    return Features(torch.cat(kept), offsets, examples)
