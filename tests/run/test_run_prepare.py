from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import made
from luthier.errors import DataError
from luthier.run import prepare as preparing
from luthier.run.settings import Settings

Tiny = Callable[[str], Path]


def test_a_model_is_built_once_to_count_its_blocks(tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    models = [str(tiny_model(kind)) for kind in ("bert", "distilbert")]
    prepared = preparing.prepare(Settings.parse({"model": models}), made.sentences(60))
    built: list[str] = []
    original = preparing.build

    def counting(source: Any, recipe: Any, **options: Any) -> Any:
        built.append(recipe.model)
        return original(source, recipe, **options)

    monkeypatch.setattr(preparing, "build", counting)
    spaces = [
        preparing.search_space(prepared, None, names).to_dict()
        for names in (models, models[:1], models[1:]) * 2
    ]
    assert built == models
    assert spaces[:3] == spaces[3:]
    assert prepared.num_blocks(models[0]) == 2


@pytest.mark.parametrize("kind", [str, Path])
def test_images_named_by_absolute_paths_are_kept_with_their_run(
    tiny_model: Tiny, tmp_path: Path, kind: Callable[[Path], Any]
) -> None:
    """The copy is read as the data was, with the same names and the same pixels, once the first are gone."""
    made.pictures(tmp_path / "first", 24)
    paths = sorted((tmp_path / "first").rglob("*.png"))
    frame = pd.DataFrame({"image": [kind(path) for path in paths], "label": [p.parent.name for p in paths]})
    settings = Settings.parse({"model": [str(tiny_model("vit"))]})
    prepared = preparing.prepare(settings, frame)
    folder = tmp_path / "run" / "data"
    preparing.save_table(prepared.dataset, folder)
    pixels = {path.relative_to(tmp_path / "first").as_posix(): path.read_bytes() for path in paths}
    shutil.rmtree(tmp_path / "first")
    again = preparing.prepare(settings.model_copy(update={"data": str(folder)}))
    assert preparing.data_fingerprint(again) == preparing.data_fingerprint(prepared)
    names = [name for frame in again.dataset.splits.values() for name in frame["image"]]
    assert {name: (again.dataset.root / name).read_bytes() for name in names} == pixels


def sites(rows: int, count: int) -> pd.DataFrame:
    """Texts from several sites, each with a class of its own."""
    frame = made.sentences(rows)
    frame["site"] = [f"s{row % count}" for row in range(rows)]
    frame["label"] = [f"c{row % count}" for row in range(rows)]
    return frame


def test_groups_with_a_class_of_their_own_leave_nothing_to_judge_by(tiny_model: Tiny) -> None:
    settings = Settings.parse({"model": [str(tiny_model("bert"))], "group": "site"})
    with pytest.raises(DataError) as refused:
        preparing.prepare(settings, sites(120, 5))
    said = refused.value.message
    assert re.search(r"1 class in validation that training never shows: c\d; 24 rows", said)
    assert "leaves no validation row to judge a model by" in said and "leaves no test row" in said
    assert "'site'" in said
    with pytest.raises(DataError) as refused:
        preparing.prepare(settings, sites(120, 3))
    assert re.search(
        "one class only.* left to train on where values of 'site' stay whole", str(refused.value)
    )


def test_a_class_that_groups_take_out_of_training_is_told(tiny_model: Tiny) -> None:
    """Whole groups with a class of their own: the other rows of the split can be judged."""
    train = made.sentences(60)
    test = made.sentences(20, 1)
    test.loc[:3, "label"] = "perhaps"
    told: list[str] = []
    settings = Settings.parse({"model": [str(tiny_model("bert"))]})
    prepared = preparing.prepare(settings, {"train": train, "test": test}, say=told.append)
    assert [one.code for one in prepared.findings].count("class-unseen") == 1
    assert any("1 class in test that training never shows: perhaps; 4 rows" in message for message in told)


def test_a_given_split_of_other_classes_is_refused(tiny_model: Tiny) -> None:
    other = made.sentences(20, 1).replace({"yes": "ja", "no": "nein"})
    settings = Settings.parse({"model": [str(tiny_model("bert"))]})
    with pytest.raises(DataError, match=r"leaves no test row.* Leave that split out"):
        preparing.prepare(settings, {"train": made.sentences(60), "test": other})
