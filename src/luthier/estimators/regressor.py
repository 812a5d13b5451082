"""`FineTunedRegressor`: numbers for texts or features. What is shared lives in `base`."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.validation import validate_data

from luthier.errors import DataError
from luthier.estimators.base import FineTuned
from luthier.estimators.linear import LinearHead


class FineTunedRegressor(RegressorMixin, FineTuned):  # type: ignore[misc]  # scikit-learn has no types
    """A number for texts or arrays of features.

    Parameters are those of `FineTuned`.

    Attributes:
        n_features_in_: Columns of X.
        feature_names_in_: Their names, where X was a table of features.
        model_: The head, or the run's model.
        result_: The run, where one was made.
    """

    def predict(self, X: Any) -> np.ndarray:
        """(n,) values."""
        inputs = self._inputs(X)
        if isinstance(self.model_, LinearHead):
            return self.model_.outputs(np.asarray(inputs))[:, 0]
        return np.asarray(self.model_.values(list(inputs)))

    def _checked(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        return X, np.asarray(y, dtype=np.float64)

    def _checked_targets(self, y: Any) -> np.ndarray:
        values = np.asarray(column_or_1d(y, dtype=np.float64, warn=True))
        assert_all_finite(values, input_name="y")
        return values

    def _learn(self, y: np.ndarray) -> None:
        """Nothing: any number may be an answer."""

    def _for_head(self, y: np.ndarray) -> tuple[np.ndarray, int | None]:
        return y, None

    def _for_run(self, y: np.ndarray, kind: str) -> tuple[str, list[Any]]:
        if kind != "text":
            raise DataError(
                "There is no task yet that predicts numbers from images.", "Give texts or features."
            )
        return "text-regression", list(y)
