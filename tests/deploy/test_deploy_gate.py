from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from luthier.deploy.gate import Beside, Facts, judge

CURRENT = Facts(
    "text-classification", ("no", "yes"), "accuracy", True, {"accuracy": 0.90, "macro_f1": 0.8},
    {"accuracy": (0.85, 0.95)}, 200, "same",
)  # fmt: skip


def with_value(value: float | None, **others: object) -> Facts:
    return replace(CURRENT, metrics={"accuracy": value}, **others)  # type: ignore[arg-type]


@pytest.mark.parametrize(("value", "passed"), [(0.99, True), (0.86, True), (0.84, False)])
def test_worse_is_only_what_lies_beyond_the_interval(value: float, passed: bool) -> None:
    verdict = judge(with_value(value), CURRENT)
    assert verdict.passed is passed
    assert f"{value:.4g}" in verdict.text and "0.85 to 0.95" in verdict.text


@pytest.mark.parametrize(("value", "passed"), [(0.5, True), (0.94, True), (0.96, False)])
def test_of_errors_more_is_worse(value: float, passed: bool) -> None:
    current = replace(CURRENT, maximize=False)
    assert judge(replace(with_value(value), maximize=False), current).passed is passed


def test_another_task_or_other_labels_do_not_pass() -> None:
    other = judge(with_value(0.99, task="text-regression"), CURRENT)
    assert not other.passed and "text-regression" in other.text
    labels = judge(with_value(0.99, labels=("yes", "no")), CURRENT)
    assert not labels.passed and "yes, no" in labels.text


@pytest.mark.parametrize(
    ("candidate", "current", "why"),
    [
        (with_value(0.1, data_fingerprint="other"), CURRENT, "different data"),
        (with_value(0.1, data_fingerprint=""), CURRENT, "not known on which data this version"),
        (with_value(0.1, metric="", data_fingerprint="same"), CURRENT, "this version has no test result"),
        (with_value(0.1), replace(CURRENT, metric=""), "the version in charge has no test result"),
        (with_value(0.1), replace(CURRENT, intervals={}), "no interval"),
        (with_value(None), CURRENT, "no test accuracy of both"),
    ],
)
def test_what_cannot_be_compared_passes_and_says_so(candidate: Facts, current: Facts, why: str) -> None:
    verdict = judge(candidate, current)
    assert verdict.passed and "cannot be compared" in verdict.text and why in verdict.text


@pytest.mark.parametrize(
    ("interval", "passed"), [((-0.05, -0.01), False), ((-0.05, 0.01), True), ((0.01, 0.02), True)]
)
def test_a_continued_one_must_not_cost_what_was_there(interval: tuple[float, float], passed: bool) -> None:
    current = replace(CURRENT, run="0123")
    facts = with_value(
        0.95, data_fingerprint="more", run="4567", beside=Beside("0123", 200, interval[0], interval)
    )
    verdict = judge(facts, current)
    assert verdict.passed is passed and "200 test rows" in verdict.text
    assert ("worse beyond chance" in verdict.text) is not passed
    other = judge(facts, replace(current, run="89ab"))
    assert other.passed and "judged on different data" in other.text
    unknown = judge(replace(facts, beside=Beside("0123", 200, -0.1, (None, None))), current)
    assert unknown.passed and "cannot be compared" in unknown.text
    assert Facts.from_json(json.loads(json.dumps(asdict(facts)))) == facts


def test_the_metric_of_the_version_in_charge_decides() -> None:
    candidate = replace(CURRENT, metric="macro_f1", metrics={"accuracy": 0.5, "macro_f1": 0.99})
    assert not judge(candidate, CURRENT).passed
