from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import models_tiny
import pytest
import torch

from luthier.models import source
from luthier.models.families import FAMILIES

# Tiny tensors: threads cost more than they bring, and ten times so where cores are shared.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], source.Source]:
    """A tiny model of a kind, written once a session."""
    made: dict[str, Path] = {}

    def get(kind: str) -> source.Source:
        if kind not in made:
            made[kind] = models_tiny.write(kind, tmp_path_factory.mktemp(kind))
        return source.find(str(made[kind]), FAMILIES[kind].modality)

    return get


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and models beside a checkout."""
    return Path(__file__).parents[2].parent / "shared"
