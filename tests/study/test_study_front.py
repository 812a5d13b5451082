"""The front, held against its definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from luthier.study.front import dominates, front

# Few values, so that ties and equal points are frequent; and any.
values = st.sampled_from([0.0, 1.0, 2.0, 3.0]) | st.floats(-1e6, 1e6)
points = st.integers(1, 4).flatmap(lambda axes: st.lists(st.tuples(*[values] * axes), max_size=30))


@given(points)
def test_it_is_exactly_what_nothing_dominates(given_points):
    wanted = [
        at
        for at, point in enumerate(given_points)
        if not any(dominates(other, point) for other in given_points)
    ]
    assert front(given_points) == wanted


@given(points)
def test_every_other_point_is_dominated_by_a_member(given_points):
    members = front(given_points)
    assert bool(members) == bool(given_points)
    for at, point in enumerate(given_points):
        assert at in members or any(dominates(given_points[member], point) for member in members)


@given(points, st.randoms(use_true_random=False))
def test_the_order_of_points_does_not_matter(given_points, random):
    shuffled = list(given_points)
    random.shuffle(shuffled)
    assert sorted(given_points[at] for at in front(given_points)) == sorted(
        shuffled[at] for at in front(shuffled)
    )


@given(points)
def test_steps_that_keep_the_order_on_an_axis_keep_the_front(given_points):
    moved = [(2 * point[0] + 1, *point[1:]) for point in given_points]
    # Rounding may make distinct values equal, which changes who dominates.
    if len({point[0] for point in given_points}) == len({point[0] for point in moved}):
        assert front(moved) == front(given_points)


def test_equal_points_are_all_members():
    assert front([(1.0, 2.0), (1.0, 2.0), (0.0, 2.0), (2.0, 0.0)]) == [0, 1, 3]


def test_on_one_axis_it_is_the_best():
    assert front([(1.0,), (3.0,), (2.0,)]) == [1]
