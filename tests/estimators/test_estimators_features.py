"""Both estimators on features: what scikit-learn's own checks do not look at."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from luthier import FineTunedClassifier, FineTunedRegressor, LuthierError
from luthier.errors import DataError, SettingError
from luthier.estimators.base import FineTuned


def test_an_estimator_that_does_not_say_what_its_targets_are_is_not_made() -> None:
    class Silent(FineTuned):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Silent()


def test_as_good_as_its_peers() -> None:
    X, y = load_iris(return_X_y=True)
    mine = cross_val_score(FineTunedClassifier(random_state=0), X, y).mean()
    assert mine >= cross_val_score(make_pipeline(StandardScaler(), LogisticRegression()), X, y).mean() - 0.01
    X, y = load_diabetes(return_X_y=True)
    mine = cross_val_score(FineTunedRegressor(random_state=0), X, y).mean()
    peer = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 4, 15)))
    assert mine >= cross_val_score(peer, X, y).mean() - 0.01


def test_a_table_of_features_keeps_its_names() -> None:
    table = pd.DataFrame(load_iris().data, columns=["a", "b", "c", "d"])
    fitted = FineTunedClassifier().fit(table, load_iris().target)
    assert list(fitted.feature_names_in_) == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(table[["d", "c", "b", "a"]])


def test_no_run_is_made() -> None:
    X, y = load_iris(return_X_y=True)
    fitted = FineTunedClassifier(random_state=0).fit(X, y)
    assert fitted.result_ is None
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))


def test_rows_of_a_group_are_held_out_together() -> None:
    """Rows of a group share a label by chance: only whole groups held out show that nothing can be learnt."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 10)
    X = rng.normal(size=(20, 15))[groups] + 0.1 * rng.normal(size=(200, 15))
    y = rng.permutation(20)[groups] % 2
    alone, grouped = FineTunedClassifier(random_state=0), FineTunedClassifier(random_state=0)
    alone.fit(X, y)
    grouped.fit(X, y, groups=[f"g{group}" for group in groups])
    assert grouped.model_.l2 > 100 * alone.model_.l2


@pytest.mark.parametrize("l2", [0, -1.0, float("inf"), float("nan"), "0.1", True])
def test_a_penalty_is_a_number_above_zero(l2: Any) -> None:
    with pytest.raises(SettingError, match="l2 cannot be"):
        FineTunedRegressor(l2=l2).fit([[0.0], [1.0]], [0.0, 1.0])


def test_what_cannot_be_learnt_from_is_refused() -> None:
    X = np.arange(6.0)[:, None]
    with pytest.raises(DataError, match="one class only, 'a'"):
        FineTunedClassifier().fit(X, ["a"] * 6)
    with pytest.raises(DataError, match="one class only"):
        FineTunedClassifier().fit(X, [0, 0, 0, 0, 0, 1], sample_weight=[1, 1, 1, 1, 1, 0])
    with pytest.raises(ValueError, match="inconsistent numbers"):
        FineTunedClassifier().fit(X, [0, 1] * 3, groups=[1, 2])
    with pytest.raises(DataError, match="numbers from images"):
        FineTunedRegressor().fit(["a.png", "b.png"], [0.0, 1.0])


def test_errors_about_values_are_value_errors() -> None:
    assert issubclass(DataError, ValueError) and issubclass(SettingError, ValueError)
    assert issubclass(DataError, LuthierError)
    assert str(SettingError("No.", "Do.")) == "No.\nDo."
