"""A small prior of made studies, so that no test of a search waits for trees on thousands of real curves, or
depends on what its user has learnt.
"""

from __future__ import annotations

import pytest
from search_studies import made_study

from luthier.search.prior import Prior


@pytest.fixture(scope="session")
def made_prior(tmp_path_factory):
    """Path of a prior learnt from three made studies."""
    path = tmp_path_factory.mktemp("prior") / "prior.npz"
    Prior.from_studies([made_study(f"s{seed}", seed=seed) for seed in range(3)], ["Made up."]).save(path)
    return path


@pytest.fixture(autouse=True)
def _small_prior(made_prior, monkeypatch):
    monkeypatch.setenv("LUTHIER_PRIOR", str(made_prior))
