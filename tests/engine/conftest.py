from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import models_tiny
import numpy as np
import pandas as pd
import pytest

from luthier.engine.checkpoint import Checkpoints
from luthier.engine.engine import Engine
from luthier.engine.inputs import Inputs
from luthier.models import source
from luthier.recipe import Recipe
from luthier.tasks import registry

GOOD = ["good cat", "good dog ran fast", "the good tree", "good bird on the mat", "a good red house"]
BAD = ["bad cat", "bad dog sat slow", "the bad tree", "bad bird on the mat", "a bad blue house"]


def frame(rows: int, seed: int) -> pd.DataFrame:
    """Sentences whose label is said by one word, with some of random length."""
    rng = np.random.default_rng(seed)
    words = "the a cat dog sat ran on mat fast slow red blue house tree bird".split()
    texts, labels = [], []
    for row in range(rows):
        label = row % 2
        text = (GOOD if label else BAD)[int(rng.integers(5))]
        texts.append(" ".join([text, *rng.choice(words, int(rng.integers(0, 8)))]))
        labels.append("yes" if label else "no")
    return pd.DataFrame({"text": texts, "label": labels})


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> source.Source:
    return source.find(str(models_tiny.write("bert", tmp_path_factory.mktemp("bert"))), "text")


@pytest.fixture
def make_engine(tiny_bert: source.Source, tmp_path: Path) -> Callable[..., Engine]:
    """Engines on the same data, each with its own checkpoints."""
    made = 0

    def make(rows: int = 48) -> Engine:
        nonlocal made
        made += 1
        train = frame(rows, 0)
        columns = registry.get("text-classification").claim(train, "text", {})
        assert columns is not None
        task = registry.get("text-classification")(columns)
        task.fit(train)
        inputs = Inputs(task, {"train": train, "validation": frame(24, 1)}, tmp_path)
        return Engine(inputs, {"tiny": tiny_bert}, Checkpoints(tmp_path / f"checkpoints-{made}"), "cpu")

    return make


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(model="tiny", learning_rate=3e-3, batch_size=8, epochs=3, head_dropout=0.1)
