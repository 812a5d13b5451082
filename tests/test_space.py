"""Spaces: the plain form and its errors, and the laws of sample, encode, default and grid."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.errors import SettingError
from luthier.recipe import Recipe
from luthier.space import UNIFORM_SHARE, Choice, Number, Space

PLAIN = {
    "model": "m",
    "adaptation": {"values": ["full", "last_k", "probe"], "weights": [0.6, 0.3, 0.1]},
    "last_k": {"low": 1, "high": 4, "prior": 3, "when": {"adaptation": "last_k"}},
    "learning_rate": [
        {"low": 1e-3, "high": 3e-2, "log": True, "prior": 1e-2, "when": {"adaptation": "probe"}},
        {"low": 2e-5, "high": 3e-4, "log": True, "prior": 1e-4},
    ],
    "batch_size": [16, 64, 128],
    "patience": None,
    "epochs": 4,
    "forbidden": [{"adaptation": "full", "batch_size": [64, 128]}],
}
SPACE = Space.from_dict(PLAIN)


def points(space: Space) -> st.SearchStrategy[np.ndarray]:
    size = len(space.dimensions)
    return st.lists(st.floats(0, 1), min_size=size, max_size=size).map(np.array)


# -- plain forms ---------------------------------------------------------------------------------------------


def test_written_and_read_again_is_equal() -> None:
    assert Space.from_dict(SPACE.to_dict()) == SPACE
    assert Space.from_yaml(SPACE.to_yaml()) == SPACE
    assert SPACE.to_dict()["epochs"] == 4


def test_yaml_spells_numbers_without_a_dot(tmp_path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "model: m\nlearning_rate: {low: 1e-5, high: 5e-4, log: true, prior: 1e-4}\nweight_decay: [1e-2, 0]\n"
    )
    space = Space.from_yaml(path)
    assert space.default().learning_rate == 1e-4
    assert space.settings["weight_decay"][0].domain == Choice((0.01, 0.0), (0.5, 0.5))


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"learning_rat": 1}, "Did you mean 'learning_rate'"),
        ({"learning_rate": {"low": 1e-3, "high": 1e-4}}, "must be below high"),
        ({"learning_rate": {"low": 1e-3, "high": 1e-3}}, "must be below high"),
        ({"weight_decay": {"low": 0, "high": 1, "log": True}}, "needs low above 0, not 0"),
        ({"learning_rate": {"low": 1e-5, "high": 1e-4, "prior": 1}}, "prior 1 lies outside"),
        ({"learning_rate": {"low": 1e-5, "high": 1e-4, "pior": 1}}, "Did you mean 'prior'"),
        ({"learning_rate": {"low": 1e-5}}, "without high"),
        ({"learning_rate": {"low": "small", "high": 1}}, "must be a finite number, not 'small'"),
        ({"learning_rate": {"low": 1e-5, "high": float("nan")}}, "must be a finite number"),
        ({"learning_rate": {"low": 1e-5, "high": 1e-3, "log": "yes"}}, "log must be true or false"),
        ({"learning_rate": {"low": 1e-5, "high": 1e-3, "steps": 0}}, "steps must be a whole number"),
        ({"learning_rate": {"low": -1, "high": 1}}, "'learning_rate' cannot be -1"),
        ({"head_dropout": {"low": 0.1, "high": 1.5}}, "'head_dropout' cannot be 1.5"),
        ({"batch_size": {"low": 1.5, "high": 4}}, "must be a whole number, not 1.5"),
        ({"optimizer": {"low": 1, "high": 2}}, "is not a number"),
        ({"optimizer": ["adamw", "admw"]}, "'optimizer' cannot be 'admw'"),
        ({"optimizer": {"values": []}}, "at least one value"),
        ({"optimizer": []}, "at least one value"),
        ({"optimizer": {"values": ["adamw", "sgd"], "weights": [1]}}, "one number a value"),
        ({"optimizer": {"values": ["adamw", "sgd"], "weights": [1, 0]}}, "above 0, not 0"),
        ({"optimizer": ["adamw", "adamw"]}, "listed twice"),
        ({"optimizer": {"values": ["adamw"], "prior": "adamw"}}, "prior does not go with values"),
        ({"epochs": {"value": 3, "low": 1}}, "low does not go with value"),
        ({"last_k": {"low": 1, "high": 2, "when": {"adaptation": "last_k"}}}, "'adaptation' is unknown"),
        (
            {"adaptation": ["full", "lora"], "last_k": {"value": 1, "when": {"adaptation": "last_k"}}},
            "never is",
        ),
        (
            {"adaptation": ["full"], "last_k": {"value": 1, "when": {"adaptation": "lastk"}}},
            "cannot be 'lastk'",
        ),
        ({"l1": {"low": 0, "high": 1}, "last_k": {"value": 1, "when": {"l1": 0}}}, "continuous range"),
        ({"model": {"value": "m", "when": {"epochs": 1}}, "epochs": 1}, "model cannot have a condition"),
        ({"epochs": {"value": 1, "when": []}}, "when must map"),
        ({"forbidden": {"epochs": 1}}, "must be a list of combinations"),
        ({"epochs": [1, 2], "forbidden": [{"epochs": [1, 2]}]}, "forbid everything"),
        ({"epochs": [1, 2], "forbidden": [{"epochs": 3}]}, "never is"),
        ({"forbidden": [{"epoch": 3}]}, "Did you mean 'epochs'"),
        (
            {
                "epochs": {"values": [1, 2], "when": {"batch_size": 8}},
                "batch_size": {"values": [8, 16], "when": {"epochs": 1}},
            },
            "circle",
        ),
    ],
)
def test_errors_name_what_is_wrong(entries, said) -> None:
    with pytest.raises(SettingError) as caught:
        Space.from_dict({"model": "m"} | entries)
    assert said in str(caught.value)


@pytest.mark.parametrize("source", ["no/such/file.yaml", "a: [1", "- 1\n- 2\n", "a: b: c"])
def test_unreadable_sources(source) -> None:
    with pytest.raises(SettingError):
        Space.from_yaml(source)


def test_a_space_without_a_model_says_so_and_can_be_given_some() -> None:
    space = Space.from_dict({"epochs": [1, 2]})
    with pytest.raises(SettingError, match="names no model"):
        space.default()
    assert space.with_models(["a"]).default().model == "a"
    assert len(list(space.with_models(["a", "b"]).grid())) == 4
    assert SPACE.with_models(["other"]).default().model == "m"


# -- drawing -------------------------------------------------------------------------------------------------


@given(points(SPACE))
def test_samples_lie_in_the_space_and_encode_back(unit) -> None:
    recipe = SPACE.sample(unit)
    assert SPACE.contains(recipe)
    assert recipe == SPACE.sample(unit)
    code = SPACE.encode(recipe)
    assert code.shape == (len(SPACE.dimensions),)
    assert SPACE.sample(np.nan_to_num(code, nan=0.5)) == recipe
    inactive = dict(zip(SPACE.dimensions, np.isnan(code), strict=True))
    assert inactive["last_k"] == (recipe.adaptation != "last_k")
    if inactive["last_k"]:
        assert recipe.last_k == Recipe.model_fields["last_k"].default
    low, high = (1e-3, 3e-2) if recipe.adaptation == "probe" else (2e-5, 3e-4)
    assert low <= recipe.learning_rate <= high
    assert not (recipe.adaptation == "full" and recipe.batch_size > 16)


def test_the_default_is_the_centre_of_the_priors() -> None:
    recipe = SPACE.default()
    assert (recipe.adaptation, recipe.learning_rate, recipe.batch_size) == ("full", 1e-4, 16)


def test_a_forbidden_default_becomes_the_likeliest_allowed() -> None:
    plain = PLAIN | {
        "batch_size": {"values": [64, 16], "weights": [0.7, 0.3]},
        "forbidden": [{"adaptation": "full", "batch_size": 64}],
    }
    recipe = Space.from_dict(plain).default()  # full 64 is out; last_k 64 has .21 of the mass, full 16 .18
    assert (recipe.adaptation, recipe.batch_size, recipe.last_k) == ("last_k", 64, 3)


def test_draws_follow_the_weights_given_that_they_are_allowed() -> None:
    rng = np.random.default_rng(0)
    drawn = [SPACE.sample(rng.random(len(SPACE.dimensions))) for _ in range(4000)]
    share = sum(recipe.adaptation == "full" for recipe in drawn) / len(drawn)
    assert share == pytest.approx(
        0.2 / (0.2 + 0.4), abs=0.03
    )  # two of the three batch sizes are forbidden for full


def test_encode_refuses_what_lies_outside() -> None:
    with pytest.raises(SettingError, match="learning_rate"):
        SPACE.encode(SPACE.default().model_copy(update={"learning_rate": 0.5}))
    assert not SPACE.contains(SPACE.default().model_copy(update={"momentum": 0.5}))
    assert not SPACE.contains(SPACE.default().model_copy(update={"batch_size": 64}))


def test_a_point_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        SPACE.sample(np.zeros(1))


numbers = st.builds(
    lambda low, width, integer, log, at: Number(
        round(low) if integer else low,
        round(low) + max(1, round(width)) if integer else low + width,
        integer,
        log,
        None if at is None else low + at * width if not integer else round(low),
    ),
    st.floats(0.51, 50),
    st.floats(0.5, 100),
    st.booleans(),
    st.booleans(),
    st.none() | st.floats(0, 1),
)


@given(numbers, st.floats(0, 1), st.floats(0, 1))
def test_quantiles_rise_stay_inside_and_invert(domain, first, second) -> None:
    low, high = sorted((first, second))
    assert domain.low <= domain.quantile(low) <= domain.quantile(high) <= domain.high
    value = domain.quantile(first)
    assert domain.quantile(domain.unit(value)) == pytest.approx(value, rel=2e-5)


@given(numbers.filter(lambda domain: not domain.integer))
def test_the_prior_never_starves_any_part_of_the_range(domain) -> None:
    ends = np.linspace(0, 1, 21)
    masses = np.diff([domain._distribution(end) for end in ends])
    assert masses.min() >= UNIFORM_SHARE / 20 - 1e-12
    assert masses.sum() == pytest.approx(1)


def test_the_prior_draws_to_its_centre() -> None:
    domain = Number(1e-6, 1.0, log=True, prior=1e-3)
    values = np.array([domain.quantile(u) for u in (np.arange(2000) + 0.5) / 2000])
    assert np.median(values) == pytest.approx(1e-3, rel=1e-2)
    near = ((values > 1e-4) & (values < 1e-2)).mean()
    assert near == pytest.approx(
        0.75 * 0.6039 + 0.25 / 3, abs=0.01
    )  # mass of a normal within .833 sd, cut at 2.5 sd


def test_an_integers_probability_is_what_is_drawn() -> None:
    domain = Number(1, 4, integer=True, prior=3)
    drawn = [domain.quantile((at + 0.5) / 10_000) for at in range(10_000)]
    for value in domain.listed():
        assert drawn.count(value) / 10_000 == pytest.approx(domain.mass(value), abs=1e-3)
    assert sum(domain.mass(value) for value in domain.listed()) == pytest.approx(1)


# -- grids and forms for others ------------------------------------------------------------------------------


def test_a_grid_lists_every_combination_once() -> None:
    plain = PLAIN | {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True, "steps": 3}}
    space = Space.from_dict(plain)
    recipes = list(space.grid())
    assert len(recipes) == len(set(recipes)) == space.grid_size() == 3 * (1 + 3 * 4 + 3)
    assert all(space.contains(recipe) for recipe in recipes)
    assert {recipe.learning_rate for recipe in recipes} == {1e-4, 1e-3, 1e-2}


def test_a_grid_over_an_open_range_names_it() -> None:
    with pytest.raises(SettingError, match="learning_rate is a continuous range"):
        SPACE.grid()
    assert SPACE.grid_size(2) == len(list(SPACE.grid(2)))


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(1, 9), st.booleans())
def test_grid_steps_are_spread_and_distinct(steps, high, integer) -> None:
    values = Number(1, 1 + high, integer, True, None, steps).grid()
    assert len(set(values)) == len(values) <= max(steps, high + 1)
    assert all(1 <= value <= 1 + high for value in values)


def test_a_huge_grid_is_counted_and_begun_without_being_made() -> None:
    names = ("last_k", "lora_rank", "batch_size", "accumulate", "patience", "epochs")
    space = Space.from_dict({"model": "m"} | {name: {"low": 1, "high": 200} for name in names})
    assert space.grid_size() == 200**6
    assert next(space.grid()).epochs == 1


def test_describe_has_a_row_an_alternative() -> None:
    rows = SPACE.describe()
    assert len(rows) == 8
    assert {
        "setting": "last_k",
        "values": "1 to 4",
        "prior": "around 3",
        "when": "adaptation is last_k",
    } in rows


def test_configspace_draws_only_recipes_of_the_space() -> None:
    converted = SPACE.to_configspace()
    converted.seed(0)
    recipes = [SPACE.from_configuration(one) for one in converted.sample_configuration(200)]
    assert all(SPACE.contains(recipe) for recipe in recipes)
    assert {recipe.adaptation for recipe in recipes} == {"full", "last_k", "probe"}


def test_configspace_refuses_what_it_cannot_say() -> None:
    space = Space.from_dict(PLAIN | {"warmup": [{"value": 0.5, "when": {"last_k": 1}}, {"value": 0.2}]})
    with pytest.raises(SettingError, match="not always active"):
        space.to_configspace()


def test_importing_spaces_is_light() -> None:
    heavy = "{'ConfigSpace', 'scipy', 'pandas', 'torch', 'transformers', 'sklearn'}"
    code = f"import sys, luthier.space, luthier.search.base; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_active_settings_have_the_domain_that_their_branch_gives_them():
    space = Space.from_dict(
        {
            "model": "m",
            "adaptation": ["full", "lora"],
            "lora_rank": {"values": [4, 8], "when": {"adaptation": "lora"}},
            "learning_rate": [
                {"low": 1e-3, "high": 1e-2, "when": {"adaptation": "lora"}},
                {"low": 1e-5, "high": 1e-4},
            ],
        }
    )
    full, lora = (space.active(space.sample(np.array([unit, 0.5, 0.5]))) for unit in (0.2, 0.8))
    assert set(lora) == {"model", "adaptation", "lora_rank", "learning_rate"} == {*full, "lora_rank"}
    assert (full["learning_rate"].high, lora["learning_rate"].high) == (1e-4, 1e-2)
