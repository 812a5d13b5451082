from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import made
from luthier.engine.cache import FeatureCache
from luthier.engine.checkpoint import Checkpoints
from luthier.engine.engine import Engine
from luthier.engine.inputs import Inputs
from luthier.models import source
from luthier.recipe import Recipe
from luthier.tasks import registry


@pytest.fixture(scope="session")
def tiny_bert(tiny_model: Callable[[str], Path]) -> source.Source:
    return source.find(str(tiny_model("bert")), "text")


@pytest.fixture
def make_engine(tiny_bert: source.Source, tmp_path: Path) -> Callable[..., Engine]:
    """Engines on the same data, each with its own checkpoints."""
    count = 0

    def make(rows: int = 48, **options: Any) -> Engine:
        nonlocal count
        count += 1
        train = made.sentences(rows)
        columns = registry.get("text-classification").claim(train, "text", {})
        assert columns is not None
        task = registry.get("text-classification")(columns)
        task.fit(train)
        inputs = Inputs(task, {"train": train, "validation": made.sentences(24, 1)}, tmp_path)
        checkpoints = Checkpoints(tmp_path / f"checkpoints-{count}")
        options.setdefault("store", FeatureCache(None))
        options.setdefault("auto", "fp32")
        return Engine(inputs, {"tiny": tiny_bert}, checkpoints, "cpu", **options)

    return make


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(model="tiny", learning_rate=3e-3, batch_size=8, epochs=3, head_dropout=0.1)
