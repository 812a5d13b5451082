"""The order in which examples are seen: batches of similar length, so that little is padding.

What is in a batch depends on the seed and the epoch alone, never on what ran before. When in the epoch its
length comes depends on the epoch alone, so that trials of different seeds meet batches of like length at
the same step.
"""

from __future__ import annotations

import numpy as np

# Batches are cut from pools of this many batches, sorted by length inside a pool: large enough that a batch
# is nearly uniform in length, small enough that the composition of batches still changes between epochs.
POOL = 50
# Examples a forward pass where nothing is learnt and little memory is needed.
EVALUATION_BATCH = 128


def generator(*parts: int) -> np.random.Generator:
    """A random generator that is a function of its parts (seed, epoch, purpose) alone."""
    return np.random.default_rng(np.random.SeedSequence(list(parts)))


def training_batches(
    lengths: np.ndarray, batch_size: int, seed: int, epoch: int, rows: np.ndarray | None = None
) -> list[np.ndarray]:
    """All examples once, in random batches of similar length.

    Args:
        lengths: (n,) cost of each example.
        batch_size: Examples a batch; the last one may be smaller.
        seed: The trial's seed.
        epoch: 1-based epoch.
        rows: (m,) examples to go through in place of each once; one may occur several times.

    Returns:
        Index arrays that together are a permutation of ``range(n)``, or of ``rows``.
    """
    if rows is not None:
        return [rows[batch] for batch in training_batches(lengths[rows], batch_size, seed, epoch)]
    rng = generator(seed, epoch, 1)
    order = rng.permutation(len(lengths))
    if len(np.unique(lengths)) > 1:
        size = POOL * batch_size
        pools = [order[start : start + size] for start in range(0, len(order), size)]
        order = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    # Not by the seed: the batches of a pool are sorted by length, so the n-th ones of all seeds are alike,
    # and trials trained together pad each other little if they meet them together.
    return [batches[i] for i in generator(epoch, 3).permutation(len(batches))]


def evaluation_batches(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """All examples once, longest first: the largest memory need shows at once."""
    order = np.argsort(-lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
