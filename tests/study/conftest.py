from __future__ import annotations

import pytest

from luthier.study.store import Store


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store.db") as opened:
        yield opened


@pytest.fixture
def run(store) -> str:
    return store.create_run(
        name="first", settings={"data": "x.csv"}, seed=7, budget=60.0, strategy_state={"trials": 0}
    )
