"""`FineTunedClassifier`: classes for texts, images or features. What is shared lives in `base`."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from luthier.errors import DataError
from luthier.estimators.base import FineTuned
from luthier.estimators.linear import LinearHead
from luthier.tasks.labels import label_text


class FineTunedClassifier(ClassifierMixin, FineTuned):  # type: ignore[misc]  # scikit-learn has no types
    """Classes for texts, images or arrays of features.

    Parameters are those of `FineTuned`.

    Attributes:
        classes_: (classes,) sorted.
        n_features_in_: Columns of X.
        feature_names_in_: Their names, where X was a table of features.
        model_: The head, or the run's model.
        result_: The run, where one was made.
    """

    def decision_function(self, X: Any) -> np.ndarray:
        """(n, classes) logits; (n,) for two classes, above zero for the second."""
        outputs = self._outputs(X)
        return outputs[:, 1] - outputs[:, 0] if len(self.classes_) == 2 else outputs

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, classes) probabilities, in the order of ``classes_``."""
        return np.asarray(softmax(self._outputs(X), axis=1))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """(n, classes) their logarithms."""
        return np.asarray(log_softmax(self._outputs(X), axis=1))

    def predict(self, X: Any) -> np.ndarray:
        """(n,) the most probable class of each."""
        best = self._outputs(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def _outputs(self, X: Any) -> np.ndarray:
        """(n, classes) logits."""
        inputs = self._inputs(X)
        if isinstance(self.model_, LinearHead):
            return self.model_.outputs(np.asarray(inputs))
        outputs, place = (
            self.model_.outputs(list(inputs)),
            {name: at for at, name in enumerate(self._names())},
        )
        # A run that keeps groups together may find no training row of a class, and then never says it.
        found = np.full((len(outputs), len(self.classes_)), -np.inf)
        found[:, [place[name] for name in self.model_.labels]] = outputs
        return found

    def _names(self) -> list[str]:
        """Names of the classes in a run: as texts, or their places where those are not distinct."""
        names = [label_text(value) for value in self.classes_]
        distinct = None not in names and len(set(names)) == len(names)
        return [str(name) if distinct else str(place) for place, name in enumerate(names)]

    def _checked(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        return X, y

    def _checked_targets(self, y: Any) -> np.ndarray:
        y = column_or_1d(y, warn=True)
        assert_all_finite(y, input_name="y")
        check_classification_targets(y)
        return np.asarray(y)

    def _learn(self, y: np.ndarray) -> None:
        self.classes_ = np.unique(y)
        if len(self.classes_) == 1:
            raise DataError(
                f"y has one class only, {self.classes_.tolist()[0]!r}: there is nothing to tell apart.",
                "Add rows of another class.",
            )

    def _for_head(self, y: np.ndarray) -> tuple[np.ndarray, int | None]:
        return np.searchsorted(self.classes_, y), len(self.classes_)

    def _for_run(self, y: np.ndarray, kind: str) -> tuple[str, list[Any]]:
        names = self._names()
        return f"{kind}-classification", [names[at] for at in np.searchsorted(self.classes_, y)]
