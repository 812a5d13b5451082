from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import made
from luthier.errors import DataError
from luthier.run import inspect
from luthier.run.settings import Settings

Tiny = Callable[[str], Path]


def settings(data: Path | None, *models: Path) -> Settings:
    given = {"data": None if data is None else str(data), "model": [str(model) for model in models]}
    return Settings.parse(given | {"threads": 1})


def test_a_check_says_what_it_understood_and_trains_nothing(tiny_model: Tiny, tmp_path: Path) -> None:
    frame = made.sentences(40)
    frame.loc[3, "text"] = ""
    frame.to_csv(tmp_path / "d.csv", index=False)
    checked = inspect.check(settings(tmp_path / "d.csv", tiny_model("bert")))
    assert checked.task == "text-classification"
    assert checked.columns == {"input": "text", "target": "label"}
    assert checked.rows == {"train": 40}
    assert [finding.code for finding in checked.findings if finding.rows == [5]] == ["empty-input"]
    assert [path.name for path in tmp_path.iterdir()] == ["d.csv"]


def test_a_check_lists_errors_instead_of_raising_them(tiny_model: Tiny, tmp_path: Path) -> None:
    made.sentences(40).assign(label="same").to_csv(tmp_path / "d.csv", index=False)
    given = settings(tmp_path / "d.csv", tiny_model("bert")).model_copy(update={"target": "label"})
    assert inspect.check(given).findings[0].severity == "error"


def test_models_are_ranked_on_the_data(tiny_model: Tiny, tmp_path: Path) -> None:
    made.sentences(80).to_csv(tmp_path / "d.csv", index=False)
    models = [tiny_model("bert"), tiny_model("distilbert")]
    rows = inspect.rank(settings(tmp_path / "d.csv", *models))
    assert {row["model"] for row in rows} == {str(model) for model in models}
    assert [row["probe"] for row in rows] == sorted((row["probe"] for row in rows), reverse=True)
    for row in rows:
        assert set(row) == {"model", "parameters", "probe", "logme", "seconds"}
        assert row["parameters"] > 0 and row["seconds"] > 0


def test_rows_for_a_finished_model(tmp_path: Path) -> None:
    from luthier.tasks import registry

    frame = made.sentences(20)
    kind, columns = registry.infer(frame, "text", {})
    task = kind(columns)
    kept, _ = inspect.labelled({"train": frame, "test": frame[:6]}, task)
    assert len(kept) == 6
    frame.loc[2, "label"] = None
    assert len(inspect.labelled(frame, task)[0]) == 19
    with pytest.raises(DataError, match="no labelled rows"):
        inspect.labelled(frame.assign(label=None), task)
    with pytest.raises(DataError, match="no column 'text'"):
        inspect.labelled(frame.rename(columns={"text": "words"}), task)
