"""Points that no result has led to: the default first, none twice, and the same when repeated."""

from __future__ import annotations

import pytest

from luthier.search.conformance import CONDITIONAL, POINT, WIDE
from luthier.search.points import Points
from luthier.space import Space

SMALL = Space.from_dict({"model": "m", "batch_size": [8, 16, 32]})


def test_the_default_comes_first_and_nothing_twice() -> None:
    points = Points(CONDITIONAL, 0)
    recipes = [points.take() for _ in range(50)]
    assert recipes[0] == CONDITIONAL.default()
    assert len(set(recipes)) == 50
    assert all(CONDITIONAL.contains(recipe) for recipe in recipes)
    again = Points(CONDITIONAL, 0)
    assert [again.take() for _ in range(50)] == recipes
    assert [Points(WIDE, seed).take() for seed in (0, 1)] == [WIDE.default()] * 2


def test_what_was_added_does_not_come() -> None:
    plain, points = Points(SMALL, 0), Points(SMALL, 0)
    recipes = [plain.take() for _ in range(3)]
    points.add(recipes[0])
    points.add(recipes[2])
    assert recipes[0] in points and recipes[1] not in points
    assert points.take() == recipes[1]
    assert points.upcoming is None


def test_adding_another_recipe_leaves_the_next_one_as_it_is() -> None:
    plain, points = Points(CONDITIONAL, 0), Points(CONDITIONAL, 0)
    recipes = [plain.take() for _ in range(4)]
    points.add(recipes[3])
    assert [points.take() for _ in range(3)] == recipes[:3]


def test_a_space_is_used_up_in_the_end() -> None:
    points = Points(POINT, 0)
    assert points.take() == POINT.default()
    assert points.upcoming is None
    with pytest.raises(IndexError, match="used up"):
        points.take()
