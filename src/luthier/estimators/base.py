"""What both estimators share: parameters, telling features from texts and images, and the two ways to fit."""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from luthier.errors import DataError, SettingError
from luthier.estimators.inputs import GROUP, TARGET, Inputs, read
from luthier.estimators.linear import LinearHead, distinct, train
from luthier.estimators.runs import RunModel
from luthier.estimators.space import narrowed
from luthier.estimators.weights import repeated
from luthier.run.result import Result

SHARED = (
    "budget", "trials", "repeats", "strategy", "validation", "test", "device", "threads", "stack"
)  # fmt: skip
"""Parameters that are settings of a run by the same name."""


class FineTuned(BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn has no types
    """Parameters of both estimators; each says what its targets are.

    Texts and images are fine-tuned on by a whole run of `luthier.tune`; for arrays of features a linear head
    is trained, of which ``l2`` and ``random_state`` alone are parameters.

    Args:
        model: Pre-trained models, as in `luthier.tune`; None: the packaged MiniLM for texts.
        budget: Wall-clock time of a fit, such as ``"15m"``, or seconds.
        trials: Stop after this many trials, or when the budget ends.
        repeats: Seeds that each finalist is trained on in all; None: as many as there is time for.
        strategy: Search strategy by name.
        adaptation: What may be trained, of the default space: ``"probe"``, ``"last_k"``, ``"lora"``,
            ``"full"``, or several; None: all of them.
        space: What is varied: a YAML file, or the same as a dict, such as ``{"adaptation": "lora"}``; None:
            the default space.
        validation: Share of the rows set aside to choose by; None: by their number.
        test: Share of the rows set aside for the proof of the run in ``result_``. Few by default: with
            scikit-learn one judges on rows of one's own.
        l2: Penalty of a head on features, for standardised features and the mean loss; None: chosen on rows
            held out.
        random_state: An int, a RandomState, or None for another seed each time.
        device: Where it trains and predicts: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        threads: CPU threads; None: as they are.
        stack: Trials trained as one network at most; None: as many as pay and fit.
        folder: Folder in which each fit leaves a run folder; None: a temporary one, gone with the estimator.
        verbose: Whether a run prints what it does.
    """

    def __init__(
        self, *, model: str | list[str] | None = None, budget: str | float = "15m", trials: int | None = None,
        repeats: int | None = None, strategy: str = "auto", adaptation: str | list[str] | None = None,
        space: str | dict[str, Any] | None = None, validation: float | None = None, test: float = 0.05,
        l2: float | None = None, random_state: Any = None, device: str = "auto", threads: int | None = None,
        stack: int | None = None, folder: str | Path | None = None, verbose: bool = False,
    ) -> None:  # fmt: skip
        self.model = model
        self.budget = budget
        self.trials = trials
        self.repeats = repeats
        self.strategy = strategy
        self.adaptation = adaptation
        self.space = space
        self.validation = validation
        self.test = test
        self.l2 = l2
        self.random_state = random_state
        self.device = device
        self.threads = threads
        self.stack = stack
        self.folder = folder
        self.verbose = verbose

    @property
    def result_(self) -> Result | None:
        """The run: trials, report, evaluation. None where none was made (features), and after unpickling."""
        check_is_fitted(self)
        return self.model_.result if isinstance(self.model_, RunModel) else None

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Learns from rows.

        Args:
            X: n texts, image files or pillow images; or (n, features) numbers.
            y: (n,) targets.
            sample_weight: (n,) at least zero, or None. Heads on features keep to it exactly; a run is given
                rows as often as their weights say, which is exact for whole numbers.
            groups: (n,) keys: rows of equal ones are held out together. None: equal rows are.

        Raises:
            LuthierError: Something that a user can mend; those about values are also ValueErrors.
        """
        inputs = read(X)
        if inputs is None:
            X, y = self._checked(X, y)
        else:
            if y is None:
                raise DataError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
            self._forget_features()
            y = self._checked_targets(y)
        check_consistent_length(X if inputs is None else inputs.cells, y, groups)
        weights = _check_sample_weight(
            sample_weight, X if inputs is None else y, dtype=np.float64, ensure_non_negative=True
        )
        if not weights.any():
            raise DataError("All sample weights are zero.", "Give at least one row some weight.")
        keys = None if groups is None else np.asarray(groups)
        if inputs is None:
            self._fit_head(X, y, weights, keys)
        else:
            self._fit_run(inputs, y, weights, keys)
        return self

    # -- what each estimator says ----------------------------------------------------------------------------

    @abstractmethod
    def _checked(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Features as float64, and targets."""

    @abstractmethod
    def _checked_targets(self, y: Any) -> np.ndarray:
        """(n,) targets beside texts or images."""

    @abstractmethod
    def _learn(self, y: np.ndarray) -> None:
        """Learns what targets there are, from those that count."""

    @abstractmethod
    def _for_head(self, y: np.ndarray) -> tuple[np.ndarray, int | None]:
        """(n,) class indices and the number of classes, or values and None."""

    @abstractmethod
    def _for_run(self, y: np.ndarray, kind: str) -> tuple[str, list[Any]]:
        """Name of the run's task, and targets as its table holds them."""

    # -- the two ways ----------------------------------------------------------------------------------------

    def _fit_head(self, X: np.ndarray, y: np.ndarray, weights: np.ndarray, groups: np.ndarray | None) -> None:
        l2: Any = self.l2
        number = isinstance(l2, numbers.Real) and not isinstance(l2, bool)
        if l2 is not None and not (number and 0 < l2 < np.inf):
            raise SettingError(f"l2 cannot be {l2!r}.", "Give a number above 0, or None to have it chosen.")
        counted = weights > 0
        self._learn(y[counted])
        targets, classes = self._for_head(y[counted])
        keys = None if groups is None else groups[counted]
        rows = distinct(X[counted], targets, weights[counted], keys)
        self.model_: LinearHead | RunModel = train(rows, classes=classes, l2=l2, seed=self._seed())

    def _fit_run(self, inputs: Inputs, y: np.ndarray, weights: np.ndarray, groups: np.ndarray | None) -> None:
        seed = self._seed()
        rows = repeated(weights, seed)
        if groups is None and inputs.kind == "image" and len(np.unique(rows)) < len(rows):
            # A run keeps equal texts on one side of its splits by itself; of images it knows the names only.
            groups = np.arange(len(y))
        self._learn(y[rows])
        task, targets = self._for_run(y[rows], inputs.kind)
        data = inputs.take(rows).dataset(targets, None if groups is None else groups[rows])
        settings: dict[str, Any] = {name: getattr(self, name) for name in SHARED} | {
            "task": task,
            "columns": {"input": inputs.kind, "target": TARGET},
            "group": None if groups is None else GROUP,
            "model": [] if self.model is None else self.model,
            "space": self._space(inputs, task),
            "seed": seed,
            # The probe is what a run ends with that has no time for more; judging is left to scikit-learn.
            "baselines": ["probe"],
            "keep": 1,
        }
        self.model_ = RunModel.trained(settings, data, self.folder, bool(self.verbose))
        self.n_features_in_ = 1

    def _space(self, inputs: Inputs, task: str) -> str | dict[str, Any] | None:
        """What is varied, as a run takes it."""
        if self.adaptation is None:
            return self.space
        if self.space is not None:
            raise SettingError(
                "adaptation and space are both given.",
                "Name the adaptation in the space alone.",
            )
        return narrowed(
            self.model, self.adaptation, inputs.kind, num_examples=len(inputs),
            classification=task.endswith("classification"),
        )  # fmt: skip

    def _forget_features(self) -> None:
        """An earlier fit may have been on a table of features."""
        if hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer) and 0 <= self.random_state < 2**31:
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    # -- predicting ------------------------------------------------------------------------------------------

    def _inputs(self, X: Any) -> list[Any] | np.ndarray:
        """X as the fitted model takes it: cells, or features.

        Raises:
            NotFittedError: Nothing was fitted.
            DataError: The model learnt from texts or images, and X is none.
        """
        check_is_fitted(self)
        if isinstance(self.model_, LinearHead):
            return np.asarray(validate_data(self, X, dtype=np.float64, reset=False))
        found = read(X)
        kind = self.model_.predictor.task.modality
        if found is None or found.kind != kind:
            given = "features" if found is None else f"{found.kind}s"
            raise DataError(f"This model reads {kind}s, and X holds {given}.", "Give what it was fitted on.")
        return found.cells
