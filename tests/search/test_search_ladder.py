"""The rungs: the paper's own table, and the laws of any ladder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.search.halving import Halving
from luthier.search.ladder import Ladder
from luthier.search.source import Source
from luthier.space import Space
from luthier.trial import Report

SHARED = Path(__file__).parents[2].parent / "shared" / "data"

# Li et al. 2018, algorithm 1 for the example of their table 1 (R = 81, eta = 3): trials and epochs at each
# rung of each bracket.
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


def test_brackets_are_those_of_the_papers_example() -> None:
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


def remaining(curves: np.ndarray, least: int, seed: int) -> list[float]:
    """Points that the best so far is short of the best of all, after as many epochs as 5 to 40 trainings."""
    trials, epochs = curves.shape
    order = np.random.default_rng(seed).permutation(trials)
    source = Source(Space.from_dict({"model": "m", "epochs": epochs, "last_k": {"low": 1, "high": 200}}), 0)
    halving, at, spent, bests = Halving(Ladder(epochs, least=least), source), {}, 0, [0.0]
    while spent < 40 * epochs:
        (turn,) = halving.ask(1)
        if turn.trial >= trials:
            break
        reached = curves[order[turn.trial]][: turn.until].max()
        further = turn.until - at.get(turn.trial, 0)
        spent, at[turn.trial] = spent + further, turn.until
        bests += [bests[-1]] * (further - 1) + [max(bests[-1], reached)]
        halving.tell(Report(turn.trial, turn.until, "completed", float(reached)))
    return [float(curves.max() - bests[min(spent, times * epochs)]) for times in (5, 10, 20, 40)]


@pytest.mark.shared
def test_on_real_curves_two_epochs_lose_less_than_one_or_four() -> None:
    path = SHARED / "quicktune" / "accuracy.json"
    if not path.exists():
        pytest.skip(f"no data in {path}")
    pools = [
        np.array([curve[:epochs] for curve in curves.values() if len(curve) >= epochs])
        for curves in json.loads(path.read_text()).values()
        for epochs in (9, 27, 50)
    ]
    one, two, four = (
        np.mean([remaining(curves, least, seed) for curves in pools for seed in range(2)])
        for least in (1, 2, 4)
    )
    # As `ladder` says where it sets the lowest rung.
    assert (one, two, four) == pytest.approx((5.8, 4.7, 6.8), abs=0.1)
