from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.deploy.serve.gathering import FEWEST, among, choose

LENGTHS = st.lists(st.integers(1, 512), min_size=1, max_size=60)


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 32), st.integers(1, 4096), st.floats(0, 500))
def test_a_batch_keeps_its_limits_and_holds_the_oldest(
    lengths: list[int], rows: int, tokens: int, spare: float
) -> None:
    chosen = choose(lengths, rows, tokens, spare)
    assert chosen[0] == 0
    assert chosen == sorted(set(chosen))
    assert len(chosen) <= rows
    longest = max(lengths[place] for place in chosen)
    assert len(chosen) == 1 or len(chosen) * longest <= tokens
    assert sum(longest - lengths[place] for place in chosen) <= spare


@settings(deadline=None)
@given(st.integers(1, 100), st.integers(1, 60), st.integers(1, 32))
def test_inputs_of_one_length_fill_a_batch(length: int, count: int, rows: int) -> None:
    assert len(choose([length] * count, rows, 10**6, 0.0)) == min(count, rows)


@settings(deadline=None)
@given(LENGTHS)
def test_everybody_gets_a_turn(lengths: list[int]) -> None:
    waiting, turns = list(enumerate(lengths)), 0
    while waiting:
        chosen = set(choose([length for _, length in waiting], 8, 2048, 64.0))
        waiting = [one for place, one in enumerate(waiting) if place not in chosen]
        turns += 1
    assert turns <= len(lengths)


def test_the_nearest_lengths_come_first() -> None:
    assert choose([10, 400, 11, 9, 390], 3, 4096, 64.0) == [0, 2, 3]


def test_long_inputs_are_not_overtaken_for_ever() -> None:
    """The younger half waits, so an old input of a rare length meets only those that are about as old."""
    assert among(64) == 32 and among(33) == 16
    assert among(3) == among(FEWEST) == FEWEST
