"""Bagging: its members are trainings on resamples, and their mean is steadier than one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import parts_made
import pytest
import torch

import made
from luthier.engine.lesson import Lesson
from luthier.ensemble.bagging import bagging, resample
from luthier.trial import Order

Model = Callable[[str], Path]


def test_a_resample_is_a_function_of_its_seed() -> None:
    one, other = resample(1000, 1), resample(1000, 2)
    np.testing.assert_array_equal(one, resample(1000, 1))
    assert (one != other).any()
    # A bootstrap resample leaves out 1/e of the rows.
    assert len(np.unique(one)) == pytest.approx(632, abs=40)


def test_members_are_trainings_alone_on_their_resamples(tiny_model: Model, tmp_path: Path) -> None:
    recipe = parts_made.RECIPE.model_copy(update={"adaptation": "last_k", "last_k": 1})
    given = (made.sentences(48), made.sentences(24, 1))
    exact = {"arithmetic": torch.float64, "dtype": "float32"}
    engine = parts_made.engine(tmp_path / "a", tiny_model("bert"), *given, **exact)
    context, _ = parts_made.context(engine, parts_made.finished(engine, [recipe]), parts=3)
    candidate = parts_made.check(engine, bagging(context))
    assert candidate.name == "bagging" and len(candidate.parts) == 3
    assert len({part.seed for part in candidate.parts}) == 3
    alone = parts_made.engine(tmp_path / "b", tiny_model("bert"), *given, **exact)
    for part in candidate.parts:
        order = Order(part.trial, part.recipe, part.recipe.epochs, part.seed)
        list(alone.run([order], lessons={part.trial: Lesson(rows=resample(48, part.seed))}))
        torch.testing.assert_close(
            engine.checkpoints.load(part.trial), alone.checkpoints.load(part.trial), rtol=1e-9, atol=1e-9
        )


def test_it_steadies_what_depends_on_the_rows_it_saw(tiny_model: Model, tmp_path: Path) -> None:
    """Heads driven to the end on few noisy rows answer one another's opposite; their mean loses less."""
    train = made.sentences(40)
    train["label"] = np.random.default_rng(0).permutation(train["label"].to_numpy())
    train.loc[::2, "label"] = made.sentences(40)["label"][::2]
    engine = parts_made.engine(tmp_path, tiny_model("bert"), train, made.sentences(60, 1))
    wild = parts_made.PROBE.model_copy(
        update={"learning_rate": 0.3, "schedule": "constant", "epochs": 30, "weight_decay": 0.0}
    )
    context, _ = parts_made.context(engine, parts_made.finished(engine, [wild]), parts=8)
    candidate = parts_made.check(engine, bagging(context))
    each = []
    for part in candidate.parts:
        network = engine.network(part.recipe, part.seed, trial=part.trial)
        split = engine.inputs.split("validation", engine.sources["tiny"], part.recipe)
        each.append(parts_made.loss(engine, engine.outputs(network, part.recipe, split)))
    assert parts_made.loss(engine, candidate.validation) < 0.97 * np.mean(each)


@pytest.mark.parametrize("kind", ["text-regression", "token-classification", "multi-label-classification"])
def test_every_task_takes_it(tiny_model: Model, tmp_path: Path, kind: str) -> None:
    from luthier.data import read

    def frame(seed: int) -> object:
        if kind == "text-regression":
            return made.ratings(24, seed)
        if kind == "multi-label-classification":
            return made.topics(24, seed)
        made.conll(tmp_path / f"{seed}.conll", 24, seed)
        return read(tmp_path / f"{seed}.conll").splits["train"]

    engine = parts_made.engine(tmp_path, tiny_model("bert"), frame(0), frame(1), kind)  # type: ignore[arg-type]
    recipe = parts_made.RECIPE.model_copy(update={"epochs": 1})
    context, _ = parts_made.context(engine, parts_made.finished(engine, [recipe]), parts=3)
    parts_made.check(engine, bagging(context))


def test_without_time_there_is_none_and_it_is_said(tiny_model: Model, tmp_path: Path) -> None:
    engine = parts_made.engine(tmp_path, tiny_model("bert"), made.sentences(48), made.sentences(24, 1))
    trials = parts_made.finished(engine, [parts_made.RECIPE])
    context, said = parts_made.context(engine, trials, seconds=1e-6)
    assert bagging(context) is None
    assert len(said) == 1 and "time is left for 0 trainings" in said[0]
    context, said = parts_made.context(engine, trials, halt=lambda: "you stopped it")
    assert bagging(context) is None and "came to their end" in said[0]
    context, said = parts_made.context(engine, [])
    assert bagging(context) is None and said == ["No ensemble by bagging: no trial came to its end."]
    assert not parts_made.numbers(engine)
