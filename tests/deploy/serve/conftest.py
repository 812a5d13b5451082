from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import deploy_models
import pytest
import rollout_fakes
import serve_live

from luthier.deploy.serve.backend import Backend


@pytest.fixture(scope="session")
def text_model(finished: Callable[..., deploy_models.Finished]) -> deploy_models.Finished:
    return finished("bert")


@pytest.fixture
def backend(text_model: deploy_models.Finished) -> Backend:
    """A text classifier of its own, which may be tampered with."""
    return serve_live.opened(text_model.folder)


@pytest.fixture(scope="module")
def server(text_model: deploy_models.Finished) -> Iterator[serve_live.Live]:
    """One server for all tests that leave it as it is."""
    with serve_live.live(serve_live.opened(text_model.folder)) as running:
        yield running


@pytest.fixture
def world(tmp_path: Path) -> rollout_fakes.World:
    """A deployment of three fake versions."""
    return rollout_fakes.make(tmp_path)
