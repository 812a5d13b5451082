"""The default spaces: their centre is the recipe that is known to be good, and all in them can be drawn."""

from __future__ import annotations

import numpy as np
import pytest

from luthier.errors import SettingError
from luthier.search.auto import Auto
from luthier.search.defaults import default_space, going_on
from luthier.search.random import Random
from luthier.space import Space

CASES = {
    "small text": {"modality": "text", "level": "example", "num_examples": 4600, "num_blocks": 6},
    "base tagging": {"modality": "text", "level": "token", "num_examples": 3394, "num_blocks": 12},
    "regression": {
        "modality": "text",
        "level": "example",
        "num_examples": 900,
        "num_blocks": 6,
        "classification": False,
    },
    "images": {
        "modality": "image",
        "level": "example",
        "num_examples": 2500,
        "num_blocks": 17,
        "image_size": 224,
        "resizable": True,
    },
    "fixed images": {
        "modality": "image",
        "level": "example",
        "num_examples": 2500,
        "num_blocks": 12,
        "image_size": 224,
    },
    "one block": {"modality": "text", "level": "example", "num_examples": 10, "num_blocks": 1},
    "two blocks": {"modality": "image", "level": "example", "num_examples": 10**6, "num_blocks": 2},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_draw_is_a_recipe_of_the_space(case) -> None:
    space = default_space(models=["a", "b"], **case)
    rng = np.random.default_rng(0)
    for _ in range(200):
        recipe = space.sample(rng.random(len(space.dimensions)))
        assert space.contains(recipe)
        assert recipe.last_k <= max(2, case["num_blocks"] - 1)
        assert recipe.adaptation != "last_k" or recipe.last_k < case["num_blocks"]
        if recipe.adaptation == "probe":
            assert recipe.learning_rate >= 1e-3 and recipe.epochs >= 10
        elif recipe.adaptation != "lora":
            assert recipe.learning_rate <= 5e-3 and recipe.epochs <= 21
    assert len(Random(space, 0).ask(6)) == 6


def test_the_first_text_trial_is_common_practice() -> None:
    recipe = default_space(models=["m"], **CASES["small text"]).default()
    assert (recipe.adaptation, recipe.optimizer, recipe.learning_rate) == ("full", "adamw", 1e-4)
    assert (recipe.batch_size, recipe.epochs, recipe.schedule, recipe.warmup) == (32, 4, "linear", 0.1)
    assert (recipe.weight_decay, recipe.head, recipe.pooling, recipe.label_smoothing) == (
        0.01,
        "linear",
        "mean",
        0,
    )
    assert recipe.dropout is None and recipe.head_init == "probe"


def test_what_a_model_or_task_lacks_is_left_out() -> None:
    regression = default_space(models=["m"], **CASES["regression"])
    assert not {"class_weights", "label_smoothing"} & set(regression.settings)
    assert "last_k" not in default_space(models=["m"], **CASES["one block"]).settings
    assert "image_size" not in default_space(models=["m"], **CASES["fixed images"]).settings
    assert default_space(models=["m"], **CASES["images"]).default().image_size == 128
    assert "pooling" not in default_space(models=["m"], **CASES["base tagging"]).settings


@pytest.mark.parametrize("case", ["small text", "images"])
@pytest.mark.parametrize("names", [["probe"], ["last_k"], ["full"], ["probe", "full"]])
def test_adaptations_may_be_chosen(case: str, names: list[str]) -> None:
    whole = default_space(models=["m"], **CASES[case])
    space = default_space(models=["m"], **CASES[case], adaptations=names)
    assert Space.from_dict(space.to_dict()) == space
    rng = np.random.default_rng(0)
    drawn = [space.sample(rng.random(len(space.dimensions))) for _ in range(40)]
    assert {recipe.adaptation for recipe in drawn} == set(names)
    assert all(whole.contains(recipe) for recipe in drawn)


def test_adaptations_that_the_space_lacks_are_named() -> None:
    for names, said in ((["bias"], "no adaptation 'bias'"), ([], "without an adaptation")):
        with pytest.raises(SettingError, match=said):
            default_space(models=["m"], **CASES["small text"], adaptations=names)
    with pytest.raises(SettingError, match="'last_k'"):
        default_space(models=["m"], **CASES["one block"], adaptations=["last_k"])


def test_deeper_models_get_lower_rates_and_small_sets_more_epochs() -> None:
    def centre(blocks: int, examples: int):
        return default_space("text", "example", ["m"], num_examples=examples, num_blocks=blocks).default()

    assert centre(6, 5000).learning_rate > centre(12, 5000).learning_rate > centre(24, 5000).learning_rate
    assert centre(6, 500).epochs > centre(6, 5000).epochs > centre(6, 50_000).epochs


def test_one_of_the_models_goes_on_with_its_own_head() -> None:
    plain = default_space("text", "example", ["old", "minilm"], num_examples=500, num_blocks=6)
    space = going_on(plain, "old", "native", "native")
    assert Space.from_dict(space.to_dict()) == space
    points = np.random.default_rng(0).random((200, len(space.dimensions)))
    recipes = [space.sample(point) for point in points]
    own = [recipe for recipe in recipes if recipe.model == "old"]
    others = [recipe for recipe in recipes if recipe.model != "old"]
    assert {(one.head, one.pooling) for one in own} == {("native", "native")}
    started = [one.head_init for one in own]
    assert 0.6 < started.count("model") / len(started) < 0.9 and set(started) == {"model", "probe"}
    assert all(plain.contains(one) for one in others) and all(space.contains(one) for one in own)
    strategy = Auto(space)
    orders = strategy.ask(4)
    assert [order.recipe.model for order in orders if order.recipe.adaptation == "probe"] == ["old", "minilm"]
    assert space.default().head_init == "model"
