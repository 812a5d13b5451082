"""scikit-learn's own checks, all of them, on arrays of features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.utils.estimator_checks import parametrize_with_checks

from luthier import FineTunedClassifier, FineTunedRegressor


@parametrize_with_checks([FineTunedClassifier(), FineTunedRegressor()])
def test_scikit_learns_checks(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)
