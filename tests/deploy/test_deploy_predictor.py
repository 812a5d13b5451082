from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from luthier.deploy.predictor import Predictor
from luthier.errors import DataError


@pytest.fixture
def predictor() -> Predictor:
    """One that only knows its input column: loaded models are predicted with in whole runs."""
    task = SimpleNamespace(columns=SimpleNamespace(roles={"input": "text"}))
    return Predictor(None, task, "cpu")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("one", ["one"]),
        (["a", "b"], ["a", "b"]),
        (Path("x.png"), ["x.png"]),
        ([["a", "b"], ["c"]], [["a", "b"], ["c"]]),
        (pd.DataFrame({"text": ["t"], "more": [1]}), ["t"]),
    ],
)
def test_inputs_become_rows(predictor: Predictor, given: object, expected: list[object]) -> None:
    frame = predictor.frame(given)
    assert list(frame["text"]) == expected
    assert list(frame["__row__"]) == list(range(1, len(expected) + 1))


@pytest.mark.parametrize("given", [[], pd.DataFrame({"text": []})])
def test_nothing_is_said_to_be_nothing(predictor: Predictor, given: object) -> None:
    with pytest.raises(DataError, match="nothing to predict"):
        predictor.frame(given)


def test_a_table_without_the_column_is_refused(predictor: Predictor) -> None:
    with pytest.raises(DataError, match="no column 'text'") as caught:
        predictor.frame(pd.DataFrame({"words": ["a"]}))
    assert "words" in str(caught.value)
