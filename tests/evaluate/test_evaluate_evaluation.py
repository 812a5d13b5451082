from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from luthier.evaluate.baselines import classical, from_outputs, majority
from luthier.evaluate.evaluation import Evaluation, answer_text, evaluate, spans
from luthier.tasks.base import Columns
from luthier.tasks.multi_label import MultiLabelClassification
from luthier.tasks.text_classification import TextClassification
from luthier.tasks.text_regression import TextRegression
from luthier.tasks.token_classification import TokenClassification

ROWS = pd.DataFrame(
    {
        "text": ["red apple", "green pear", "blue sea", "cold lake", "deep sea", "ripe apple"] * 10,
        "label": ["fruit", "fruit", "water", "water", "water", "fruit"] * 10,
        "__row__": range(2, 62),
    }
)


def sure(classes: list[int], margin: float = 4.0) -> list[np.ndarray]:
    return [np.where(np.arange(2) == one, margin, 0.0).astype(np.float32) for one in classes]


@pytest.fixture
def task() -> TextClassification:
    task = TextClassification(Columns({"input": "text", "target": "label"}))
    task.fit(ROWS)
    return task


def answers(task: TextClassification, wrong: dict[int, float]) -> list[np.ndarray]:
    """Right answers, but for some rows wrong ones with a margin of their own."""
    truths = [int(target) for target in task.targets(ROWS)]
    outputs = sure(truths)
    for row, margin in wrong.items():
        outputs[row] = sure([1 - truths[row]], margin)[0]
    return outputs


def test_it_judges_and_shows_the_worst_first(task: TextClassification) -> None:
    outputs = answers(task, {3: 1.0, 7: 9.0, 11: 5.0})
    found = evaluate(task, outputs, task.targets(ROWS), ROWS, seed=1)
    assert found.value == pytest.approx(57 / 60)
    low, high = found.interval
    assert low < found.value < high
    assert set(found.intervals) == set(found.metrics)
    assert [error.row for error in found.worst] == [9, 13, 5]
    assert (found.worst[0].input, found.worst[0].truth, found.worst[0].prediction) == (
        "green pear",
        "fruit",
        "water",
    )
    assert found.worst[0].confidence == pytest.approx(1 / (1 + np.exp(-9)))
    assert found.confusion is not None and found.confusion[1].sum() == 60
    assert len(evaluate(task, outputs, task.targets(ROWS), ROWS, top=1).worst) == 1


def test_unseen_answers_count_as_wrong_and_missing_ones_as_nothing(task: TextClassification) -> None:
    frame = ROWS.copy()
    frame.loc[0, "label"] = "stone"
    frame.loc[1, "label"] = None
    found = evaluate(task, answers(task, {}), task.targets(frame), frame)
    assert (found.n, found.unseen) == (59, 1)
    assert found.value == pytest.approx(58 / 59)
    assert [(error.truth, error.loss) for error in found.worst] == [("stone", None)]


def test_json_keeps_everything(task: TextClassification) -> None:
    outputs = answers(task, {3: 1.0})
    found = evaluate(task, outputs, task.targets(ROWS), ROWS, groups=ROWS.index // 6)
    found.metrics["odd"] = float("nan")
    found.baselines = [majority(task, task.targets(ROWS), task.targets(ROWS), chosen=outputs)]
    text = json.dumps(found.to_json(), allow_nan=False)
    again = Evaluation.from_json(json.loads(text))
    assert json.dumps(again.to_json(), allow_nan=False) == text
    assert again.groups == 10
    assert again.worst == found.worst
    assert again.baselines[0].difference_interval == pytest.approx(found.baselines[0].difference_interval)
    assert np.isnan(again.metrics["odd"])


def test_lengths_must_agree(task: TextClassification) -> None:
    with pytest.raises(ValueError, match="59 outputs"):
        evaluate(task, answers(task, {})[1:], task.targets(ROWS), ROWS)


def test_baselines_have_one_form_and_a_paired_difference(task: TextClassification) -> None:
    chosen, targets = answers(task, {3: 1.0}), task.targets(ROWS)
    plain = majority(task, targets, targets, chosen=chosen)
    assert plain.metrics["accuracy"] == 0.5
    assert plain.difference == pytest.approx(59 / 60 - 0.5)
    assert plain.difference_interval is not None and plain.difference_interval[0] > 0.2
    learner = classical(task, ROWS, ROWS, chosen=chosen)
    assert learner is not None and learner.metrics["accuracy"] == 1.0 and learner.seconds > 0
    assert learner.difference is not None and learner.difference < 0
    probe = from_outputs("Probe", task, chosen, targets, 3.0, "2 of 5 epochs", chosen=chosen)
    assert (probe.difference, probe.note, probe.seconds) == (0.0, "2 of 5 epochs", 3.0)
    assert from_outputs("Probe", task, chosen, targets, 3.0).difference is None


def test_less_is_better_for_a_regression() -> None:
    frame = pd.DataFrame({"text": list("abcdefgh"), "y": np.arange(8.0)})
    task = TextRegression(Columns({"input": "text", "target": "y"}))
    task.fit(frame)
    targets = task.targets(frame)
    outputs = [np.array([float(target) + 0.01 * i]) for i, target in enumerate(targets)]
    found = evaluate(task, outputs, targets, frame)
    baseline = majority(task, targets, targets, chosen=outputs)
    assert baseline.name == "Always the mean"
    assert baseline.difference is not None and baseline.difference > 0
    assert found.worst[0].input == "h" and float(found.worst[0].truth) == 7.0


def test_tagging_errors_show_entities() -> None:
    frame = pd.DataFrame(
        {
            "tokens": [["In", "New", "York"], ["Nothing", "here"], ["Ada", "wrote"]],
            "tags": [["O", "B-place", "I-place"], ["O", "O"], ["B-person", "O"]],
        }
    )
    task = TokenClassification(Columns({"input": "tokens", "target": "tags"}))
    task.fit(frame)
    outputs = [5.0 * np.eye(task.num_outputs)[target] for target in task.targets(frame)]
    perfect = evaluate(task, outputs, task.targets(frame), frame)
    assert perfect.worst == []
    outputs[0] = 5.0 * np.eye(task.num_outputs)[[task.label_names.index("O")] * 3]
    found = evaluate(task, outputs, task.targets(frame), frame)
    assert [(error.truth, error.prediction) for error in found.worst] == [("New York [place]", "(none)")]


def test_many_labels_show_as_lists() -> None:
    frame = pd.DataFrame({"text": ["a", "b", "c"], "fun": [1, 0, 1], "sad": [0, 0, 1]})
    task = MultiLabelClassification(Columns({"input": "text", "target": ["fun", "sad"]}))
    task.fit(frame)
    outputs = [np.array([3.0, -3.0]), np.array([-3.0, -3.0]), np.array([3.0, -3.0])]
    found = evaluate(task, outputs, task.targets(frame), frame)
    assert [(error.truth, error.prediction) for error in found.worst] == [("fun, sad", "fun")]


def test_spans_read_loose_tags_as_the_conll_script() -> None:
    words = ["a", "b", "c", "d", "e"]
    assert spans(words, ["I-x", "I-x", "I-y", "O", "B-y"]) == [
        {"text": "a b", "type": "x"},
        {"text": "c", "type": "y"},
        {"text": "e", "type": "y"},
    ]
    assert answer_text([]) == "(none)"
