from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tasks_fakes import CharacterProcessor, multi_frame, regression_frame, text_frame, token_frame

from luthier import plugins
from luthier.errors import DataError, SettingError
from luthier.tasks import registry
from luthier.tasks.base import Columns
from luthier.tasks.columns import is_ignored, kind
from luthier.tasks.conformance import CHECKS, Case
from luthier.tasks.text_classification import TextClassification

TEXTS = [f"some longer text about thing number {i}" for i in range(40)]


def infer(frame: pd.DataFrame, **hints: Any) -> tuple[str, dict[str, Any], str]:
    task, columns = registry.infer(frame, hints.pop("modality", "text"), hints)
    return task.name, columns.roles, columns.why


def test_the_plain_cases() -> None:
    assert infer(text_frame())[:2] == ("text-classification", {"input": "text", "target": "label"})
    assert infer(token_frame())[:2] == ("token-classification", {"input": "tokens", "target": "tags"})
    assert infer(multi_frame())[:2] == ("multi-label-classification", {"input": "text", "target": "labels"})
    assert infer(regression_frame())[:2] == ("text-regression", {"input": "review", "target": "score"})
    images = pd.DataFrame({"image": [f"a/{i}.jpg" for i in range(8)], "label": list("ab") * 4})
    assert infer(images, modality="image")[:2] == (
        "image-classification",
        {"input": "image", "target": "label"},
    )


def test_bookkeeping_columns_are_never_input_or_target() -> None:
    frame = text_frame().assign(
        __row__=range(18), split="train", text_id=[f"identifier-{'x' * 90}-{i}" for i in range(18)]
    )
    assert infer(frame)[1] == {"input": "text", "target": "label"}
    names = {
        "id": True,
        "Compound ID": True,
        "mol_id": True,
        "userId": True,
        "idea": False,
        "video": False,
        "split": True,
    }
    frame = pd.DataFrame({name: ["a"] * 30 for name in names})
    assert {name: is_ignored(frame, name) for name in names} == names
    assert is_ignored(pd.DataFrame({"n": range(30)}), "n")


def test_usual_names_win_and_the_longest_text_is_the_input() -> None:
    frame = pd.DataFrame({"user": list("abcd") * 10, "review": TEXTS, "sentiment": ["good", "bad"] * 20})
    assert infer(frame)[1] == {"input": "review", "target": "sentiment"}
    frame = pd.DataFrame({"question": TEXTS, "kind_of": ["good", "bad"] * 20})
    assert infer(frame)[1] == {"input": "question", "target": "kind_of"}


def test_hints_fix_roles() -> None:
    frame = text_frame().assign(other=["x", "y"] * 9)
    assert infer(frame, target="other")[1] == {"input": "text", "target": "other"}
    assert infer(frame, input="other")[1] == {"input": "other", "target": "label"}


def test_a_hint_that_names_no_column_lists_the_columns() -> None:
    with pytest.raises(DataError, match="No column 'lable'") as caught:
        infer(text_frame().assign(__row__=1), target="lable")
    assert "text, label" in str(caught.value)
    assert "__row__" not in str(caught.value)


def test_several_candidates_are_not_guessed_between() -> None:
    frame = pd.DataFrame({"smiles": TEXTS, "a": np.linspace(0, 1, 40), "b": np.linspace(1, 3, 40)})
    with pytest.raises(DataError, match="smiles, a, b"):
        infer(frame)
    assert infer(frame, target="b")[0] == "text-regression"


@pytest.mark.parametrize(
    ("values", "task"),
    [
        ([0, 1] * 20, "text-classification"),
        ([True, False] * 20, "text-classification"),
        ([0.0, 1.0, None, 1.0] * 10, "text-classification"),
        (["1", "2"] * 20, "text-classification"),
        ([1, 2, 3, 4, 5] * 8, "text-classification"),
        (list(range(100, 140)), "text-regression"),
        (list(np.linspace(0, 1, 40)), "text-regression"),
        (["a;b", "b", "a", "b;c", "c"] * 8, "multi-label-classification"),
        (["a|b", "b", "a", "b|c", "c"] * 8, "multi-label-classification"),
        (["No, never", "Yes, of course"] * 20, "text-classification"),
        ([["a"], [], ["a", "b"], ["b"]] * 10, "multi-label-classification"),
        ([np.array(["a"]), np.array(["b", "a"])] * 20, "multi-label-classification"),
    ],
)
def test_the_target_decides_the_task(values: list[Any], task: str) -> None:
    assert infer(pd.DataFrame({"text": TEXTS, "label": values}))[0] == task


def test_a_rating_is_read_as_classes_and_says_so() -> None:
    name, _, why = infer(pd.DataFrame({"text": TEXTS, "rating": [1, 2, 3, 4, 5] * 8}))
    assert name == "text-classification"
    assert "text-regression" in why
    frame = pd.DataFrame({"text": TEXTS, "rating": [1, 2, 3, 4, 5] * 8})
    task, columns = registry.infer(frame, "text", {}, "text-regression")
    assert (task.name, columns.roles["target"]) == ("text-regression", "rating")


def test_zero_one_columns_are_labels() -> None:
    frame = pd.DataFrame(
        {"text": TEXTS, "toxic": [0, 1] * 20, "rude": [1, 0, None, 0] * 10, "length": range(1, 41)}
    )
    assert infer(frame)[:2] == ("multi-label-classification", {"input": "text", "target": ["toxic", "rude"]})
    assert infer(frame, target=["toxic", "rude"])[0] == "multi-label-classification"
    assert infer(frame.assign(label=["x", "y"] * 20))[1]["target"] == "label"


def test_all_missing_and_one_class_are_claimed_so_that_fit_can_say_what_is_wrong() -> None:
    for values, message in ([None] * 40, "All 40 labels"), (["only"] * 40, "one class only, 'only'"):
        frame = pd.DataFrame({"text": TEXTS, "label": values})
        task, columns = registry.infer(frame, "text", {})
        with pytest.raises(DataError, match=message):
            task(columns).fit(frame)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["a", None], "text"), (["1", "2.0"], "integer"), ([1.5, None], "float"), ([True, False], "integer"),
        ([["a"], None], "list"), ([None, float("nan"), " "], "empty"), (["x.JPG", "y.png"], "image"),
        ([{"bytes": b""}], "image"),
    ],
)  # fmt: skip
def test_kinds(cells: list[Any], expected: str) -> None:
    assert kind(pd.Series(cells)) == expected


def test_a_named_task_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(DataError, match="does not fit token-classification"):
        registry.infer(text_frame(), "text", {}, "token-classification")
    with pytest.raises(SettingError, match="The task 'tagging' is unknown"):
        registry.get("tagging")


class Shouting(TextClassification):
    """A stranger's task: texts with an exclamation mark."""

    name = "shouting"

    @classmethod
    def claim(cls, frame: pd.DataFrame, modality: Any, hints: Any) -> Columns | None:
        columns = super().claim(frame, modality, hints)
        shouts = columns is not None and frame[columns.roles["input"]].str.endswith("!").all()
        return Columns(columns.roles, 0.99, "all texts shout") if columns and shouts else None


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [importlib.metadata.EntryPoint("shouting", f"{__name__}:Shouting", registry.GROUP)]
    found.append(importlib.metadata.EntryPoint("absent", "no_such_module:Task", registry.GROUP))
    found.append(importlib.metadata.EntryPoint("odd", "json:dumps", registry.GROUP))
    monkeypatch.setattr(plugins, "entry_points", lambda group: found if group == registry.GROUP else [])


@pytest.mark.usefixtures("stranger")
@pytest.mark.filterwarnings("ignore:The task '(absent|odd)'")
def test_a_stranger_adds_a_task_by_an_entry_point_alone() -> None:
    assert registry.names()[-3:] == ["shouting", "absent", "odd"]
    assert registry.get("shouting") is Shouting
    with pytest.raises(SettingError, match="no_such_module"):
        registry.get("absent")
    with pytest.raises(SettingError, match="not a Task"):
        registry.get("odd")
    loud = text_frame().assign(text=lambda frame: frame["text"] + " !")
    assert infer(loud)[0] == "shouting"
    with pytest.warns(UserWarning, match="no_such_module"):
        assert infer(text_frame())[0] == "text-classification"
    for check in CHECKS:
        check(Case(Shouting, loud, loud[:7], CharacterProcessor()))
