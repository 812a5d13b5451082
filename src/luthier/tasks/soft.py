"""Losses of answers that are not true but said by another network: what distillation learns from.

Which form fits a task is a matter of what its answers are; true answers have the losses of the tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

# Beyond this logits say nothing more, and an infinite one would make the loss not a number.
_EXTREME = 1e4


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
    table = torch.full((*places.shape, width), torch.nan)
    for row, output, begins in zip(table, outputs, places, strict=True):
        where = begins.nonzero().flatten()[: len(output)]
        if len(where):
            row[where] = torch.as_tensor(np.asarray(output[: len(where)]), dtype=row.dtype)
    return table
