"""The unit cube as a model of scores sees it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_studies import listing

from luthier.search.conformance import SPACES
from luthier.search.cube import CATEGORY, Cube
from luthier.space import Space


def _free(space: Space) -> Space:
    """Without forbidden combinations: what falls on one is drawn elsewhere."""
    return Space.from_dict({name: entry for name, entry in space.to_dict().items() if name != "forbidden"})


NESTED = Space.from_dict(
    {
        "model": "m",
        "last_k": {"low": 1, "high": 3},
        "optimizer": [{"values": ["adamw", "lion"], "when": {"last_k": [1, 2]}}, {"value": "sgd"}],
        "momentum": {"low": 0.0, "high": 0.9, "prior": 0.8, "when": {"optimizer": ["sgd", "lion"]}},
        "clip_norm": [
            {"values": [None, 1.0], "when": {"last_k": 3}},
            {"low": 0.1, "high": 9.0, "log": True},
        ],
    }
)
CASES = [*(_free(space) for space in SPACES.values()), NESTED]


@pytest.mark.parametrize("space", CASES)
@given(seed=st.integers(0, 9999))
def test_a_point_looks_as_the_recipe_that_it_stands_for(space, seed) -> None:
    cube = Cube(space)
    points = np.random.default_rng(seed).random((5, len(space.dimensions)))
    encoded = np.array([space.encode(space.sample(point)) for point in points]).reshape(points.shape)
    assert np.allclose(cube(points), cube(encoded), atol=1e-4)


@pytest.mark.parametrize("space", CASES)
@given(seed=st.integers(0, 9999))
def test_what_does_not_apply_does_not_show(space, seed) -> None:
    rng = np.random.default_rng(seed)
    point = rng.random(len(space.dimensions))
    inactive = np.isnan(space.encode(space.sample(point)))
    other = np.where(inactive, rng.random(len(point)), point)
    cube = Cube(space)
    assert (cube(point[None]) == cube(other[None])).all()


def test_different_recipes_look_different() -> None:
    space = Space.from_dict({"model": ["m", "n"], "batch_size": [8, 16, 32], "last_k": {"low": 1, "high": 5}})
    rows = Cube(space)(np.array([space.encode(recipe) for recipe in space.grid()]))
    assert len(np.unique(rows, axis=0)) == len(rows) == 30


def test_any_two_categories_are_equally_far_apart() -> None:
    space = Space.from_dict({"model": "m", "optimizer": ["sgd", "adamw", "lion"]})
    rows = Cube(space)(np.array([space.encode(recipe) for recipe in space.grid()]))
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=2)[np.triu_indices(3, 1)]
    assert np.allclose(apart, CATEGORY * math.sqrt(2.0))


def test_it_says_which_coordinates_have_no_order() -> None:
    assert Cube(NESTED).categorical.tolist() == [False, True, False, True]
    assert Cube(Space.from_dict({"model": "m"}))(np.zeros((2, 0))).shape == (2, 0)


def test_it_finds_out_where_points_stand_for_recipes_that_lie_elsewhere() -> None:
    assert not any(Cube(space).uneven for space in (*SPACES.values(), NESTED))
    assert Cube(listing(SPACES["believed"], 20)).uneven
