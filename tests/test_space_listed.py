"""A list of recipes as a space: the laws of `Space`, cells of equal volume, its plain form and its errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.errors import SettingError
from luthier.recipe import Recipe
from luthier.search import registry
from luthier.space import Listed, Space


def some(count: int, seed: int = 0) -> list[Recipe]:
    rng = np.random.default_rng(seed)
    return [
        Recipe(
            model=f"m{number % 3}",
            learning_rate=float(f"{10 ** rng.uniform(-5, -2):.6g}"),
            batch_size=int(rng.choice([4, 8, 16, 64])),
            clip_norm=[None, 1.0, 10.0][rng.integers(3)],
            optimizer=["adamw", "sgd"][rng.integers(2)],
        )
        for number in range(count)
    ]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(0, 1000))
def test_encode_and_sample_are_inverse(count, seed) -> None:
    space = Listed(some(count, seed))
    for recipe in space.recipes:
        point = space.encode(recipe)
        assert point.shape == (len(space.dimensions),)
        assert ((point >= 0) & (point <= 1)).all()
        assert space.sample(point) == recipe
        assert space.contains(recipe)
    assert list(space.grid()) == list(space.recipes)
    assert space.grid_size() == count
    assert space.default() == space.recipes[0]


def test_uniform_points_fall_on_all_recipes_alike() -> None:
    space = Listed(some(60))
    draws = [space.index(space.sample(p)) for p in np.random.default_rng(1).random((6000, 5))]
    shares = np.bincount(draws, minlength=60) * 60 / 6000
    assert shares.min() > 0.5 and shares.max() < 1.5


def test_dimensions_are_what_differs() -> None:
    space = Listed(some(20))
    assert space.dimensions == ["model", "optimizer", "learning_rate", "batch_size", "clip_norm"]
    rates = sorted(space.recipes, key=lambda recipe: recipe.learning_rate)
    at = [space.encode(recipe)[2] for recipe in rates]
    assert at == sorted(at) and at[0] == 0 and at[-1] == 1


@pytest.mark.parametrize("name", ["random", "grid"])
def test_strategies_propose_the_whole_list_and_nothing_else(name) -> None:
    space = Listed(some(15))
    orders = registry.create(name, space, 3).ask(100)
    assert len(orders) == 15 and {order.recipe for order in orders} == set(space.recipes)


def test_the_plain_form_reads_back() -> None:
    space = Listed(some(5))
    again = Space.from_yaml(space.to_yaml())
    assert again == space and again.with_models(["other"]) == space
    read = Space.from_yaml("recipes:\n  - {model: a, learning_rate: 1e-5}\n  - {model: a}\n")
    assert [recipe.learning_rate for recipe in read.grid()] == [1e-5, 1e-4]


def test_features_go_with_their_recipes() -> None:
    space = Listed(some(3), np.eye(3)[:, :2], ["frozen", "size"])
    assert space.features.shape == (3, 2) and space.feature_names == ("frozen", "size")
    with pytest.raises(ValueError, match="3 recipes, 1 names"):
        Listed(some(3), np.eye(3), ["one"])


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"recipes": []}, "at least one"),
        ({"recipes": 3}, "list of mappings"),
        ({"recipes": [{"model": "m"}, {"model": "m"}]}, "listed twice"),
        ({"recipes": [{"epochs": 3}]}, "names no model"),
        ({"recipes": [{"model": "m", "epoch": 3}]}, "'epoch'"),
        ({"recipes": [{"model": "m", "epochs": 0}]}, "'epochs' cannot be 0"),
        ({"recipes": [{"model": "m"}], "epochs": 3}, "epochs cannot vary beside recipes"),
    ],
)
def test_what_it_cannot_mean_is_said(plain, message) -> None:
    with pytest.raises(SettingError, match=message):
        Space.from_dict(plain)


def test_what_is_not_in_the_list_has_no_place() -> None:
    space = Listed(some(3))
    stranger = Recipe(model="stranger")
    assert not space.contains(stranger)
    with pytest.raises(SettingError, match="not in the list"):
        space.encode(stranger)
