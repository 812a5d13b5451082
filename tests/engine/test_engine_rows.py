"""Rows of a split as splits of their own: equal to the same rows given as data, with one pass for all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from luthier.engine import prefix
from luthier.engine.checkpoint import Checkpoints
from luthier.engine.engine import Engine
from luthier.engine.inputs import Inputs
from luthier.engine.rows import Rows, on_rows
from luthier.recipe import Recipe
from luthier.trial import Order

Make = Callable[..., Engine]
TRAIN, HELD = np.array([0, 3, 4, 7, 8, 9, 12, 15, 20, 21, 30, 33]), np.array([1, 2, 5, 6, 40, 41])


def parted(pool: Engine, tmp_path: Path) -> Engine:
    return on_rows(pool, {"train": TRAIN, "validation": HELD}, Checkpoints(tmp_path / "folds"))


def plain(pool: Engine, tmp_path: Path) -> Engine:
    """The same rows, given as data."""
    frame = pool.inputs.frames["train"]
    frames = {"train": frame.iloc[TRAIN], "validation": frame.iloc[HELD]}
    inputs = Inputs(pool.task, frames, tmp_path)
    return Engine(
        inputs, pool.sources, Checkpoints(tmp_path / "plain"), "cpu", store=pool.sharing.store,
        dtype=pool.sharing.dtype, auto="fp32", arithmetic=pool.arithmetic,
    )  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        {"adaptation": "probe", "pooling": "mean", "head": "linear"},
        {"adaptation": "probe", "pooling": "mean", "head": "mlp"},
        {"adaptation": "last_k", "last_k": 1},
        {"adaptation": "full", "head_init": "probe", "pooling": "mean", "head": "linear"},
    ],
)
def test_training_on_rows_is_training_on_them(
    make_engine: Make, recipe: Recipe, tmp_path: Path, settings: dict[str, Any]
) -> None:
    pool = make_engine(arithmetic=torch.float64, dtype="float32")
    recipe = recipe.model_copy(update={"epochs": 2, **settings})
    reports = [
        list(engine.run([Order(0, recipe, 2, 5), Order(1, recipe, 2, 6)]))
        for engine in (parted(pool, tmp_path), plain(pool, tmp_path))
    ]
    for ours, theirs in zip(*reports, strict=True):
        assert (ours.trial, ours.epoch, ours.status) == (theirs.trial, theirs.epoch, theirs.status)
        assert ours.metrics == pytest.approx(theirs.metrics, rel=1e-6)


def test_the_frozen_part_is_computed_once_for_all_parts(
    make_engine: Make, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_engine()
    passes = []
    compute = prefix.compute
    monkeypatch.setattr(prefix, "compute", lambda *a, **k: passes.append(1) or compute(*a, **k))
    probe = recipe.model_copy(update={"adaptation": "probe"})
    for held in np.array_split(np.arange(48), 4):
        rows = {"train": np.setdiff1d(np.arange(48), held), "validation": held}
        list(on_rows(pool, rows, Checkpoints(tmp_path / "folds")).run([Order(0, probe, 1)]))
    assert len(passes) == 1


def test_rows_are_examples_of_their_own(make_engine: Make, recipe: Recipe) -> None:
    pool = make_engine()
    split = pool.inputs.split("train", pool.sources["tiny"], recipe)
    rows = Rows(split.examples, HELD)
    batch, whole = rows.batch(np.array([4, 0])), split.examples.batch(HELD[[4, 0]])
    assert torch.equal(batch.inputs["input_ids"], whole.inputs["input_ids"])
    assert torch.equal(batch.targets, whole.targets) and batch.indices.tolist() == [4, 0]
    assert len(rows) == 6 and rows.lengths.tolist() == split.examples.lengths[HELD].tolist()
    assert rows.fingerprint() != Rows(split.examples, HELD[::-1].copy()).fingerprint()
