"""A model beside the one that it was continued from."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from luthier.evaluate import continued as module
from luthier.evaluate.continued import Change, Continued, compare, compare_classes, told
from luthier.evaluate.intervals import UNKNOWN
from luthier.tasks.base import Columns
from luthier.tasks.text_classification import TextClassification

CLASSES = ["a", "b", "c"]


@pytest.fixture
def task() -> TextClassification:
    found = TextClassification(Columns({"input": "text", "target": "label"}))
    found.fit(pd.DataFrame({"text": ["t"] * 3, "label": CLASSES}))
    return found


def answers(classes: np.ndarray) -> list[np.ndarray]:
    return list(4.0 * np.eye(3)[classes])


def truths(each: int) -> np.ndarray:
    return np.repeat(np.arange(3), each)


def wrong(said: np.ndarray, place: slice) -> np.ndarray:
    changed = said.copy()
    changed[place] = (changed[place] + 1) % 3
    return changed


def test_a_class_that_was_forgotten_is_named_and_the_others_are_not(task: TextClassification) -> None:
    true = truths(40)
    before, after = true, wrong(true, slice(0, 20))
    targets = list(true)
    change = compare(task, answers(after), answers(before), targets)
    assert change.before == 1.0 and change.after == pytest.approx(100 / 120)
    assert change.gain == pytest.approx(-20 / 120) and change.interval[1] < 0
    classes = compare_classes(task, answers(after), answers(before), targets)
    assert [one.name for one in classes if one.worse] == ["a"]
    first = classes[0]
    assert (first.n, first.before, first.after) == (40, 1.0, 0.5)
    assert first.p == pytest.approx(binomtest(20, 20, 0.5, alternative="greater").pvalue)
    found = Continued("before", change, None, classes)
    assert any("forgot 0.167" in line for line in told(found, "accuracy", maximize=True))
    assert any(
        "a (recall 1.000 before, 0.500 now, in 40 rows)" in line
        for line in told(found, "accuracy", maximize=True)
    )


def test_what_chance_does_is_not_called_forgetting(task: TextClassification) -> None:
    true = truths(40)
    before, after = wrong(true, slice(0, 3)), wrong(true, slice(5, 9))
    classes = compare_classes(task, answers(after), answers(before), list(true))
    assert not any(one.worse for one in classes)
    lines = told(
        Continued("before", compare(task, answers(after), answers(before), list(true)), None, classes),
        "accuracy",
        maximize=True,
    )
    assert "within chance" in lines[0] and "None of 3 classes" in lines[1]


def test_the_error_rate_of_calling_a_class_worse(
    task: TextClassification, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two models that are wrong as often, at random: at most one comparison in twenty names a class."""
    # Intervals take most of the time, and do not decide.
    monkeypatch.setattr(module, "paired_difference", lambda *_, **__: (0.0, UNKNOWN))
    generator, true, called = np.random.default_rng(0), truths(30), 0
    for _ in range(200):
        said = [np.where(generator.random(90) < 0.25, (true + 1) % 3, true) for _ in range(2)]
        classes = compare_classes(task, answers(said[0]), answers(said[1]), list(true))
        called += any(one.worse for one in classes)
    assert called <= 0.05 * 200


def test_few_rows_of_a_class_are_shown_and_not_judged(task: TextClassification) -> None:
    true = truths(6)
    classes = compare_classes(task, answers(wrong(true, slice(0, 6))), answers(true), list(true))
    assert classes[0].after == 0.0 and math.isnan(classes[0].p) and not classes[0].worse
    assert "No class has enough" in told(Continued("x", None, None, classes), "accuracy", maximize=True)[0]


def test_groups_are_drawn_whole(task: TextClassification) -> None:
    true = truths(40)
    after, groups = wrong(true, slice(0, 10)), np.repeat(np.arange(12), 10)
    alone = compare(task, answers(after), answers(true), list(true))
    grouped = compare(task, answers(after), answers(true), list(true), groups=groups)
    assert np.ptp(grouped.interval) > np.ptp(alone.interval)
    classes = compare_classes(task, answers(after), answers(true), list(true), groups=groups)
    assert not classes[0].worse, "one group of four changed"


def test_it_survives_a_file(task: TextClassification) -> None:
    true = truths(12)
    change = compare(task, answers(wrong(true, slice(0, 2))), answers(true), list(true))
    classes = [
        *compare_classes(task, answers(true), answers(true), list(true)),
        Change("d", 1, 0.0, 1.0, 1.0),
    ]
    found = Continued("before", change, None, classes, ["c"])
    text = json.dumps(found.to_json()).replace("NaN", "null")
    back = Continued.from_json(json.loads(text))
    assert back.old == change and back.new is None and back.labels == ["c"]
    assert math.isnan(back.classes[-1].p) and back.classes[:3] == classes[:3]


def test_a_refusal_says_why() -> None:
    (line,) = told(Continued("before", refused="its file is gone."), "accuracy", maximize=True)
    assert "before" in line and line.endswith("its file is gone.")
