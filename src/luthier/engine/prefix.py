"""The frozen part of a network, computed once: its outputs for a split, from which batches are drawn for any
head, or any trained blocks, above it.

The body runs in eval mode, so its dropout and batch statistics are off; that is what makes the outputs the
same in every epoch and every trial, and it is how `Network` trains such a recipe without a cache, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np
import torch

from luthier.engine import augment
from luthier.engine.batches import EVALUATION_BATCH, evaluation_batches
from luthier.engine.forward import mixed, place, to_device, type_of
from luthier.engine.shelf import DTYPES
from luthier.engine.state import Halted
from luthier.models import cut
from luthier.models.network import Network
from luthier.tasks.base import Batch, Examples

# Values converted at a time where an array changes its type in place.
_CHUNK = 2**24


@dataclass
class Features:
    """A split's frozen outputs at one depth: an `Examples` that starts there.

    Texts that keep their tokens lie end to end, without padding. Targets are never kept: they are asked of
    the examples, so that outputs outlive a change of the answers.

    Attributes:
        values: (tokens of all examples, width) where ``ragged``; otherwise (n, ...), or (views, n, ...).
        examples: The split.
        depth: Where it was cut, as `Network.depth` counts; 0 for what the head reads.
        views: Fixed augmented views of each image; 0 for the images as they are.
        ragged: Whether examples keep their tokens.
        dtype: Of the batches; None for float32, and float64 where that is kept.
        offsets: (n + 1,) where each example's tokens begin and end; only where ``ragged``.
        lengths: (n,) tokens of each example; ones where all cost the same.
        truncated: Examples that were cut to the maximum length.

    Raises:
        ValueError: The values are not those of the examples.
    """

    values: torch.Tensor
    examples: Examples
    depth: int
    views: int = 0
    ragged: bool = False
    dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        count = len(self.examples)
        self.truncated = self.examples.truncated
        self.offsets = _offsets(self.examples.lengths)
        self.lengths = self.examples.lengths if self.ragged else np.ones(count, dtype=np.int64)
        leading = _rows(self.examples, self.views, ragged=self.ragged)
        shape = tuple(self.values.shape[: 2 if self.views else 1])
        if shape != ((self.views, count) if self.views else (leading,)):
            raise ValueError(f"Values {tuple(self.values.shape)} do not belong to {count} examples.")
        if self.dtype is None:
            self.dtype = torch.promote_types(self.values.dtype, torch.float32)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def bytes(self) -> int:
        """Size of the values."""
        return self.values.nbytes

    @property
    def dtype_name(self) -> str:
        """The floating type that values are kept in; not that of the batches."""
        return str(self.values.dtype).removeprefix("torch.")

    @property
    def targets(self) -> torch.Tensor:
        """The targets of all examples, in their order."""
        return self.targets_of(np.arange(len(self)))

    def targets_of(self, indices: np.ndarray) -> torch.Tensor:
        """Targets of some of the examples, as in `batch`."""
        return self.examples.targets_of(indices)

    def fingerprint(self) -> str:
        """That of the examples."""
        return self.examples.fingerprint()

    def to(self, dtype: torch.dtype) -> Features:
        """The same, with batches of another floating type."""
        return replace(self, dtype=dtype)

    def of_rows(self, examples: Examples, rows: np.ndarray) -> Features:
        """The outputs of some rows, copied; ``examples`` are these rows."""
        places: np.ndarray = rows
        if self.ragged:
            places = np.concatenate([np.arange(self.offsets[row], self.offsets[row + 1]) for row in rows])
        index = torch.as_tensor(places, dtype=torch.int64, device=self.values.device)
        values = self.values.index_select(1 if self.views else 0, index)
        return replace(self, values=values, examples=examples)

    def batch(self, indices: np.ndarray, views: np.ndarray | None = None) -> Batch:
        """Some of the examples, padded to the longest among them.

        Padding repeats an example's last token: it is masked, and must only be finite.

        Args:
            indices: (batch,) which.
            views: (batch,) the view wanted of each, where there are views; by default the first.

        Returns:
            ``features`` at depth 0, otherwise ``states``, and for texts ``attention_mask``. Either is (batch,
            width), (batch, length, width) or (batch, channels, height, width), of ``dtype``.
        """
        name = "states" if self.depth else "features"
        targets = self.targets_of(indices)
        if not self.ragged:
            return Batch({name: self._take(self._places(indices, views))}, targets, indices)
        lengths = self.lengths[indices]
        steps = np.arange(max(1, int(lengths.max(initial=0))))
        places = np.minimum(steps, lengths[:, None] - 1) + self.offsets[indices][:, None]
        # Below zero only for a first text without any token.
        taken = self._take(np.maximum(places, 0).ravel())
        inputs = {name: taken.view(*places.shape, -1)}
        if self.depth:
            mask = (steps < lengths[:, None]).astype(np.int64)
            inputs["attention_mask"] = torch.from_numpy(mask)
        return Batch(inputs, targets, indices)

    def _places(self, indices: np.ndarray, views: np.ndarray | None) -> np.ndarray:
        return indices if views is None else np.asarray(views) * len(self) + indices

    def _take(self, places: np.ndarray) -> torch.Tensor:
        """Rows of the values, counted over all views, in ``dtype``."""
        values = self.values.flatten(0, 1) if self.views else self.values
        rows = values.index_select(0, torch.as_tensor(places, dtype=torch.int64, device=values.device))
        # The layout that convolutions want comes with the change of type, at no cost.
        layout = torch.channels_last if rows.ndim == 4 else torch.contiguous_format
        return rows.to(self.dtype, memory_format=layout)


def compute(
    network: Network,
    examples: Examples,
    depths: Collection[int],
    device: torch.device,
    *,
    dtype: str = "float16",
    autocast: torch.dtype | None = None,
    views: int = 0,
    augmentation: str = "none",
    batch_size: int = EVALUATION_BATCH,
    halt: Callable[[], str | None] | None = None,
    on_batch: Callable[[float], None] | None = None,
) -> dict[int, Features]:
    """Runs the frozen part over a split, longest examples first, and keeps what comes out at some depths.

    One pass fills all depths. The network is left on the device in eval mode.

    Args:
        network: A whole network; what lies above a depth does not count there.
        examples: The split; not empty.
        depths: See `luthier.models.cut.capture`.
        device: Where to compute; the outputs are kept in main memory.
        dtype: A name in `shelf.DTYPES` for what is kept. An array whose values are too large for float16 is
            kept in bfloat16. Pooled vectors are float32 at least.
        autocast: Type to compute in, where training computes in it, too; None for the network's own.
        views: With images, how many fixed augmented views to make of each, as functions of the image's place
            in the split and the view's number; 0 for the images as they are.
        augmentation: How views are made; see `augment.change`. Does not count without views.
        batch_size: Examples a forward pass.
        halt: Asked before each batch; a reason ends the pass.
        on_batch: Told the share that is done.

    Returns:
        Depth to features.

    Raises:
        Halted: ``halt`` gave a reason.
    """
    place(network, device).eval()
    fillings = {depth: _Filling(examples, views, DTYPES[dtype], pools=depth == 0) for depth in set(depths)}
    batches = evaluation_batches(examples.lengths, batch_size)
    done, total = 0, int(examples.lengths.sum()) * max(1, views)
    for number in range(max(1, views)):
        drawn = augment.view(len(examples), number) if views else None
        for indices in batches:
            if halt is not None and (reason := halt()):
                raise Halted(reason)
            inputs = examples.batch(indices).inputs
            if drawn is not None:
                pixels = inputs["pixel_values"]
                inputs["pixel_values"] = augment.change(pixels, augmentation, drawn[indices])
            with torch.inference_mode(), mixed(device, autocast):
                moved = to_device(inputs, device, type_of(network))
                states = cut.capture(network, list(fillings), moved)
            for depth, filling in fillings.items():
                filling.put(states[depth], indices, number, inputs.get("attention_mask"))
            done += int(examples.lengths[indices].sum())
            if on_batch is not None:
                on_batch(done / max(1, total))
    return {depth: filling.features(depth) for depth, filling in fillings.items()}


class _Filling:
    """One depth's array while batches are put into it.

    Args:
        examples: The split.
        views: Of each image.
        dtype: Wanted type.
        pools: Whether one vector an example is meant to be exact.
    """

    def __init__(self, examples: Examples, views: int, dtype: torch.dtype, *, pools: bool) -> None:
        self.examples = examples
        self.views = views
        self.dtype = dtype
        self.pools = pools
        self.offsets = _offsets(examples.lengths)
        self.ragged = False
        self.values = torch.empty(0)

    def put(self, states: torch.Tensor, indices: np.ndarray, number: int, mask: torch.Tensor | None) -> None:
        """Copies a batch's rows to their places, only those of real tokens where there are tokens.

        Args:
            states: (batch, width), (batch, length, width) or (batch, channels, height, width).
            indices: (batch,) examples.
            number: Of the view.
            mask: (batch, length), or None for images.
        """
        self.ragged = mask is not None and states.ndim == 3
        if self.ragged:
            assert mask is not None
            states = states[mask.to(states.device, torch.bool)]
            places = self._tokens(indices)
        else:
            places = indices + number * len(self.examples)
        if not self.values.numel():
            self._allocate(states)
        if self.dtype == torch.float16 and _overflows(states):
            self._widen()
        self.values[torch.as_tensor(places, dtype=torch.int64)] = states.to(self.dtype).cpu()

    def features(self, depth: int) -> Features:
        """The finished array."""
        values = self.values
        if self.views:
            values = values.view(self.views, -1, *values.shape[1:])
        return Features(values, self.examples, depth, self.views, self.ragged)

    def _tokens(self, indices: np.ndarray) -> np.ndarray:
        """Where the tokens of some examples lie, one example after the other."""
        lengths = self.examples.lengths[indices]
        starts = self.offsets[indices] - _offsets(lengths)[:-1]
        return np.repeat(starts, lengths) + np.arange(int(lengths.sum()))

    def _allocate(self, states: torch.Tensor) -> None:
        if self.pools and not self.ragged:
            self.dtype = torch.promote_types(self.dtype, torch.float32)
        rows = _rows(self.examples, self.views, ragged=self.ragged)
        self.values = torch.zeros(rows, *states.shape[1:], dtype=self.dtype)

    def _widen(self) -> None:
        """From float16 to bfloat16, in the same memory."""
        self.dtype = torch.bfloat16
        for part in torch.split(self.values.view(-1), _CHUNK):
            part.view(torch.bfloat16).copy_(part.to(torch.bfloat16))
        self.values = self.values.view(torch.bfloat16)


def _overflows(states: torch.Tensor) -> bool:
    """Whether float16 has no number for some finite value, or one is infinite already."""
    return bool((states.abs() > torch.finfo(torch.float16).max).any())


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _rows(examples: Examples, views: int, *, ragged: bool) -> int:
    """Rows of a split's array; at least one of tokens, to have something to gather where no text has any."""
    return max(1, int(examples.lengths.sum())) if ragged else max(1, views) * len(examples)
