"""Recipes as strategies keep them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.search.conformance import SPACES
from luthier.search.recipes import most_epochs, plain, rebuilt
from luthier.space import Space


@given(seed=st.integers(0, 999), name=st.sampled_from(sorted(SPACES)))
def test_a_recipe_written_as_json_is_read_back_exactly(seed, name) -> None:
    space = SPACES[name]
    recipe = space.sample(np.random.default_rng(seed).random(len(space.dimensions)))
    written = plain(recipe)
    assert rebuilt(json.loads(json.dumps(written))) == recipe
    assert set(written) <= {"model", *space.settings}


@pytest.mark.parametrize(
    ("entry", "most"),
    [
        (7, 7),
        ({"low": 2, "high": 9}, 9),
        ([3, 12, 6], 12),
        ([{"low": 5, "high": 60, "when": {"batch_size": 8}}, {"value": 4}], 60),
    ],
)
def test_the_longest_recipe_of_a_space(entry, most) -> None:
    space = Space.from_dict({"model": "m", "batch_size": [8, 16], "epochs": entry})
    assert most_epochs(space) == most
    assert most_epochs(Space.from_dict({"model": "m"})) == 4
