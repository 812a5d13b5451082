"""Each rule on made curves and tables. Real runs with a known trouble are in test_evaluate_verdicts_cases."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.evaluate.baselines import Baseline
from luthier.evaluate.evaluation import Evaluation
from luthier.evaluate.giveaway import Giveaway
from luthier.evaluate.noise import Noise
from luthier.evaluate.sizes import SizeCurve
from luthier.evaluate.verdict import Verdict
from luthier.evaluate.verdicts import Case, Fit, Found, Ignored, judge, rules
from luthier.evaluate.verdicts.data import label_noise, too_few_data
from luthier.evaluate.verdicts.fit import overfitting, rise, still_improving, underfitting
from luthier.evaluate.verdicts.leakage import answer_in_input, rows_in_two_splits
from luthier.evaluate.verdicts.rate import too_high, too_low
from luthier.evaluate.verdicts.search import baseline_as_good, failures, luck
from luthier.evaluate.verdicts.sound import sound
from luthier.evaluate.verdicts.target import class_ignored, unlearnable

NAN = float("nan")
TWO = math.log(2)
"""Loss of a model of two classes that knows nothing."""


def curve(score: list[float], loss: list[float], train: list[float], trial: int = 0) -> pd.DataFrame:
    return pd.DataFrame(
        {"trial": trial, "epoch": range(1, len(train) + 1), "score": score, "loss": loss, "train_loss": train}
    )


def table(*scores: float, **columns: Any) -> pd.DataFrame:
    plain = {"number": range(len(scores)), "score": scores, "status": "completed", "reason": None}
    recipe = {"learning_rate": 1e-3, "adaptation": "full", "schedule": "constant", "warmup": 0.0}
    return pd.DataFrame(plain | recipe | columns)


def baseline(name: str, value: float, difference: float, half: float = 0.04) -> Baseline:
    interval = (value - 0.05, value + 0.05)
    return Baseline(
        name, {"accuracy": value}, interval, 1.5, "", difference, (difference - half, difference + half)
    )


def evaluation(value: float = 0.9, *baselines: Baseline, **other: Any) -> Evaluation:
    ends = (value - 0.04, value + 0.04)
    found = list(baselines) or [baseline("Always the most frequent answer", 0.5, value - 0.5)]
    return Evaluation(
        "accuracy", True, {"accuracy": value}, {"accuracy": ends}, 200, baselines=found, **other
    )


def case(**changes: Any) -> Case:
    """A good run of two classes, with changes."""
    plain = Case(
        table(0.9),
        curve([0.8, 0.9, 0.9], [0.5, 0.3, 0.29], [0.6, 0.35, 0.3]),
        0,
        majority=0.5,
        blank_loss=TWO,
        evaluation=evaluation(),
        training=Fit(0.92, 0.25, 500),
        usual_rates=(3e-4, 3e-3),
    )
    return replace(plain, **changes)


def failed(**changes: Any) -> Case:
    """A run that learnt nothing, of a target that TF-IDF learns."""
    lost = evaluation(
        0.5,
        baseline("Always the most frequent answer", 0.5, 0.0),
        baseline("TF-IDF + logistic regression", 0.85, -0.35),
    )
    flat = curve([0.5] * 4, [TWO] * 4, [0.696, 0.695, 0.695, 0.694])
    return case(trials=table(0.5), epochs=flat, evaluation=lost, training=Fit(0.51, TWO, 500), **changes)


def names(verdicts: list[Verdict]) -> list[str]:
    return [one.name for one in verdicts]


def test_a_good_run_is_sound_and_says_what_was_looked_at() -> None:
    (said,) = judge(case())
    assert (said.name, said.gravity, said.step) == ("sound", "good", "")
    assert "0.900" in said.evidence and "0.920 on training rows" in said.evidence


def test_nothing_is_claimed_from_nothing() -> None:
    assert judge(Case(table(NAN), pd.DataFrame(), 0)) == []
    assert sound(failed()) is None


# -- fit


def test_a_rising_validation_loss_names_its_epoch() -> None:
    found = rise(curve([0.7, 0.8, 0.8, 0.8], [0.6, 0.4, 0.5, 0.7], [0.5, 0.3, 0.2, 0.1]))
    assert found is not None and found.epoch == 2 and found.share == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("loss", "train"),
    [
        ([0.6, 0.4, 0.3, 0.2], [0.5, 0.4, 0.3, 0.2]),  # never rises
        ([0.6, 0.4, 0.41, 0.41], [0.5, 0.4, 0.3, 0.2]),  # hardly rises
        ([0.6, 0.4, 0.5, 0.7], [0.5, 0.4, 0.5, 0.8]),  # both rise: divergence, not overfitting
        ([0.6, 0.4, NAN, 0.7], [0.5, 0.4, 0.3, 0.2]),
    ],
)
def test_no_rise_is_claimed_without_one(loss: list[float], train: list[float]) -> None:
    assert rise(curve([0.5] * 4, loss, train)) is None


def test_overfitting_is_graver_the_wider_the_gap_and_the_steeper_the_rise() -> None:
    steep = curve([0.7, 0.75, 0.74, 0.72], [0.6, 0.5, 0.7, 0.9], [0.5, 0.3, 0.1, 0.01])
    wide = case(epochs=steep, evaluation=evaluation(0.75), training=Fit(1.0, 0.01, 500))
    said = overfitting(wide)
    assert said is not None and said.gravity == "fault" and "after epoch 2 (0.5 to 0.9)" in said.evidence
    assert "about 2 epochs" in said.step
    said = overfitting(replace(wide, training=Fit(0.85, 0.3, 500)))
    assert said is not None and said.gravity == "advice"
    assert overfitting(case()) is None


def test_a_small_loss_that_doubles_is_still_small() -> None:
    rising = curve([0.98, 0.98, 0.98], [0.02, 0.03, 0.05], [0.03, 0.02, 0.01])
    assert overfitting(case(epochs=rising)) is None
    assert overfitting(case(epochs=rising.assign(loss=[0.2, 0.3, 0.5]))) is not None


def test_a_gap_within_chance_is_none() -> None:
    few = evaluation(0.8)
    few.intervals["accuracy"] = (0.6, 1.0)
    assert overfitting(case(evaluation=few, training=Fit(1.0, 0.0, 50))) is None


def test_a_model_that_others_beat_and_that_does_not_fit_its_rows_underfits() -> None:
    weak = case(
        trials=table(0.7, adaptation="probe"),
        evaluation=evaluation(
            0.7,
            baseline("Always the most frequent answer", 0.5, 0.2),
            baseline("TF-IDF + logistic regression", 0.9, -0.2),
        ),
        training=Fit(0.72, 0.55, 500),
    )
    said = underfitting(weak)
    assert said is not None and said.gravity == "fault" and "TF-IDF" in said.evidence and "lora" in said.step
    # One that fits them lost for another reason.
    assert underfitting(replace(weak, training=Fit(0.99, 0.02, 500))) is None


def test_with_nobody_to_compare_a_flat_loss_is_underfitting() -> None:
    alone = failed()
    assert alone.evaluation is not None
    alone.evaluation.baselines = alone.evaluation.baselines[:1]
    assert underfitting(alone) is not None
    assert underfitting(case()) is None


def test_best_at_the_end_asks_for_more_epochs() -> None:
    said = still_improving(case(epochs=curve([0.5, 0.6, 0.7], [1, 0.9, 0.8], [1, 0.9, 0.8])))
    assert said is not None and "0.700 then" in said.evidence
    assert still_improving(case(epochs=curve([0.5, 0.7, 0.7], [1, 0.9, 0.8], [1, 0.9, 0.8]))) is None
    # A gain within chance is none.
    assert still_improving(case(epochs=curve([0.5, 0.7, 0.703], [1, 0.9, 0.8], [1, 0.9, 0.8]))) is None


# -- rate


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ([0.7, 0.9, 1.2], "was 1.2 in epoch 3"),
        ([3.1, 1.4, 0.9], "was 3.1 in epoch 1"),
        ([0.6, 0.2, 0.55], "jumped from 0.2 to 0.55 in epoch 3"),
    ],
)
def test_a_loss_that_was_driven_up_or_jumps_is_a_rate_too_high(train: list[float], words: str) -> None:
    said = too_high(case(epochs=curve([0.8, 0.9, 0.9], [0.5] * 3, train)))
    assert said is not None and words in said.evidence and said.gravity == "advice"


@pytest.mark.parametrize(
    "train", [[0.9, 0.6, 0.3], [0.6, 0.01, 0.05], [0.6, 0.3, 0.32]], ids=["new head", "tiny", "wobble"]
)
def test_losses_that_only_start_high_or_wobble_are_not(train: list[float]) -> None:
    assert too_high(case(epochs=curve([0.8, 0.9, 0.9], [0.5] * 3, train))) is None


def test_a_flat_loss_where_others_learn_is_read_by_the_rate() -> None:
    high = failed(usual_rates=(1e-5, 1e-4))
    said = judge(high)[0]
    assert (said.name, said.gravity) == ("rate-too-high", "fault") and "TF-IDF" in said.evidence
    said = judge(failed(usual_rates=(1e-2, 1e-1)))[0]
    assert (said.name, said.gravity) == ("rate-too-low", "fault")


def test_trials_that_diverged_count() -> None:
    trials = table(0.9, NAN, NAN)
    trials.loc[1:, "status"], trials.loc[1:, "reason"] = "failed", "the training loss became nan in epoch 1"
    (said, *rest) = judge(case(trials=trials))
    assert (said.name, said.gravity) == ("rate-too-high", "fault") and "2 of 3" in said.evidence
    assert "failures" not in names(rest)


def test_a_fall_that_does_not_slow_is_a_rate_too_low() -> None:
    steady = curve([0.55, 0.6, 0.62, 0.64], [0.7] * 4, [0.69, 0.66, 0.63, 0.60])
    said = too_low(case(epochs=steady, trials=table(0.64, recipe_epochs=4)))
    assert said is not None and "100% as fast" in said.evidence
    slowing = curve([0.55, 0.6, 0.62, 0.64], [0.7] * 4, [0.69, 0.55, 0.48, 0.45])
    assert too_low(case(epochs=slowing, trials=table(0.64, recipe_epochs=4))) is None


def test_a_schedule_that_decays_is_reckoned_with() -> None:
    """The same falls per unit of rate, under a rate that decays to nothing."""
    given = 1 - (np.arange(6) + 0.5) / 6
    train = list(0.69 - 0.03 * (np.cumsum(given) - given / 2))
    slow = case(
        epochs=curve([0.5, 0.52, 0.54, 0.56, 0.58, 0.6], [0.7] * 6, train),
        trials=table(0.6, schedule="linear", recipe_epochs=6),
    )
    said = too_low(slow)
    assert said is not None and "100% as fast" in said.evidence


@pytest.mark.parametrize(("sign", "rule"), [(1, too_low), (-1, too_high)])
def test_rates_and_scores_over_trials(sign: int, rule: rules.Rule) -> None:
    rates = np.geomspace(1e-5, 1e-3, 9)
    scores = 0.6 + sign * 0.02 * np.arange(9)
    trials = table(*scores, learning_rate=rates)
    best = int(scores.argmax())
    found = case(trials=trials, best=best, epochs=pd.DataFrame())
    said = rule(found)
    assert said is not None and "rank correlation" in said.evidence
    assert (
        rule(replace(found, trials=table(*scores[[3, 0, 7, 5, 1, 8, 2, 6, 4]], learning_rate=rates))) is None
    )


# -- data and labels


def test_more_data_helps_where_the_curve_still_climbs() -> None:
    sizes = SizeCurve([100, 200], [0.7, 0.8], [0.6, 0.7], [0.8, 0.9], 0.86, (0.8, 0.9), 0.06, (0.03, 0.08))
    said = too_few_data(case(evaluation=evaluation(sizes=sizes)))
    assert said is not None and "0.860" in said.evidence and "200" in said.step
    for gain, ends in ((0.06, (0.0, 0.1)), (0.005, (0.004, 0.006)), (NAN, (NAN, NAN))):
        flat = replace(sizes, gain=gain, gain_interval=ends)
        assert too_few_data(case(evaluation=evaluation(sizes=flat))) is None


@pytest.mark.parametrize(("low", "gravity"), [(0.01, None), (0.05, "advice"), (0.12, "fault")])
def test_noise_is_graver_the_surer_it_is(low: float, gravity: str | None) -> None:
    said = label_noise(case(noise=Noise(0.15, (low, 0.2), 200, "A head")))
    assert (said and said.gravity) == gravity


# -- leaks and targets


@pytest.mark.parametrize(("share", "gravity"), [(0.005, "advice"), (0.1, "fault")])
def test_leaked_rows(share: float, gravity: str) -> None:
    leak = Found("warning", "7 test texts stand in train too.", "leak", "test", share)
    said = rows_in_two_splits(case(findings=[leak]))
    assert said is not None and said.gravity == gravity and "--drop-leaks" in said.step
    assert (
        rows_in_two_splits(case(findings=[Found("warning", "Rare rows.", "imbalance", "train", 0.5)])) is None
    )


def test_a_mark_that_says_the_answer() -> None:
    said = answer_in_input(case(giveaway=Giveaway({"yes": "code1"}, 1.0, (0.95, 1.0), 80)))
    assert said is not None and said.gravity == "fault" and "“code1” says yes" in said.evidence


def test_a_target_that_nobody_learns_cannot_be_learnt() -> None:
    lost = failed(usual_rates=None)
    assert lost.evaluation is not None
    lost.evaluation.baselines[1] = baseline("TF-IDF + logistic regression", 0.51, -0.01)
    assert names(judge(lost)) == ["unlearnable"]
    assert unlearnable(failed()) is None


def test_a_model_that_learnt_its_rows_shows_that_it_could_learn() -> None:
    lost = failed()
    assert lost.evaluation is not None
    lost.evaluation.baselines = lost.evaluation.baselines[:1]
    assert unlearnable(lost) is None
    assert unlearnable(replace(lost, training=Fit(0.98, 0.05, 500))) is not None


def test_a_class_that_is_ranked_but_never_said() -> None:
    said = class_ignored(case(ignored=[Ignored("rare", 12, 0.1, 0.85, (0.75, 0.95))]))
    assert said is not None and "“rare” (12 test rows)" in said.evidence and "balanced" in said.step
    assert class_ignored(case(ignored=[Ignored("rare", 12, 0.1, 0.55, (0.4, 0.7))])) is None
    assert class_ignored(case(ignored=[Ignored("common", 60, 0.9, 0.85, (0.75, 0.95))])) is None
    assert class_ignored(case(ignored=[Ignored("rare", 2, 0.1, 0.95, (0.9, 1.0))])) is None


# -- search


@pytest.mark.parametrize(("difference", "gravity"), [(0.01, "advice"), (-0.08, "fault"), (0.08, None)])
def test_baselines_not_beaten_are_named(difference: float, gravity: str | None) -> None:
    said = baseline_as_good(case(evaluation=evaluation(0.9, baseline("TF-IDF", 0.9, difference))))
    assert (said and said.gravity) == gravity
    assert said is None or ("TF-IDF" in said.title and "1.5 s" in said.evidence)


def test_many_failures_come_with_their_reason() -> None:
    trials = table(0.5, 0.6, NAN)
    trials.loc[2, "status"], trials.loc[2, "reason"] = "failed", "out of memory"
    said = failures(case(trials=trials))
    assert said is not None and "1 of 3" in said.evidence and "out of memory" in said.evidence
    assert failures(case(trials=table(0.5, 0.6))) is None


def test_a_flattered_winner_is_called_so() -> None:
    assert luck(case(trials=table(0.99, 0.9))) is not None
    assert luck(case(trials=table(0.92, 0.9))) is None
    rmse = Evaluation("rmse", False, {"rmse": 1.0}, {"rmse": (0.9, 1.1)}, 50)
    said = luck(case(trials=table(-0.7, -0.9), evaluation=rmse, metric="rmse", maximize=False))
    assert said is not None and "0.700" in said.evidence


# -- all together

FLOATS = st.floats(0.001, 5.0) | st.just(NAN)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1) | st.just(NAN), FLOATS, FLOATS), max_size=6),
    st.floats(0, 1),
    st.floats(0, 1) | st.just(NAN),
    st.floats(-0.5, 0.5),
)
def test_the_gravest_comes_first_and_no_cause_twice(
    epochs: list[tuple[float, float, float]], value: float, training: float, difference: float
) -> None:
    columns = [list(column) for column in zip(*epochs, strict=True)] if epochs else [[], [], []]
    judged = evaluation(
        value,
        baseline("Always the most frequent answer", 0.5, value - 0.5),
        baseline("TF-IDF", 0.7, difference),
    )
    found = judge(case(epochs=curve(*columns), evaluation=judged, training=Fit(training, 0.1, 100)))
    order = ["fault", "advice", "good"]
    gravities = [order.index(one.gravity) for one in found]
    assert gravities == sorted(gravities)
    assert len(set(names(found))) == len(found)
    for at, cause in enumerate(found):
        explained = rules.EXPLAINS.get(cause.name, frozenset())
        assert not explained & {one.name for one in found[at + 1 :] if one.gravity != "good"}
    assert all(one.title and one.evidence for one in found)
    assert all(one.step for one in found if one.gravity != "good")
