from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

# The same examples each time: whether a change passes must not hang on chance. New ones are sought with
# --hypothesis-profile=seek.
hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.register_profile("seek", max_examples=1000)
hypothesis.settings.load_profile("same")

# Before torch is imported: tests run side by side, and many threads for tiny tensors only wait for one
# another.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny random model of a kind, written once a session."""
    import models_tiny

    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = models_tiny.write(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return get
