"""Answers that are not true but said by another network: `SoftTargets`, a task's losses of them.

Distillation learns from these. True answers have losses of each task's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch

# Beyond this logits say nothing more, and an infinite one would make the loss not a number.
_EXTREME = 1e4
# The target of a token that is no word's first, as in `luthier.tasks.base.Batch`.
_NOT_COUNTED = -100


class SoftTargets:
    """What of the `Task` contract is about another network's outputs. The forms here go by `target_kind`."""

    target_kind: ClassVar[Literal["class", "multi", "tags", "number"]]
    level: ClassVar[Literal["example", "token"]]

    def soft_loss(self, logits: torch.Tensor, said: torch.Tensor, *, temperature: float) -> torch.Tensor:
        """How far each example's answer lies from another network's; 0 where that says nothing.

        Args:
            logits: As in `Task.loss`.
            said: The other's outputs, as `laid_out` gives them.
            temperature: See `divergence`.

        Returns:
            (batch,) losses, for tagging the mean over the words that the other answers.
        """
        losses = divergence(self.target_kind, logits, said, temperature)
        if self.level == "example":
            return losses
        answered = (~torch.isnan(said).any(dim=-1)).sum(dim=-1)
        return losses.sum(dim=-1) / answered.clamp(min=1).to(losses.dtype)

    def soft_gradient(
        self, logits: torch.Tensor, said: torch.Tensor, temperature: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`soft_loss` for a stack of trials with one answer an example, and its derivative.

        In closed form where the task leaves `soft_loss` as it is here; otherwise by autograd.

        Args:
            logits: (trials, batch, outputs).
            said: As the logits, without NaN.
            temperature: (trials, 1, 1).

        Returns:
            (trials, batch) losses, and the derivative of their sum, shaped like ``logits``.
        """
        if type(self).soft_loss is SoftTargets.soft_loss:
            return gradient(self.target_kind, logits, said, temperature)
        leaf = logits.detach().requires_grad_()
        with torch.enable_grad():
            parts = zip(leaf, said, temperature.flatten().tolist(), strict=True)
            losses = torch.stack([self.soft_loss(*part[:2], temperature=part[2]) for part in parts])
            (slopes,) = torch.autograd.grad(losses.sum(), leaf)
        return losses.detach(), slopes

    def laid_out(self, outputs: Sequence[np.ndarray], targets: torch.Tensor) -> torch.Tensor:
        """Outputs of a batch's examples in the shape of its logits: what `Task.outputs` cut, undone.

        Args:
            outputs: Of these examples; for tagging of as many words as another network read.
            targets: The batch's.

        Returns:
            Shaped like logits; NaN where nothing was said.
        """
        if self.level == "token":
            return at_words(outputs, targets.cpu() != _NOT_COUNTED)
        return torch.from_numpy(np.stack(outputs))


def divergence(kind: str, logits: torch.Tensor, said: torch.Tensor, temperature: float) -> torch.Tensor:
    """How far answers lie from a teacher's, 0 where they are equal or it says nothing.

    For classes the Kullback-Leibler divergence from the teacher's probabilities, both at a temperature, times
    its square, so that gradients keep their size whatever it is (Hinton, Vinyals & Dean 2015, section 2);
    for labels the mean of that over the labels, for numbers the squared difference.

    Args:
        kind: As `Task.target_kind`.
        logits: (..., outputs).
        said: (..., outputs) the teacher's; NaN where it says nothing.
        temperature: Above 0; numbers have none.

    Returns:
        (...) losses.
    """
    known = ~torch.isnan(said).any(dim=-1)
    said = torch.where(known.unsqueeze(-1), said, torch.zeros_like(said))
    said = said.to(logits.dtype).clamp(-_EXTREME, _EXTREME)
    if kind == "number":
        losses = ((logits - said) ** 2).mean(dim=-1)
    elif kind == "multi":
        losses = _binary(logits / temperature, said / temperature).mean(dim=-1) * temperature**2
    else:
        ours = torch.log_softmax(logits / temperature, dim=-1)
        theirs = torch.log_softmax(said / temperature, dim=-1)
        losses = (theirs.exp() * (theirs - ours)).sum(dim=-1) * temperature**2
    return torch.where(known, losses, torch.zeros_like(losses))


def gradient(
    kind: str, logits: torch.Tensor, said: torch.Tensor, temperature: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`divergence` for a stack of trials, and its derivative: temperature * (our share - the teacher's).

    Args:
        kind: As `Task.target_kind`.
        logits: (trials, batch, outputs).
        said: As the logits, without NaN.
        temperature: (trials, 1, 1).

    Returns:
        (trials, batch) losses, and the derivative of their sum, shaped like ``logits``. Neither has a graph.
    """
    said = said.clamp(-_EXTREME, _EXTREME)
    if kind == "number":
        return ((logits - said) ** 2).mean(dim=-1), 2 * (logits - said) / logits.shape[-1]
    ours, theirs = logits / temperature, said / temperature
    if kind == "multi":
        losses = _binary(ours, theirs).mean(dim=-1)
        slopes = (torch.sigmoid(ours) - torch.sigmoid(theirs)) / logits.shape[-1]
    else:
        ours, theirs = torch.log_softmax(ours, dim=-1), torch.log_softmax(theirs, dim=-1)
        losses = (theirs.exp() * (theirs - ours)).sum(dim=-1)
        slopes = ours.exp() - theirs.exp()
    return losses * temperature.squeeze(-1) ** 2, slopes * temperature


def _binary(logits: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
    softplus = torch.nn.functional.softplus
    yes = torch.sigmoid(said)
    return softplus(logits) - yes * logits - (softplus(said) - yes * said)


def at_words(outputs: Sequence[np.ndarray], places: torch.Tensor) -> torch.Tensor:
    """Outputs of words laid out by token, NaN where no word begins or nothing was said of it.

    Args:
        outputs: (words, outputs) of each example.
        places: (batch, length) bool, where words begin.

    Returns:
        (batch, length, outputs).
    """
    width = max((output.shape[1] for output in outputs if output.ndim == 2), default=1)
    table = torch.full((*places.shape, width), torch.nan, dtype=torch.float64)
    for row, output, begins in zip(table, outputs, places, strict=True):
        where = begins.nonzero().flatten()[: len(output)]
        if len(where):
            row[where] = torch.as_tensor(np.asarray(output[: len(where)]), dtype=row.dtype)
    return table
