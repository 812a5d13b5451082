from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import made
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
