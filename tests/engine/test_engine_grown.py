"""Frozen outputs of rows that an earlier run had are met again when rows are added to them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

import made
from luthier.engine.cache import FeatureCache
from luthier.engine.checkpoint import Checkpoints
from luthier.engine.engine import Engine
from luthier.engine.inputs import Inputs
from luthier.models.source import Source
from luthier.recipe import Recipe
from luthier.tasks import registry

OLD, NEW = 30, 11


@pytest.fixture
def engine(tiny_bert: Source, tmp_path: Path) -> Callable[..., tuple[Engine, list[str], list[int]]]:
    """Engines over the first rows of a table; also what they say, and how many rows each pass took."""

    def make(rows: int, store: FeatureCache, known: int = 0) -> tuple[Engine, list[str], list[int]]:
        train = pd.concat([made.sentences(OLD), made.sentences(NEW, seed=7)], ignore_index=True).head(rows)
        columns = registry.get("text-classification").claim(train, "text", {})
        assert columns is not None
        task = registry.get("text-classification")(columns)
        task.fit(train)
        frames = {"train": train, "validation": made.sentences(12, 1)}
        inputs = Inputs(task, frames, tmp_path, {"train": known} if known else {})
        said: list[str] = []
        found = Engine(
            inputs, {"tiny": tiny_bert}, Checkpoints(tmp_path / "checkpoints"), "cpu", store=store,
            auto="fp32", note=said.append,
        )  # fmt: skip
        passed: list[int] = []
        found.sharing.passed = lambda source, recipe, depth, rows, seconds: passed.append(rows)
        return found, said, passed

    return make


@pytest.mark.parametrize(("adaptation", "depth"), [("probe", 0), ("last_k", 1)])
def test_only_added_rows_are_computed(
    engine: Callable[..., tuple[Engine, list[str], list[int]]], tmp_path: Path, adaptation: str, depth: int
) -> None:
    recipe = Recipe(model="tiny", adaptation=adaptation, last_k=1, head="linear", pooling="mean")  # type: ignore[arg-type]

    def features(made_by: tuple[Engine, list[str], list[int]]) -> torch.Tensor:
        found = made_by[0]
        network = found.network(recipe, 0)
        return found.sharing.features(network, found.sources["tiny"], recipe, "train", depth).values

    store = FeatureCache(tmp_path / "cache")
    features(engine(OLD, store))
    # A process of its own: what it meets lies on disk.
    grown = engine(OLD + NEW, FeatureCache(tmp_path / "cache"), known=OLD)
    met = features(grown)
    assert grown[2] == [NEW]
    assert any(f"{OLD} of {OLD + NEW} train rows" in text for text in grown[1])
    whole = engine(OLD + NEW, FeatureCache(None))
    torch.testing.assert_close(met.float(), features(whole).float(), rtol=2e-3, atol=2e-3)
    assert whole[2] == [OLD + NEW] and not whole[1]


def test_rows_that_changed_are_computed_again(
    engine: Callable[..., tuple[Engine, list[str], list[int]]], tmp_path: Path
) -> None:
    recipe = Recipe(model="tiny", adaptation="probe", head="linear", pooling="mean")
    store = FeatureCache(tmp_path / "cache")
    first = engine(OLD, store)[0]
    first.features(recipe, "train")
    other, said, passed = engine(OLD + NEW, store, known=OLD - 1)
    other.features(recipe, "train")
    assert passed == [OLD + NEW] and not said
