from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from luthier.engine.batches import evaluation_batches, training_batches

lengths = st.lists(st.integers(1, 200), min_size=1, max_size=400).map(np.array)


@given(lengths, st.integers(1, 40), st.integers(0, 2**31 - 1), st.integers(1, 30))
def test_every_example_is_seen_once(lengths: np.ndarray, size: int, seed: int, epoch: int) -> None:
    batches = training_batches(lengths, size, seed, epoch)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert all(len(batch) <= size for batch in batches)
    assert sum(len(batch) < size for batch in batches) <= 1


@given(lengths, st.integers(1, 40), st.integers(0, 2**31 - 1), st.integers(1, 30))
def test_the_order_is_a_function_of_seed_and_epoch(
    lengths: np.ndarray, size: int, seed: int, epoch: int
) -> None:
    first, second = (training_batches(lengths, size, seed, epoch) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_seeds_and_epochs_differ() -> None:
    orders = [
        np.concatenate(training_batches(np.ones(64, int), 8, s, e)) for s, e in [(0, 1), (0, 2), (1, 1)]
    ]
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])


def test_little_is_padding() -> None:
    lengths = np.random.default_rng(0).integers(4, 60, 3000)

    def padded(batches: list[np.ndarray]) -> float:
        return sum(len(b) * lengths[b].max() for b in batches) / lengths.sum()

    shuffled = np.random.default_rng(1).permutation(3000)
    plain = padded([shuffled[i : i + 32] for i in range(0, 3000, 32)])
    assert padded(training_batches(lengths, 32, 0, 1)) < 1.06 < plain


@given(lengths, st.integers(1, 40))
def test_evaluation_goes_from_long_to_short(lengths: np.ndarray, size: int) -> None:
    order = np.concatenate(evaluation_batches(lengths, size))
    assert sorted(order) == list(range(len(lengths)))
    assert all(np.diff(lengths[order]) <= 0)
