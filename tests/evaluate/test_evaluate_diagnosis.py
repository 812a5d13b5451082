from __future__ import annotations

import pandas as pd
import pytest

from luthier.evaluate.baselines import Baseline
from luthier.evaluate.diagnosis import (
    all_near_majority,
    chosen_by_luck,
    diagnose,
    failures,
    loss_rose,
    not_better_than,
    overfitting,
    still_improving,
    underfitting,
)
from luthier.evaluate.evaluation import Evaluation


def curve(score: list[float], loss: list[float], train: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {"trial": 3, "epoch": range(1, len(score) + 1), "score": score, "loss": loss, "train_loss": train}
    )


def table(*scores: float, status: str = "completed") -> pd.DataFrame:
    return pd.DataFrame({"number": range(len(scores)), "score": scores, "status": status, "reason": ""})


def evaluation(difference: float, low: float, high: float) -> Evaluation:
    baseline = Baseline("TF-IDF", {"accuracy": 0.9}, (0.88, 0.92), 1.5, "", difference, (low, high))
    return Evaluation(
        "accuracy", True, {"accuracy": 0.9}, {"accuracy": (0.87, 0.93)}, 300, baselines=[baseline]
    )


def test_a_rising_validation_loss_names_its_epoch() -> None:
    said = loss_rose(curve([0.7, 0.8, 0.8, 0.8], [0.6, 0.4, 0.5, 0.7], [0.5, 0.3, 0.2, 0.1]))
    assert said is not None and "after epoch 2" in said and "0.4 to 0.7" in said


@pytest.mark.parametrize(
    ("loss", "train"),
    [
        ([0.6, 0.4, 0.3, 0.2], [0.5, 0.4, 0.3, 0.2]),  # never rises
        ([0.6, 0.4, 0.41, 0.41], [0.5, 0.4, 0.3, 0.2]),  # hardly rises
        ([0.6, 0.4, 0.5, 0.7], [0.5, 0.4, 0.5, 0.8]),  # both rise: divergence, not overfitting
        ([0.6, 0.4, float("nan"), 0.7], [0.5, 0.4, 0.3, 0.2]),
    ],
)
def test_no_rise_is_claimed_without_one(loss: list[float], train: list[float]) -> None:
    assert loss_rose(curve([0.5] * 4, loss, train)) is None


def test_a_gap_is_overfitting() -> None:
    said = overfitting(curve([0.7, 0.8, 0.7], [0.6, 0.5, 0.6], [0.5, 0.1, 0.05]))
    assert said is not None and "0.1" in said and "0.5" in said
    assert overfitting(curve([0.7, 0.8], [0.6, 0.5], [0.5, 0.4])) is None
    assert overfitting(pd.DataFrame({"epoch": [1], "score": [0.5]})) is None


def test_a_flat_training_loss_is_underfitting() -> None:
    assert underfitting(curve([0.3, 0.3], [1.1, 1.1], [1.1, 1.09])) is not None
    assert underfitting(curve([0.3, 0.5], [1.1, 0.8], [1.1, 0.7])) is None
    assert underfitting(curve([0.3], [1.1], [1.1])) is None


def test_best_at_the_end_asks_for_more_epochs() -> None:
    assert still_improving(curve([0.5, 0.6, 0.7], [1, 1, 1], [1, 1, 1])) is not None
    assert still_improving(curve([0.5, 0.7, 0.7], [1, 1, 1], [1, 1, 1])) is None
    assert still_improving(curve([0.7], [1], [1])) is None


def test_trials_near_the_majority_cast_doubt_on_the_target() -> None:
    said = all_near_majority(table(0.50, 0.51, 0.49), 0.5)
    assert said is not None and "may not be learnable" in said
    assert all_near_majority(table(0.50, 0.60, 0.49), 0.5) is None
    assert all_near_majority(table(0.5, 0.5), 0.5) is None
    assert all_near_majority(table(0.5, 0.5, 0.5), None) is None


@pytest.mark.parametrize(
    ("difference", "low", "high", "words"),
    [
        (0.01, -0.01, 0.03, "not clearly better"),
        (-0.05, -0.08, -0.02, "is worse than"),
        (0.05, 0.02, 0.08, None),
    ],
)
def test_baselines_not_beaten_are_named(
    difference: float, low: float, high: float, words: str | None
) -> None:
    said = not_better_than(evaluation(difference, low, high))
    assert (said == []) if words is None else (words in said[0] and "TF-IDF" in said[0])
    assert not_better_than(None) == []


def test_many_failures_come_with_their_reason() -> None:
    trials = table(0.5, 0.6, float("nan"))
    trials.loc[2, ["status", "reason"]] = ["failed", "out of memory"]
    said = failures(trials)
    assert said is not None and "1 of 3" in said and "out of memory" in said
    assert failures(table(0.5, 0.6)) is None


def test_a_flattered_winner_is_called_so() -> None:
    assert chosen_by_luck(table(0.99, 0.9), evaluation(0.1, 0.05, 0.15)) is not None
    assert chosen_by_luck(table(0.92, 0.9), evaluation(0.1, 0.05, 0.15)) is None
    rmse = Evaluation("rmse", False, {"rmse": 1.0}, {"rmse": (0.9, 1.1)}, 50)
    said = chosen_by_luck(table(-0.7, -0.9), rmse)
    assert said is not None and "0.700" in said and "0.900 to 1.100" in said


def test_a_good_run_says_nothing_and_a_bad_one_the_gravest_first() -> None:
    good = curve([0.7, 0.9, 0.89], [0.5, 0.3, 0.31], [0.6, 0.3, 0.28])
    assert diagnose(table(0.85, 0.9, 0.8), good, best=3, majority_score=0.5) == []
    bad = curve([0.5, 0.51], [0.7, 0.7], [0.7, 0.7])
    said = diagnose(table(0.5, 0.5, 0.51), bad, best=3, majority_score=0.5)
    assert "learnable" in said[0] and len(said) == 3
    assert diagnose(table(0.5), pd.DataFrame(), best=3) == []
