"""Gradient boosting of small networks on fixed vectors, any task's loss; and their sum as one network.

Where the vectors come from, and how the sum is shipped, is in `boosting`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import gelu

from luthier.tasks.base import Task

# Steps in which a stage's hidden layer learns, and the rows of each.
STEPS, ROWS, RATE = 40, 256, 0.02
# Added to the diagonal where a stage's output layer is solved for, per row.
RIDGE = 1e-3
# How far a stage may be followed; slopes of probabilities are small beside the logits they ask for.
REACH = tuple(0.25 * 2.0**power for power in range(9))
# Stages without a better validation loss, for any shrinkage, after which none is tried.
PATIENCE = 6


@dataclass(frozen=True)
class Hidden:
    """output @ gelu(weight @ x + bias) + constant: one hidden layer.

    Attributes:
        weight: (units, width).
        bias: (units,).
        output: (outputs, units).
        constant: (outputs,).
    """

    weight: torch.Tensor
    bias: torch.Tensor
    output: torch.Tensor
    constant: torch.Tensor

    @property
    def units(self) -> int:
        """Size of the hidden layer."""
        return len(self.weight)

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """(n, outputs) of (n, width)."""
        return gelu(vectors @ self.weight.T + self.bias) @ self.output.T + self.constant

    def __add__(self, other: Hidden) -> Hidden:
        """The network that says the sum of what both say."""
        return Hidden(
            torch.cat([self.weight, other.weight]), torch.cat([self.bias, other.bias]),
            torch.cat([self.output, other.output], dim=1), self.constant + other.constant,
        )  # fmt: skip

    def times(self, factor: float) -> Hidden:
        """The network that says so many times as much."""
        return Hidden(self.weight, self.bias, self.output * factor, self.constant * factor)

    def padded(self, units: int) -> Hidden:
        """The same with units that say nothing."""
        more = units - self.units
        zeros = self.weight.new_zeros
        return self + Hidden(
            zeros(more, self.weight.shape[1]),
            zeros(more),
            zeros(len(self.constant), more),
            zeros(len(self.constant)),
        )

    @classmethod
    def of_linear(cls, weight: torch.Tensor, bias: torch.Tensor) -> Hidden:
        """A linear layer, exactly: gelu(x) - gelu(-x) = x, so each output takes two units."""
        eye = torch.eye(len(weight), dtype=weight.dtype)
        zeros = weight.new_zeros(2 * len(weight))
        return cls(torch.cat([weight, -weight]), zeros, torch.cat([eye, -eye], dim=1), bias)


@dataclass(frozen=True)
class Rows:
    """A split: (n, width) vectors, and targets as in a batch."""

    vectors: torch.Tensor
    targets: torch.Tensor


@dataclass(frozen=True)
class Boosted:
    """What came of it.

    Attributes:
        network: The start and the chosen stages, with the chosen shrinkage, as one.
        stages: How many were chosen; 0 where none improved on the start.
        shrinkage: The chosen one.
        losses: (stages tried + 1, shrinkages) mean validation losses, from the start's on.
    """

    network: Hidden
    stages: int
    shrinkage: float
    losses: torch.Tensor


def boost(
    task: Task, train: Rows, validation: Rows, start: Hidden, *, shrinkages: Sequence[float], units: int,
    stages: int, seed: int, stop: Callable[[], str | None],
) -> Boosted:  # fmt: skip
    """Stage after stage fitted to the slopes of the loss (Friedman 2001, algorithm 1), for all shrinkages at
    once (his equation 36); stages and shrinkage are those with the lowest validation loss.

    A stage is a small hidden layer, fitted by least squares: the layer by some steps on random rows (as in
    Friedman 2002), its outputs by a solve on all rows; a line search says how far it is followed.

    Args:
        task: Its loss.
        train: Rows to fit.
        validation: Rows to choose by.
        start: What is said before the first stage.
        shrinkages: Shares of each stage that are taken.
        units: Size of a stage's hidden layer.
        stages: At most.
        seed: Of initial weights and of rows.
        stop: A reason ends it after the present stage.
    """
    count = len(shrinkages)
    scale = torch.tensor(shrinkages, dtype=train.vectors.dtype).view(-1, 1, 1)
    said, judged = (start(rows.vectors).expand(count, -1, -1) for rows in (train, validation))
    losses = [_losses(task, judged, validation.targets)]
    fitted: list[list[Hidden]] = []
    fitter = _Fitter(train.vectors, units, count)
    while len(fitted) < stages and stop() is None and _since_best(losses) < PATIENCE:
        _, slopes = task.gradient(said, _for_all(train.targets, count))
        found = fitter.fit(-slopes, seed + len(fitted))
        step = torch.stack([each(train.vectors) for each in found])
        length = scale * _line_search(task, said, step, train.targets)
        said = said + length * step
        judged = judged + length * torch.stack([each(validation.vectors) for each in found])
        fitted.append([each.times(float(by)) for each, by in zip(found, length.flatten(), strict=True)])
        losses.append(_losses(task, judged, validation.targets))
    table = torch.stack(losses)
    best = int(torch.nan_to_num(table, nan=math.inf).argmin())
    chosen, which = divmod(best, count)
    network = start
    for stage in fitted[:chosen]:
        network = network + stage[which]
    return Boosted(network, chosen, shrinkages[which], table)


class _Fitter:
    """Fits hidden layers to given answers by least squares, several at once.

    Args:
        vectors: (n, width); their scale does not matter.
        units: Of a layer.
        count: Layers at once.
    """

    def __init__(self, vectors: torch.Tensor, units: int, count: int) -> None:
        self.mean = vectors.mean(dim=0)
        self.spread = vectors.std(dim=0, correction=0).clamp(min=1e-6)
        self.vectors = (vectors - self.mean) / self.spread
        self.units = units
        self.count = count

    def fit(self, wanted: torch.Tensor, seed: int) -> list[Hidden]:
        """Layers that say nearly ``wanted``, (count, n, outputs); each is what it would be alone."""
        rng = torch.Generator().manual_seed(seed)
        width, outputs = self.vectors.shape[1], wanted.shape[-1]
        weight = torch.randn(self.units, width, generator=rng, dtype=wanted.dtype) / math.sqrt(width)
        output = torch.randn(outputs, self.units, generator=rng, dtype=wanted.dtype)
        trained = [
            value.expand(self.count, *value.shape).clone().requires_grad_()
            for value in (weight, weight.new_zeros(self.units), output * 0.1, weight.new_zeros(outputs))
        ]
        # Slopes get smaller from stage to stage; rates should not have to.
        size = wanted.pow(2).mean(dim=(1, 2), keepdim=True).sqrt().clamp(min=1e-12)
        optimizer = torch.optim.Adam(trained, lr=RATE)
        for _ in range(STEPS):
            rows = torch.randint(len(self.vectors), (min(ROWS, len(self.vectors)),), generator=rng)
            with torch.enable_grad():
                hidden = self._hidden(self.vectors[rows], trained[0], trained[1])
                said = hidden @ trained[2].transpose(1, 2) + trained[3].unsqueeze(1)
                error = ((said - wanted[:, rows] / size) ** 2).mean(dim=(1, 2)).sum()
            optimizer.zero_grad()
            torch.autograd.backward(error)
            optimizer.step()
        return self._solved(wanted, trained[0].detach(), trained[1].detach())

    def _hidden(self, vectors: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """(count, rows, units)."""
        return gelu(vectors @ weight.transpose(1, 2) + bias.unsqueeze(1))

    def _solved(self, wanted: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> list[Hidden]:
        """The layers with the outputs that fit all rows best, for the vectors as they were given."""
        hidden = self._hidden(self.vectors, weight, bias)
        table = torch.cat([hidden, hidden.new_ones(*hidden.shape[:2], 1)], dim=2).double()
        square = table.transpose(1, 2) @ table
        square += RIDGE * table.shape[1] * torch.eye(table.shape[2], dtype=square.dtype)
        found = torch.linalg.solve(square, table.transpose(1, 2) @ wanted.double()).to(wanted.dtype)
        own = weight / self.spread
        shifted = bias - own @ self.mean
        return [
            Hidden(own[k], shifted[k], found[k, :-1].T.contiguous(), found[k, -1]) for k in range(self.count)
        ]


def _losses(task: Task, said: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(count,) mean losses."""
    return task.gradient(said, _for_all(targets, len(said)))[0].mean(dim=1)


def _for_all(targets: torch.Tensor, count: int) -> torch.Tensor:
    return targets.expand(count, *targets.shape)


def _line_search(task: Task, said: torch.Tensor, step: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(count, 1, 1) how far each step lowers the training loss most; 0 where no length does."""
    lengths = torch.tensor([0.0, *REACH], dtype=said.dtype)
    losses = torch.stack([_losses(task, said + length * step, targets) for length in lengths])
    return lengths[torch.nan_to_num(losses, nan=math.inf).argmin(dim=0)].view(-1, 1, 1)


def _since_best(losses: list[torch.Tensor]) -> int:
    """Stages since the lowest loss of all."""
    lowest = torch.nan_to_num(torch.stack(losses), nan=math.inf).amin(dim=1)
    return len(losses) - 1 - int(lowest.argmin())
