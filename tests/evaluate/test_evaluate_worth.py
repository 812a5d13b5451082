"""Sentences on made baselines, and McNemar's test against the binomial."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from luthier.evaluate.baselines import Baseline, from_outputs, mcnemar
from luthier.evaluate.evaluation import Evaluation
from luthier.evaluate.worth import duration, worth
from luthier.tasks.base import Columns
from luthier.tasks.multi_label import MultiLabelClassification
from luthier.tasks.text_classification import TextClassification


def beside(value: float, *baselines: Baseline, metric: str = "accuracy", spent: float = 600.0) -> Evaluation:
    maximize = metric != "rmse"
    return Evaluation(
        metric, maximize, {metric: value}, {metric: (0.0, 1.0)}, 500, baselines=list(baselines), spent=spent
    )


def one(kind: str, value: float, by: float, low: float, high: float, p: float | None = None, *,
        seconds: float = 9.0, metric: str = "accuracy") -> Baseline:  # fmt: skip
    return Baseline(kind, {metric: value}, (0.0, 1.0), seconds, "", by, (low, high), kind=kind, p=p)


def test_a_gain_is_said_with_its_odds_and_costs() -> None:
    said = worth(
        beside(
            0.93,
            one("majority", 0.5, 0.43, 0.39, 0.47, 1e-9),
            one("probe", 0.89, 0.041, 0.02, 0.063, 0.0004),
            one("scratch", 0.92, 0.01, -0.01, 0.03),
        )
    )
    assert said == (
        "Fine-tuning gained 4.1 points of accuracy over the probe, which took 9 s, the best cheap baseline: "
        "95% interval +2.0 to +6.3, p = 0.0004. Finding and training the model took 10 min."
    )


def test_a_cheap_baseline_that_is_as_good_or_better_is_named() -> None:
    said = worth(beside(0.9, one("probe", 0.896, 0.004, -0.006, 0.014, 0.4)))
    assert said.startswith(
        "The probe, which took 9 s, is as good: the difference of +0.4 points of accuracy lies within chance "
        "(-0.6 to +1.4, p = 0.4)."
    )
    said = worth(beside(0.8, one("neighbours", 0.9, -0.1, -0.14, -0.06, 1e-6), spent=0.0))
    assert said == (
        "Nearest neighbours on frozen features, which took 9 s, is better: fine-tuning lost 10.0 points of "
        "accuracy against it (95% interval of the gain -14.0 to -6.0, p < 0.0001)."
    )


def test_other_metrics_and_what_cannot_be_said() -> None:
    said = worth(beside(2.0, one("classical", 3.0, 1.0, 0.5, 1.5, metric="rmse"), metric="rmse"))
    assert "gained 1 in rmse over classical" in said and "+0.5 to +1.5." in said
    assert worth(beside(0.9)) == ""
    assert worth(beside(0.9, one("scratch", 0.8, 0.1, 0.05, 0.15))) == ""
    assert worth(beside(0.9, Baseline("x", {"accuracy": 0.5}, (0, 1), 1.0))) == ""
    said = worth(beside(1.0, one("probe", 0.0, 1.0, math.nan, math.nan)))
    assert "cannot be said" in said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.31, "0.3 s"), (9.04, "9 s"), (31, "31 s"), (740, "12 min"), (12600, "3.5 h")]
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_mcnemar_is_the_binomial_of_what_one_alone_gets_right() -> None:
    frame = pd.DataFrame({"text": ["t"] * 40, "label": ["no", "yes"] * 20})
    task = TextClassification(Columns({"input": "text", "target": "label"}))
    task.fit(frame)
    targets = task.targets(frame)

    def said(wrong: list[int]) -> list[np.ndarray]:
        return [np.eye(2)[1 - t if i in wrong else t] for i, t in enumerate(targets)]

    # Nine rows that the first alone gets right, and one that the second alone does.
    first, second = said([20, 30]), said([*range(9), 30])
    expected = 2 * (1 + 10) / 2**10
    assert mcnemar(task, first, second, targets) == pytest.approx(expected)
    assert mcnemar(task, second, first, targets) == pytest.approx(expected)
    assert mcnemar(task, first, first, targets) == 1.0
    about = from_outputs("x", task, second, targets, 1.0, kind="probe", chosen=first)
    assert about.p == pytest.approx(expected) and about.kind == "probe"
    assert Baseline.from_json(about.to_json()) == about
    # Rows of a group are not independent, and several answers of a row neither.
    groups = np.arange(40) // 2
    assert from_outputs("x", task, second, targets, 1.0, chosen=first, groups=groups).p is None
    many = MultiLabelClassification(Columns({"input": "text", "target": "labels"}))
    many.fit(pd.DataFrame({"text": ["a", "b"], "labels": ["x;y", "y"]}))
    answers = [np.array([1.0, -1.0])] * 2
    assert mcnemar(many, answers, answers, [np.array([1.0, 0.0])] * 2) is None
