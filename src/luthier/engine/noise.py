"""Random numbers of trials that train together: each from its own generator, as if it were alone.

What a trial draws must not depend on its neighbours. So dropout does not draw for a padded batch as a
whole, but for each trial in the extent that its own batch would have alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

# Masks are made of 16 random bits a value: a rate is kept to within 1 / 131,072.
LEVELS = 2**16


class Noise:
    """The generators of some trials.

    Args:
        seeds: Of the trials.
        device: Where masks are wanted. A CPU's are made of numpy's bytes, which is several times faster than
            drawing floats; a GPU draws them itself.

    Attributes:
        rows: Of the batch at hand, the examples of each trial.
        lengths: Of the batch at hand, each trial's longest sequence; None where nothing is padded.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.seeds = list(seeds)
        self.device = device
        self.rows = 0
        self.lengths: Sequence[int] | None = None
        self._generators = [np.random.Generator(np.random.SFC64(0)) for _ in seeds]
        self._devices = [torch.Generator(device) for _ in seeds] if device.type == "cuda" else []

    def start(self, index: int, epoch: int) -> None:
        """Begins an epoch of a trial, whose numbers depend on its seed and the epoch alone."""
        sequence = np.random.SeedSequence([self.seeds[index], epoch, 2])
        self._generators[index] = np.random.Generator(np.random.SFC64(sequence))
        if self._devices:
            self._devices[index].manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))

    def extent(self, rows: int, lengths: Sequence[int] | None = None) -> None:
        """Tells of the batch at hand.

        Args:
            rows: Examples of each trial.
            lengths: Each trial's longest sequence, where sequences are padded.
        """
        self.rows = rows
        self.lengths = lengths

    def generator(self, index: int) -> np.random.Generator:
        """A trial's generator, for other draws."""
        return self._generators[index]

    def mask(
        self, index: int, shape: Sequence[int], rate: float, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Zeros at a rate, and 1 / (1 - rate) elsewhere, float32.

        Args:
            index: The trial.
            shape: Wanted.
            rate: Share of zeros, in [0, 1).
            out: Where to put them, float32 of this shape; by default a new tensor.
        """
        if self._devices:
            kept = torch.rand(*shape, device=self.device, generator=self._devices[index]) >= rate
        else:
            count = math.prod(shape)
            # Whole words of the generator: nothing is faster, and the next draw begins at a word, however
            # many this one took.
            words = self._generators[index].bit_generator.random_raw(-(-count // 4))
            dropped = min(round(rate * LEVELS), LEVELS - 1)
            kept = (torch.from_numpy(words.view(np.int16))[:count] >= dropped - LEVELS // 2).view(*shape)
        return torch.mul(kept, torch.tensor(1 / (1 - rate), device=self.device), out=out)

    def state(self) -> list[Any]:
        """Where each trial's generator stands."""
        states: list[Any] = [generator.bit_generator.state for generator in self._generators]
        if self._devices:
            return [(state, own.get_state()) for state, own in zip(states, self._devices, strict=True)]
        return states

    def load_state(self, states: Sequence[Any]) -> None:
        """Goes back to what `state` gave."""
        for index, state in enumerate(states):
            if self._devices:
                state, own = state
                self._devices[index].set_state(own)
            self._generators[index].bit_generator.state = state

    def repeated(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Contexts for a computation and for its repetition, which draws what the first draws from here on.

        What is drawn after a repetition is what would be without it. This is the ``context_fn`` that
        `torch.utils.checkpoint.checkpoint` asks for.
        """
        return nullcontext(), self._again(self.state())

    @contextmanager
    def _again(self, states: list[Any]) -> Iterator[None]:
        now = self.state()
        self.load_state(states)
        try:
            yield
        finally:
            self.load_state(now)


class TrialDropout(nn.Module):
    """Dropout with a rate and random numbers of its own for each trial of a stack.

    Args:
        rates: Of the trials, in [0, 1).
        noise: Their random numbers.
    """

    def __init__(self, rates: Sequence[float], noise: Noise) -> None:
        super().__init__()
        self.rates = list(rates)
        self.noise = noise
        # Some attention layers read the rate off their dropout.
        self.p = max(self.rates)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drops values of ``x``, whose shape stays.

        Args:
            x: (trials * batch, width), (trials * batch, length, width), attention probabilities
                (trials * batch, heads, queries, keys), or images of any layout where no lengths are told.
        """
        return drop(x, self.rates, self.noise) if self.training else x

    def extra_repr(self) -> str:
        """The rates."""
        return f"rates={self.rates}"


def drop(x: torch.Tensor, rates: Sequence[float], noise: Noise) -> torch.Tensor:
    """Dropout of a folded batch; see `TrialDropout`. A trial whose rate is zero draws nothing."""
    if not any(rates):
        return x
    mask = torch.empty(len(rates), len(x) // len(rates), *x.shape[1:], device=x.device)
    for index, (rate, part) in enumerate(zip(rates, mask, strict=True)):
        own = _extent(part.shape, noise.lengths, index)
        if rate == 0 or own != list(part.shape):
            part.fill_(1)
        if rate > 0:
            noise.mask(index, own, rate, out=part[tuple(slice(0, size) for size in own)])
    return x * mask.view(x.shape).to(x.dtype)


def _extent(shape: Sequence[int], lengths: Sequence[int] | None, index: int) -> list[int]:
    """A trial's own part of its padded slice: (batch, [heads,] length, ...)."""
    own = list(shape)
    if lengths is not None and len(shape) > 2:
        axes = (2, 3) if len(shape) == 4 else (1,)
        for axis in axes:
            own[axis] = min(own[axis], lengths[index])
    return own
