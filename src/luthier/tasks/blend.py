"""The mean of what several networks say, as one network would say it. Their weights come from elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from scipy.special import log_expit, log_softmax, logsumexp


def mean(parts: list[np.ndarray], weights: np.ndarray, kind: str) -> np.ndarray:
    """The mean of arrays of one shape, in probabilities where there are such.

    Args:
        parts: Each network's outputs, (..., outputs).
        weights: (parts,) at least 0, not all of them 0.
        kind: The task's ``target_kind``.

    Returns:
        (..., outputs) float64: logits again, or numbers.
    """
    stacked = np.stack(parts)
    shares = weights.reshape(-1, *[1] * parts[0].ndim) / weights.sum()
    if kind == "number":
        return np.asarray((shares * stacked).sum(axis=0))
    if kind == "multi":
        # The log-odds of a mean of probabilities, without 1 - p, which loses its digits near 1.
        yes, no = (logsumexp(log_expit(sign * stacked), axis=0, b=shares) for sign in (1, -1))
        return np.asarray(yes - no)
    return np.asarray(logsumexp(log_softmax(stacked, axis=-1), axis=0, b=shares))


def mean_of_words(outputs: Sequence[np.ndarray], weights: np.ndarray, kind: str) -> np.ndarray:
    """The mean for one example of words, whose outputs (words, outputs) may be cut at different lengths.

    Args:
        outputs: Each network's; a word's mean is over those that read it.
        weights: As for `mean`; where those that read a word have none, they count alike.
        kind: As for `mean`.

    Returns:
        (words of the longest, outputs) float64.
    """
    lengths = [len(output) for output in outputs]
    found = np.empty((max(lengths), outputs[0].shape[1]))
    ends = sorted({0, *lengths})
    for start, end in itertools.pairwise(ends):
        reads = [index for index, length in enumerate(lengths) if length >= end]
        own = weights[reads] if weights[reads].any() else np.ones(len(reads))
        found[start:end] = mean(
            [np.asarray(outputs[i][start:end], dtype=np.float64) for i in reads], own, kind
        )
    return found
