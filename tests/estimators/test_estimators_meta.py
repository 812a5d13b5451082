"""Both kinds of input through scikit-learn's meta-estimators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, ShuffleSplit, cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

import made
from luthier import FineTunedClassifier, FineTunedRegressor

DATA = made.sentences(120)
TEXTS = list(DATA["text"])
Y = DATA["label"].to_numpy()
# Meta-estimators that check X take texts as a column of objects, not as a list.
COLUMN = np.array(TEXTS, dtype=object)[:, None]
FEATURES = np.random.default_rng(0).normal(size=(120, 5)) + 2 * (Y == "yes")[:, None]
SPACE = {"epochs": 8, "batch_size": 16, "learning_rate": 1e-2, "head": "linear", "pooling": "mean"}


@pytest.fixture(scope="module")
def estimator(tiny_model: Callable[[str], Path]) -> FineTunedClassifier:
    return FineTunedClassifier(
        model=str(tiny_model("bert")), space=SPACE, trials=1, repeats=1, strategy="random", threads=1,
        random_state=0,
    )  # fmt: skip


@pytest.mark.parametrize("X", [TEXTS, FEATURES], ids=["texts", "features"])
def test_pipeline(estimator: FineTunedClassifier, X: Any) -> None:
    pipeline = Pipeline([("as it is", FunctionTransformer()), ("model", estimator)])
    pipeline.fit(X, Y, model__sample_weight=np.ones(120))
    assert pipeline.score(X, Y) > 0.9


def test_cross_validation(estimator: FineTunedClassifier) -> None:
    assert cross_val_score(estimator, TEXTS, Y, cv=2).mean() > 0.8
    assert cross_val_score(estimator, FEATURES, Y, cv=3).mean() > 0.9
    groups = np.arange(120) // 20
    shares = cross_val_predict(
        estimator, FEATURES, Y, groups=groups, cv=GroupKFold(2), method="predict_proba"
    )
    assert shares.shape == (120, 2)


def test_grid_search(estimator: FineTunedClassifier) -> None:
    spaces = [{**SPACE, "adaptation": adaptation} for adaptation in ("probe", "full")]
    search = GridSearchCV(estimator, {"space": spaces}, cv=ShuffleSplit(1, random_state=0)).fit(TEXTS, Y)
    assert search.best_params_["space"]["adaptation"] == "full"
    assert search.best_estimator_.result_.trials["adaptation"][0] == "full"
    search = GridSearchCV(estimator, {"l2": [100.0, 1e-2]}, cv=3, scoring="neg_log_loss").fit(FEATURES, Y)
    assert search.best_params_ == {"l2": 1e-2} and search.score(FEATURES, Y) > -0.2


def test_side_by_side(estimator: FineTunedClassifier) -> None:
    with joblib.parallel_config("threading", n_jobs=2):
        scores = cross_val_score(estimator, FEATURES, Y, cv=4)
    np.testing.assert_array_equal(scores, cross_val_score(estimator, FEATURES, Y, cv=4))


@pytest.mark.parametrize("X", [COLUMN, FEATURES], ids=["texts", "features"])
def test_bagging(estimator: FineTunedClassifier, X: Any) -> None:
    bagging = BaggingClassifier(estimator, n_estimators=2, random_state=0).fit(X, Y)
    assert bagging.score(X, Y) > 0.8
    first, second = (one.decision_function(X) for one in bagging.estimators_)
    assert not np.allclose(first, second)


@pytest.mark.parametrize("X", [COLUMN, FEATURES], ids=["texts", "features"])
def test_boosting(estimator: FineTunedClassifier, X: Any) -> None:
    # Some labels wrong: a learner without errors ends the boosting.
    y = np.where(np.arange(120) % 15 == 0, np.where(Y == "yes", "no", "yes"), Y)
    boosting = AdaBoostClassifier(estimator, n_estimators=2, random_state=0).fit(X, y)
    assert len(boosting.estimators_) == 2 and boosting.score(X, Y) > 0.8


def test_voting_and_stacking_of_texts(estimator: FineTunedClassifier) -> None:
    words = make_pipeline(FunctionTransformer(np.ravel), TfidfVectorizer(), LogisticRegression())
    others = [("fine-tuned", estimator), ("words", words)]
    assert VotingClassifier(others, voting="soft").fit(TEXTS, Y).score(TEXTS, Y) > 0.9
    stacked = StackingClassifier(others, final_estimator=FineTunedClassifier(random_state=0), cv=2)
    assert stacked.fit(COLUMN, Y).score(COLUMN, Y) > 0.9


def test_voting_and_stacking_of_features(estimator: FineTunedClassifier) -> None:
    others = [("head", estimator), ("peer", LogisticRegression())]
    assert VotingClassifier(others).fit(FEATURES, Y).score(FEATURES, Y) > 0.9
    assert StackingClassifier(others, cv=2).fit(FEATURES, Y).score(FEATURES, Y) > 0.9


def test_bagging_of_regressors() -> None:
    y = FEATURES @ np.arange(5.0)
    bagging = BaggingRegressor(FineTunedRegressor(), n_estimators=3, random_state=0).fit(FEATURES, y)
    assert bagging.score(FEATURES, y) > 0.99
