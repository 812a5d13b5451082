from __future__ import annotations

from luthier.recipe import Recipe
from luthier.run.baselines import scratch_recipe

USUAL = Recipe(model="a", learning_rate=1e-4, epochs=4)


def test_scratch_is_the_chosen_recipe_with_all_weights_random_and_trained() -> None:
    chosen = Recipe(model="b", adaptation="last_k", learning_rate=3e-5, epochs=7)
    recipe = scratch_recipe(chosen, USUAL)
    assert recipe == chosen.model_copy(update={"init": "scratch", "adaptation": "full"})


def test_a_heads_settings_are_not_put_on_a_whole_network() -> None:
    chosen = Recipe(
        model="b", adaptation="probe", learning_rate=3e-2, epochs=60, pooling="mean", head="linear"
    )
    recipe = scratch_recipe(chosen, USUAL)
    assert (recipe.model, recipe.learning_rate, recipe.epochs) == ("b", 1e-4, 4)
    assert (recipe.init, recipe.adaptation, recipe.pooling) == ("scratch", "full", "native")
