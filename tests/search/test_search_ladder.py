"""The rungs: the paper's own table, and the laws of any ladder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.search.ladder import Ladder

# Li et al. 2018, table 1 (R = 81, eta = 3): trials and epochs at each rung of each bracket.
TABLE = [
    [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
    [(34, 3), (11, 9), (3, 27), (1, 81)],
    [(15, 9), (5, 27), (1, 81)],
    [(8, 27), (2, 81)],
    [(5, 81)],
]


def rungs(ladder: Ladder, index: int, epochs: int) -> list[tuple[int, int]]:
    lowest, count = ladder.bracket(index)
    found = []
    for rung in range(lowest, ladder.top + 1):
        found.append((count, ladder.until(epochs, rung)))
        count = ladder.kept(count)
    return found


def test_brackets_are_those_of_the_papers_table() -> None:
    ladder = Ladder(81, eta=3, least=1)
    assert ladder.top == 4
    assert [rungs(ladder, index, 81) for index in range(5)] == TABLE
    assert [ladder.bracket(index) for index in range(5, 10)] == [ladder.bracket(at) for at in range(5)]


@pytest.mark.parametrize(
    ("epochs", "untils"),
    [
        (1, [1]),
        (2, [2]),
        (3, [2, 3]),
        (4, [2, 4]),
        (6, [2, 6]),
        (7, [2, 3, 7]),
        (12, [2, 4, 12]),
        (27, [2, 3, 9, 27]),
        (50, [2, 6, 17, 50]),
        (81, [2, 3, 9, 27, 81]),
    ],
)
def test_no_rung_is_below_two_epochs(epochs, untils) -> None:
    ladder = Ladder(epochs)
    assert [ladder.until(epochs, rung) for rung in range(ladder.top + 1)] == untils


def test_rungs_are_shares_of_each_recipes_own_epochs() -> None:
    ladder = Ladder(12)
    assert [ladder.until(60, rung) for rung in range(3)] == [7, 20, 60]
    assert [ladder.until(5, rung) for rung in range(3)] == [2, 2, 5]
    assert [ladder.until(1, rung) for rung in range(3)] == [1, 1, 1]


@given(
    typical=st.integers(1, 400),
    epochs=st.integers(1, 400),
    eta=st.integers(2, 5),
    least=st.integers(1, 8),
)
def test_laws_of_ladders(typical, epochs, eta, least) -> None:
    ladder = Ladder(typical, eta, least)
    own = [ladder.until(typical, rung) for rung in range(ladder.top + 1)]
    assert own == sorted(set(own)) and own[-1] == typical and own[0] >= min(typical, least)
    # The lowest rung is where it should be: another one below would fall together with it.
    assert own[0] <= least or -(-typical // eta ** (ladder.top + 1)) == own[0]
    other = [ladder.until(epochs, rung) for rung in range(ladder.top + 1)]
    assert other == sorted(other) and other[-1] == epochs and other[0] >= min(epochs, least)
    for index in range(ladder.top + 1):
        lowest, count = ladder.bracket(index)
        assert lowest == index
        for _ in range(lowest, ladder.top):
            count = ladder.kept(count)
        assert count >= 1
