"""Training without the rows of tokens that do not occur: the same numbers, and the rest as it was."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from luthier.engine.engine import Engine
from luthier.models import vocabulary
from luthier.models.network import build
from luthier.models.source import Source
from luthier.recipe import Recipe
from luthier.trial import Order, Report

Make = Callable[..., Engine]
TABLE = "backbone.embeddings.word_embeddings.weight"


def train(engine: Engine, *recipes: Recipe) -> list[Report]:
    return list(engine.run([Order(at, each, each.epochs, seed=at) for at, each in enumerate(recipes)]))


def used(engine: Engine, recipe: Recipe) -> np.ndarray:
    splits = [engine.inputs.split(name, engine.sources["tiny"], recipe) for name in ("train", "validation")]
    pads = [split.examples.pad_id for split in splits]  # type: ignore[attr-defined]
    return np.unique(np.concatenate([*(split.examples.ids.values for split in splits), pads]))  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [1, 2])
def test_what_occurs_is_trained_as_in_the_whole_table(
    make_engine: Make, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    recipes = [recipe.model_copy(update={"l1": 1e-5 * at, "weight_decay": 0.1}) for at in range(count)]
    narrow = make_engine(arithmetic=torch.float64)
    ours = train(narrow, *recipes)
    monkeypatch.setattr(vocabulary, "ENOUGH", 0.0)
    whole = make_engine(arithmetic=torch.float64)
    theirs = train(whole, *recipes)
    assert used(narrow, recipe).size < 0.8 * narrow.checkpoints.load(0)[TABLE].shape[0]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.metrics == pytest.approx(other.metrics, abs=1e-9)
        assert (mine.trainable, mine.parameters) == (other.trainable, other.parameters)
    rows = used(narrow, recipe)
    for trial in range(count):
        mine, other = narrow.checkpoints.load(trial), whole.checkpoints.load(trial)
        for name, value in mine.items():
            kept = (value[rows], other[name][rows]) if name == TABLE else (value, other[name])
            torch.testing.assert_close(*kept, atol=1e-9, rtol=0)


def test_what_does_not_occur_is_as_the_model_had_it(
    make_engine: Make, recipe: Recipe, tiny_bert: Source
) -> None:
    engine = make_engine()
    train(engine, recipe)
    fresh = build(tiny_bert, recipe, level="example", num_outputs=engine.task.num_outputs, seed=0)
    before, after = fresh.state_dict()[TABLE], engine.checkpoints.load(0)[TABLE]
    rows = np.setdiff1d(np.arange(len(before)), used(engine, recipe))
    assert len(rows) and torch.equal(before[rows], after[rows])
    assert not torch.equal(before, after)
    # What was trained is what the whole network says.
    outputs = engine.outputs(
        engine.network(recipe, 0, trial=0), recipe, engine.inputs.split("validation", tiny_bert, recipe)
    )
    metrics = engine.task.metrics(outputs, engine.inputs.targets("validation"))
    closing = train(make_engine(), recipe)[-1]
    assert metrics["loss"] == pytest.approx(closing.metrics["loss"], abs=1e-5)


@pytest.mark.parametrize("adaptation", ["probe", "last_k", "lora", "bias"])
def test_a_frozen_table_stays_whole(
    make_engine: Make, recipe: Recipe, tiny_bert: Source, adaptation: str
) -> None:
    engine = make_engine()
    each = recipe.model_copy(update={"adaptation": adaptation, "last_k": 1})
    network = build(tiny_bert, each, level="example", num_outputs=2, seed=0)
    split = engine.inputs.split("train", tiny_bert, each).examples
    assert vocabulary.of(network, [split]) is None
