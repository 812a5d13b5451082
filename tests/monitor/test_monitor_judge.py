"""Whole judgements: quiet without a change, drift apart from harm, explained by class, statistic and ids."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from monitor_made import NAMES, followed, reference, requests

from luthier.errors import SettingError
from luthier.monitor.judge import Judge
from luthier.monitor.judgement import Reference, Requests, Settings
from luthier.monitor.views import view


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(reference())


@pytest.fixture(autouse=True)
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_unchanged_requests_raise_nothing(judge: Judge) -> None:
    told = [judge.judge(requests(seed=seed, labels=seed % 2 == 0), new=1000) for seed in range(100, 130)]
    assert sum(one.drifted for one in told) <= 1 and sum(one.harm for one in told) <= 1
    assert {drift.of for drift in told[0].drifts} == {
        "classes",
        "confidence",
        "output",
        "features",
        "statistic",
    }
    assert {drift.length for drift in told[0].drifts} == {"short", "long"}
    json.dumps(told[0].to_json(), allow_nan=True)


def test_harmless_change_is_drift_without_harm(judge: Judge) -> None:
    told = judge.judge(followed(requests(800, 1), requests(1000, 2, moved=0.6)), new=500)
    assert told.drifted and not told.harm and told.explanation.statistic == "features"
    assert told.onset is not None and told.onset.form == "sudden" and abs(told.onset.began - 800) < 80
    assert len(told.explanation.examples) == 10 and all(
        one.startswith("s") for one in told.explanation.examples
    )


def test_a_class_that_grows_is_named(judge: Judge) -> None:
    told = judge.judge(requests(cows=1.5))
    assert told.explanation.changed_class == "cow"
    before, after = told.explanation.change
    assert after > before + 0.08
    share = next(one for one in told.priors if one.name == "cow")
    assert share.share > share.tested and share.interval[0] <= share.share <= share.interval[1]


def test_harm_is_estimated_and_labels_may_deny_it(judge: Judge) -> None:
    harder = requests(hard=0.5)
    told = judge.judge(harder)
    assert (
        told.harm and told.harm_by == "estimate" and told.estimate is not None and told.estimate.drop > 0.04
    )
    assert told.explanation.examples and told.estimate.interval[1] < told.estimate.tested
    denied = judge.judge(replace(harder, outcomes=np.ones(1000)))
    assert not denied.harm and any("denied by labels" in note for note in denied.notes)


def test_labels_raise_harm_that_confidence_does_not_show(judge: Judge) -> None:
    good, bad = requests(1000, 1, labels=True), requests(1000, 2, labels=True)
    assert bad.outcomes is not None
    flipped = np.random.default_rng(0).random(1000) < 0.2
    bad = replace(bad, outcomes=np.where(flipped, 0.0, bad.outcomes), truths=None)
    told = judge.judge(followed(replace(good, truths=None), bad))
    assert told.harm and told.harm_by == "labels" and told.counted is not None and told.counted.n == 1000
    assert told.break_ is not None and abs(told.break_.time - 1000) < 120
    assert told.break_.before > told.break_.after + 0.1


def test_looking_more_often_spends_less_at_each_look(judge: Judge) -> None:
    once, often = judge.judge(requests()), judge.judge(requests(), new=50)
    assert once.spent == 0.01 and often.spent == pytest.approx(0.0005)
    assert [one.p for one in once.drifts] == [one.p for one in often.drifts]
    assert not judge.judge(requests(moved=3.0), new=0).drifted


def test_few_empty_or_broken_requests(judge: Judge) -> None:
    few = judge.judge(requests(49))
    assert few.n == 0 and not few.drifts and "too few" in few.notes[0] and not few.harm
    none = judge.judge(requests(0))
    assert none.n == 0 and "0 requests" in none.notes[0]
    broken = requests(300)
    outputs = np.array(broken.outputs)
    outputs[:30] = np.nan
    features = np.array(broken.features)
    features[100:] = np.nan
    told = judge.judge(replace(broken, outputs=outputs, features=features, statistics={}))
    assert told.n == 270 and "30 requests" in told.notes[0]
    features_n = [drift.n for drift in told.drifts if drift.of == "features"]
    assert features_n == [70, 50] and not any(drift.of == "statistic" for drift in told.drifts)


def test_one_class_all_equal() -> None:
    outputs = np.tile([9.0, 0.0, 0.0], (200, 1))
    sure = view("class", NAMES, outputs).confidence
    made = Reference(
        "class", NAMES, outputs, np.array([200, 0, 0]), sure, np.ones(200, dtype=bool), np.arange(200),
        np.diag([200, 0, 0]), features=np.zeros((100, 3)), statistics={"length": np.ones(200)},
    )  # fmt: skip
    asked = Requests(
        [str(i) for i in range(200)], np.arange(200.0), outputs, np.zeros((200, 3)), {"length": np.ones(200)}
    )
    told = Judge(made).judge(asked)
    assert not told.drifted and not told.harm and told.estimate is not None and told.estimate.value == 1
    other = Judge(made).judge(replace(asked, outputs=outputs[:, ::-1]))
    assert other.drifted and other.explanation.changed_class in ("ant", "cow")


def test_numbers_say_that_nothing_can_be_estimated_until_labels_come() -> None:
    rng = np.random.default_rng(0)
    made = Reference("number", ("value",), rng.normal(size=(500, 1)), errors=rng.exponential(1, 500))
    asked = Requests([str(i) for i in range(400)], np.arange(400.0), rng.normal(size=(400, 1)))
    told = Judge(made).judge(asked)
    assert (
        told.estimate is None and told.counted is None and not told.harm and "no confidence" in told.notes[0]
    )
    worse = Judge(made).judge(replace(asked, outcomes=rng.exponential(1.6, 400)))
    assert worse.harm and worse.harm_by == "labels" and worse.counted is not None
    assert worse.counted.metric == "absolute error" and worse.counted.drop > 0.3


@pytest.mark.parametrize("kind", ["multi", "tags"])
def test_rows_of_many_decisions(kind: str) -> None:
    def drawn(
        rows: int, seed: int, scale: float
    ) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        lengths = rng.integers(0, 9, rows)
        outputs = [
            rng.normal(0, scale, (n, 3)) if kind == "tags" else rng.normal(0, scale, 3) for n in lengths
        ]
        seen = view(kind, NAMES, outputs)  # type: ignore[arg-type]
        right = rng.random(len(seen.confidence)) < seen.confidence
        return outputs, seen.confidence, right, seen.example

    held, sure, right, example = drawn(600, 0, 3.0)
    judge = Judge(Reference(kind, NAMES, held, None, sure, right, example))  # type: ignore[arg-type]

    def asked(seed: int, scale: float) -> Requests:
        return Requests([str(i) for i in range(600)], np.arange(600.0), drawn(600, seed, scale)[0])

    same, harder = judge.judge(asked(1, 3.0), new=300), judge.judge(asked(2, 1.2), new=300)
    assert not same.drifted and not same.harm and not same.priors
    assert harder.drifted and harder.harm and harder.estimate is not None and harder.estimate.drop > 0.05
    assert {drift.of for drift in same.drifts} == {"confidence", "output", "outputs"}


def test_settings_that_mean_nothing_are_refused() -> None:
    for wrong in (Settings(alpha=0.0), Settings(level=1.0), Settings(short=2000), Settings(fewest=0)):
        with pytest.raises(SettingError):
            Judge(reference(100), wrong)


def test_statistics_are_matched_to_decisions_by_their_row() -> None:
    made = reference()
    length = made.statistics["length"]
    right = np.where(length < 20, np.arange(1000) % 2 == 0, made.right)
    order = np.random.default_rng(0).permutation(1000)
    plain, matched, mixed = (
        Judge(replace(made, right=right, measured=rows, statistics={"length": values})).accuracy.map
        for rows, values in (
            (np.empty(0, dtype=int), length),
            (np.arange(1000), length),
            (order, length[order]),
        )
    )
    assert not plain.scales and set(matched.scales) == {"length"}
    assert mixed.parameters == pytest.approx(matched.parameters) and mixed.scales == matched.scales
