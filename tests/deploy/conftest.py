from __future__ import annotations

from collections.abc import Callable
from typing import Any

import deploy_models
import pytest


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., deploy_models.Finished]:
    """A finished tiny model of a kind and task, made once a session."""
    known: dict[str, deploy_models.Finished] = {}

    def get(kind: str, task: str = "", **settings: Any) -> deploy_models.Finished:
        key = f"{kind}-{task}-{sorted(settings.items())}"
        if key not in known:
            known[key] = deploy_models.finish(tmp_path_factory.mktemp("finished"), kind, task, **settings)
        return known[key]

    return get
