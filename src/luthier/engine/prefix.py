"""The frozen part of a network, computed once: features of every example, kept and handed to any head.

Where only the head is trained, the body's outputs are the same in every epoch and every trial. The body runs
in eval mode, so its dropout and batch statistics are off; that is what makes the outputs cacheable, and it is
how `Network` trains such a recipe without a cache, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from luthier.engine.batches import EVALUATION_BATCH, evaluation_batches
from luthier.engine.train import place, to_device
from luthier.models.network import Network
from luthier.tasks.base import Batch, Examples

# Targets with this value carry no loss.
IGNORED = -100


@dataclass
class Features:
    """A split's frozen outputs; an `Examples` whose batches carry ``features`` instead of tokens or pixels.

    Attributes:
        values: (n, width), or (total tokens, width) with ``offsets`` for outputs that keep their tokens.
        targets: (n, ...), or (total tokens,) with ``offsets``.
        offsets: (n + 1,) where each example's tokens begin and end, or None.
        truncated: Examples that were cut to the maximum length.
    """

    values: torch.Tensor
    targets: torch.Tensor
    offsets: np.ndarray | None
    truncated: int

    def __post_init__(self) -> None:
        # Pooled vectors all cost the same.
        count = len(self.values)
        self.lengths = np.ones(count, dtype=np.int64) if self.offsets is None else np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, indices: np.ndarray) -> Batch:
        """Features and targets of these examples.

        Features are (batch, width), or (batch, length, width) padded to the longest.
        """
        if self.offsets is None:
            chosen = torch.as_tensor(indices, dtype=torch.int64)
            return Batch({"features": self.values[chosen]}, self.targets[chosen], indices)
        spans = [slice(self.offsets[i], self.offsets[i + 1]) for i in indices]
        features = pad_sequence([self.values[span] for span in spans], batch_first=True)
        targets = pad_sequence(
            [self.targets[span] for span in spans], batch_first=True, padding_value=IGNORED
        )
        return Batch({"features": features}, targets, indices)


def compute(
    network: Network, examples: Examples, device: torch.device, *, batch_size: int = EVALUATION_BATCH
) -> Features:
    """Runs the frozen body over a split, longest examples first.

    Args:
        network: A network whose body is frozen; its head is not used.
        examples: The split.
        device: Where to compute; the features themselves are kept in main memory in float32.
        batch_size: Examples a forward pass.
    """
    place(network, device).eval()
    rows: dict[int, torch.Tensor] = {}
    targets: dict[int, torch.Tensor] = {}
    ragged = False
    with torch.no_grad():
        for indices in evaluation_batches(examples.lengths, batch_size):
            batch = examples.batch(indices)
            features = network.features(**to_device(batch.inputs, device)).float().cpu()
            ragged = features.ndim == 3
            for row, index in enumerate(indices):
                # Copies, so that no padded batch is kept alive by a view of it.
                end = int(examples.lengths[index])
                rows[index] = features[row, :end].clone() if ragged else features[row].clone()
                targets[index] = batch.targets[row, :end] if ragged else batch.targets[row]
    order = range(len(examples))
    if not ragged:
        values = torch.stack([rows[i] for i in order])
        return Features(values, torch.stack([targets[i] for i in order]), None, examples.truncated)
    offsets = np.concatenate([[0], np.cumsum([len(rows[i]) for i in order])]).astype(np.int64)
    values = torch.cat([rows[i] for i in order])
    return Features(values, torch.cat([targets[i] for i in order]), offsets, examples.truncated)
