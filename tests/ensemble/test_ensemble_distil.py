"""Distillation: one network comes closer to what several say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import parts_made
import pytest
from scipy.special import log_softmax

import made
from luthier.data import read
from luthier.engine.engine import Engine
from luthier.ensemble.base import Average, Candidate
from luthier.ensemble.distil import distil, distilled
from luthier.ensemble.ways import Context

Model = Callable[[str], Path]


def distance(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    """Mean divergence of answers from others'."""
    ours, theirs = (log_softmax(np.stack(list(each)).astype(float), axis=1) for each in (one, other))
    return float((np.exp(theirs) * (theirs - ours)).sum(axis=1).mean())


def taught(engine: Engine, context: Context, trials: Sequence[int]) -> Candidate:
    """The mean of some trials."""
    parts = [context.part(context.ranked[at]) for at in trials]
    mean = Average((1 / len(parts),) * len(parts))
    said = [engine.kept.load(part.trial) or [] for part in parts]  # type: ignore[union-attr]
    return Candidate("greedy", parts, mean, mean.outputs(engine.task, said))


def test_it_comes_closer_to_its_teacher_than_the_best_trial_is(tiny_model: Model, tmp_path: Path) -> None:
    engine = parts_made.engine(
        tmp_path, tiny_model("bert"), parts_made.animals(128), parts_made.animals(64, 1)
    )
    one = parts_made.PROBE.model_copy(update={"learning_rate": 0.01, "epochs": 20})
    wild = [one.model_copy(update={"learning_rate": rate}) for rate in (0.01, 0.1, 0.3)]
    context, _ = parts_made.context(engine, parts_made.finished(engine, wild))
    teacher = taught(engine, context, [0, 1, 2])
    before = {part.trial for part in teacher.parts}
    student = parts_made.check(engine, distilled(context, teacher))
    assert student.name == "distil" and len(student.parts) == 1
    single = engine.kept.load(context.ranked[0].trial)  # type: ignore[union-attr]
    assert single is not None
    assert distance(student.validation, teacher.validation) < 0.8 * distance(single, teacher.validation)
    assert all(engine.checkpoints.has(trial) for trial in before)


def frame(kind: str, folder: Path, seed: int) -> object:
    if kind == "text-regression":
        return made.ratings(32, seed)
    if kind == "multi-label-classification":
        return made.topics(32, seed)
    if kind == "image-classification":
        found = parts_made.pictures(folder / "data", 48)
        return found[:32] if seed == 0 else found[32:]
    made.conll(folder / f"{seed}.conll", 32, seed)
    return read(folder / f"{seed}.conll").splits["train"]


@pytest.mark.parametrize(
    "kind", ["text-regression", "multi-label-classification", "token-classification", "image-classification"]
)
def test_every_task_takes_it(tiny_model: Model, tmp_path: Path, kind: str) -> None:
    model = "vit" if kind == "image-classification" else "bert"
    engine = parts_made.engine(
        tmp_path / "data",
        tiny_model(model),
        frame(kind, tmp_path, 0),
        frame(kind, tmp_path, 1),
        kind,  # type: ignore[arg-type]
    )
    recipe = parts_made.RECIPE.model_copy(update={"epochs": 1})
    trials = parts_made.finished(engine, [recipe, recipe.model_copy(update={"learning_rate": 1e-3})])
    context, _ = parts_made.context(engine, trials)
    parts_made.check(engine, distil(context))


def test_it_needs_a_teacher_and_time(tiny_model: Model, tmp_path: Path) -> None:
    engine = parts_made.engine(tmp_path, tiny_model("bert"), made.sentences(24), made.sentences(24, 1))
    one = parts_made.RECIPE.model_copy(update={"epochs": 1})
    trials = parts_made.finished(engine, [one, one])
    context, said = parts_made.context(engine, trials[:1])
    assert distil(context) is None and "no ensemble to teach" in said[0]
    context, said = parts_made.context(engine, trials, seconds=1e-9)
    assert distil(context) is None and "asking the best 2 trials takes" in said[0]
    context, said = parts_made.context(engine, trials, halt=lambda: "you stopped it")
    assert distil(context) is None and "you stopped it while the teacher was asked" in said[0]
    assert not parts_made.numbers(engine)
