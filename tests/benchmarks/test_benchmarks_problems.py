"""Black-box problems: their optima are where the literature has them, and inside the box that is searched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import blackbox
import problems
from luthier.space import Space
from problems import PROBLEMS

FUNCTIONS = [name for name, problem in PROBLEMS.items() if name.split("-")[0] in vars(problems)]


@pytest.mark.parametrize(
    ("of", "at", "value"),
    [
        (problems.branin, [np.pi, 2.275], 0.39788735772973816),
        (problems.branin, [-np.pi, 12.275], 0.39788735772973816),
        (problems.hartmann, [0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573], -3.322368011415515),
        (problems.rosenbrock, [1.0] * 4, 0.0),
        (problems.rastrigin, [0.0] * 5, 0.0),
        (problems.levy, [1.0] * 8, 0.0),
        (problems.ackley, [0.0] * 10, 0.0),
    ],
)
def test_the_optimum_is_the_known_one(of, at, value):
    assert of(np.array(at)) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "box", "at"),
    [
        ("rosenbrock-4", (-2, 2), 1.0),
        ("rastrigin-5", (-5.12, 5.12), 0.0),
        ("levy-8", (-10, 10), 1.0),
        ("ackley-10", (-32.768, 32.768), 0.0),
    ],
)
def test_the_optimum_lies_in_the_box_and_off_its_centre(name, box, at):
    """Read off the functions' own shift: the value at the centre tells how far it moved."""
    problem = PROBLEMS[name]
    low, high = box
    rng = np.random.default_rng(problem.size)
    shift = (high - low) * rng.uniform(0.05, 0.2, problem.size) * rng.choice([-1.0, 1.0], problem.size)
    point = (at + shift - low) / (high - low)
    assert ((point > 0) & (point < 1)).all()
    assert problem.value(point, 0) == pytest.approx(0.0, abs=1e-9)
    assert problem.regret(problem.value(np.full(problem.size, 0.5), 0)) > 0.01


def test_there_are_functions_in_two_to_ten_dimensions_and_tables():
    assert len(FUNCTIONS) == 6
    assert {PROBLEMS[name].size for name in FUNCTIONS} >= {2, 10}
    assert len(PROBLEMS) - len(FUNCTIONS) == 3


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(PROBLEMS)), st.integers(0, 2**31))
def test_a_recipe_stands_for_the_point_it_was_made_from(name, seed):
    problem = PROBLEMS[name]
    space = Space.from_dict(problem.space())
    unit = np.random.default_rng(seed).random(len(space.dimensions))
    seen = []

    def value(point, choice):
        seen.append((point, choice))
        return 0.0

    probe = problems.Problem("probe", problem.size, value, lambda: 0.0, problem.choices)
    probe.of_recipe(space.sample(unit))
    ((point, choice),) = seen
    assert len(space.dimensions) == problem.size + bool(problem.choices)
    assert point == pytest.approx(unit[: problem.size], abs=2e-4)
    assert choice == (int(unit[-1] * problem.choices) if problem.choices else 0)


def test_regret_is_nought_at_the_optimum_and_one_at_a_typical_point():
    problem = PROBLEMS["branin-2"]
    assert problem.regret(0.39788735772973816) == 0.0
    assert problem.regret(problem.typical) == 1.0


def test_a_table_is_evaluated_once_and_found_by_every_point_of_a_cell():
    calls = []

    def evaluate(point, choice):
        calls.append((*point, choice))
        return 10.0 * choice + point[0] + 0.1 * point[1]

    problem = problems.table("t", [3, 2], evaluate, choices=2)
    assert problem.name == "t-3"
    assert problem.value(np.array([0.0, 0.0]), 0) == 0.0
    assert problem.value(np.array([0.34, 0.49]), 1) == 10.5
    assert problem.value(np.array([1.0, 1.0]), 1) == 11.1
    assert problem.optimum() == 0.0
    assert len(calls) == len(set(calls)) == 12


def test_ranks_are_over_problems_that_all_have_and_ties_share_places():
    def row(name, *last):
        return {"name": name, "regrets": [[0.5, 0.4, value] for value in last]}

    rows = [
        row("branin-2/a", 0.1, 0.1), row("branin-2/b", 0.2, 0.1),
        row("levy-8/a", 0.3, 0.3), row("levy-8/b", 0.2, 0.2),
        row("ackley-10/a", 0.0, 0.0), {"name": "all/a"},
    ]  # fmt: skip
    a, b = blackbox.summary(rows)
    # Of branin 1 and 1.5, of levy 2; ackley lacks b.
    assert (a["name"], a["value"]) == ("all/a", pytest.approx((1.25 + 2.0) / 2))
    assert b["value"] == pytest.approx((1.75 + 1.0) / 2)
    assert float(a["spread"].split()[2]) == pytest.approx(0.375, abs=0.006)
    assert a["spread"].endswith("over 2 problems")
    assert "0.200 at 100" in a["peer"]
