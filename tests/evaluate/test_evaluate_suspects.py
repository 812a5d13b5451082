"""Label mistakes that were put in, found again."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from luthier.evaluate.suspects import LARGEST, Looked, Suspects, find_suspects, out_of_fold, shares
from luthier.tasks.base import Columns
from luthier.tasks.text_classification import TextClassification
from luthier.tasks.text_regression import TextRegression

NAMES = ["ant", "bee", "cow"]


def mislabelled(rows: int, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of three clouds, their labels with mistakes, and which are mistakes."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 3, rows)
    features = rng.normal(size=(rows, 8)) + 2.5 * np.eye(3, 8)[true]
    wrong = rng.random(rows) < share
    return features, np.where(wrong, (true + rng.integers(1, 3, rows)) % 3, true), wrong


def made(labels: np.ndarray) -> tuple[TextClassification, pd.DataFrame]:
    frame = pd.DataFrame(
        {
            "text": [f"text {i} {'x' * 700}" for i in range(len(labels))],
            "label": [NAMES[one] for one in labels],
            "__row__": np.arange(len(labels)) + 2,
        }
    )
    task = TextClassification(Columns({"input": "text", "target": "label"}))
    task.fit(frame)
    return task, frame


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_mistakes_are_found_and_little_else(share: float) -> None:
    features, labels, wrong = mislabelled(600, share)
    task, frame = made(labels)
    targets = task.targets(frame)
    probabilities, note = out_of_fold(features, targets, 3)
    assert note == "" and np.allclose(probabilities.sum(axis=1), 1)
    found = find_suspects(task, [Looked("train", frame, targets, probabilities)])
    assert found is not None and found.found == {"train": len(found.rows)}
    doubted = np.isin(np.arange(600), [row.row - 2 for row in found.rows])
    assert (doubted & wrong).sum() > 0.5 * wrong.sum(), "most mistakes are found"
    assert (doubted & wrong).sum() > 0.85 * doubted.sum(), "most that is found is a mistake"
    assert found.share == pytest.approx(doubted.mean())
    assert [row.quality for row in found.rows] == sorted(row.quality for row in found.rows)
    first = found.rows[0]
    assert first.given == frame["label"][first.row - 2] != first.suggested
    assert first.input.endswith("…") and len(first.input) < 610
    again = Suspects.from_json(json.loads(json.dumps(found.to_json())))
    assert again == found
    assert list(found.table().columns) == ["split", "row", "input", "given", "suggested", "quality"]


def test_clean_labels_are_left_alone() -> None:
    features, labels, _ = mislabelled(600, 0.0)
    task, frame = made(labels)
    probabilities, _ = out_of_fold(features, task.targets(frame), 3)
    found = find_suspects(task, [Looked("train", frame, task.targets(frame), probabilities)])
    assert found is not None and found.share < 0.02


def test_a_model_that_is_often_wrong_doubts_no_label() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    task, frame = made(labels)
    found = find_suspects(
        task, [Looked("test", frame, task.targets(frame), rng.dirichlet(np.ones(3), 300))], "One thing."
    )
    assert found is not None and (found.rows, found.found) == ([], {})
    assert found.note.startswith("One thing. The test labels cannot be doubted by a model that agrees with 3")


def test_no_row_is_judged_by_a_model_that_saw_it() -> None:
    """Features that say nothing but the row: whoever saw a row knows its label, and nobody else."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 100)
    probabilities, _ = out_of_fold(np.eye(100) * 100, [np.asarray(one) for one in labels], 2)
    right = probabilities.argmax(axis=1) == labels
    assert right.mean() < 0.7
    # With the groups of equal rows, the same of rows that were copied.
    twice = np.repeat(labels, 2)
    groups = np.repeat(np.arange(100), 2)
    copied = np.repeat(np.eye(100) * 100, 2, axis=0)
    targets = [np.asarray(one) for one in twice]
    apart, _ = out_of_fold(copied, targets, 2, groups=groups)
    leaked, _ = out_of_fold(copied, targets, 2)
    assert (apart.argmax(axis=1) == twice).mean() < 0.7 < (leaked.argmax(axis=1) == twice).mean()


def test_what_is_left_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels, _ = mislabelled(200, 0.1)
    targets = [np.asarray(one) for one in labels]
    found, note = out_of_fold(features, targets, 3, seconds=-1)
    assert np.isnan(found).all() and note == "0 of 200 training rows were looked at."
    # So many classes and features that there is no time for all rows.
    monkeypatch.setattr("luthier.evaluate.suspects.SMALLEST", 50)
    monkeypatch.setattr("luthier.evaluate.suspects.SPEED", 1.0)
    found, note = out_of_fold(features, targets, 3)
    assert np.isfinite(found).all(axis=1).sum() == 50 and note == "50 of 200 training rows were looked at."
    assert LARGEST > 1000
    few, note = out_of_fold(features[:10], targets[:10], 3)
    assert np.isnan(few).all() and "too few" in note


def test_missing_and_unseen_labels_and_absent_classes_do_no_harm() -> None:
    features, labels, _ = mislabelled(300, 0.1)
    task, frame = made(labels)
    targets = [np.asarray(one) for one in np.where(labels == 2, -1, labels)]
    targets[0], targets[1] = np.asarray(-100), np.asarray(-1)
    probabilities, _ = out_of_fold(features, targets, 3)
    assert np.isnan(probabilities[:2]).all()
    found = find_suspects(task, [Looked("train", frame, targets, probabilities)])
    assert found is not None and all(row.given != "cow" != row.suggested for row in found.rows)
    outputs = [row * 3 for row in np.eye(3)[np.arange(40) % 2]]
    test = Looked("test", frame[:40], [np.asarray(i % 2) for i in range(40)], shares(outputs))
    both = find_suspects(task, [Looked("train", frame, targets, probabilities), test])
    assert both is not None and both.found["test"] == 0


def test_where_nothing_can_be_said() -> None:
    _features, labels, _ = mislabelled(30, 0.0)
    task, frame = made(labels)
    targets = task.targets(frame)
    said = np.eye(3)[labels]
    assert find_suspects(task, [Looked("test", frame[:19], targets[:19], said[:19])]) is None
    one = [np.asarray(0)] * 30
    assert find_suspects(task, [Looked("test", frame, one, said)]) is None
    numbers = TextRegression(Columns({"input": "text", "target": "value"}))
    assert find_suspects(numbers, [Looked("test", frame, targets, said)]) is None
