"""A number for each text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch

from luthier.errors import DataError
from luthier.tasks import classical
from luthier.tasks.base import Batch, Columns, Modality, Task
from luthier.tasks.carried import Carried
from luthier.tasks.classification import as_table, ratio, ratios
from luthier.tasks.columns import FEW, Hints, check_hints, count_distinct, kind, text_and_target
from luthier.tasks.examples import TextExamples, encode_texts
from luthier.tasks.labels import numbers, one_line, text_sizes, texts

_BINS = 10  # Strata of a split: deciles of the target.


class TextRegression(Task):
    """A number for each text.

    The network learns the target less the training mean, divided by the training standard deviation; outputs
    and targets are in that scale. `decode` and the metrics ``rmse`` and ``mae`` are in the column's own
    units, ``loss`` is the mean squared error in the learnt scale. The mean and the
    deviation are in `state` and in `scale`, for whoever runs the saved model without this class.

    Label smoothing and class weights mean nothing here and are ignored. Rows without a value count as
    nothing.

    Statistics of an example, in the learnt scale: counted, target, its square, output, its square, their
    product, absolute error, squared error.
    """

    name: ClassVar[str] = "text-regression"
    modality: ClassVar[Modality] = "text"
    input_kind = "text"
    target_kind = "number"
    pipeline_tag: ClassVar[str] = "text-classification"
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    peft_type: ClassVar[str | None] = "SEQ_CLS"
    problem_type: ClassVar[str | None] = "regression"
    metric: ClassVar[str] = "rmse"
    maximize: ClassVar[bool] = False

    @classmethod
    def claim(cls, frame: pd.DataFrame, modality: Modality, hints: Hints) -> Columns | None:
        """A column of text, and a target of numbers that are more than a few."""
        if not check_hints(frame, hints) or modality != "text" or isinstance(hints.get("target"), list):
            return None
        found = text_and_target(frame, hints, ("float",))
        if found is None or (what := kind(frame[found[1].name])) not in ("float", "integer"):
            return None
        text, target = found
        distinct, _ = count_distinct(frame[target.name])
        if what == "float":
            confidence, how = 0.8, "numbers with fractions: a quantity"
        elif distinct > FEW:
            confidence, how = 0.6, f"{distinct} distinct whole numbers: a quantity"
        else:
            confidence, how = 0.3, f"{distinct} distinct whole numbers: classes as likely as a scale"
        return Columns(
            {"input": text, "target": target.name},
            confidence,
            f"{text!r} holds the text; {target.why}; {how}",
        )

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self._mean = 0.0
        self._std = 1.0

    @property
    def scale(self) -> tuple[float, float]:
        """Mean and standard deviation: a value is mean + deviation * output."""
        return self._mean, self._std

    def fit(self, frame: pd.DataFrame) -> None:
        """Learns the scale.

        Raises:
            DataError: A value is not a number, or there are fewer than two distinct ones.
        """
        values = numbers(frame, self.target)
        values = values[np.isfinite(values)]
        if not len(values):
            raise DataError(
                f"All {len(frame)} values in column {self.target!r} are missing.",
                "Name another target column.",
            )
        if values.min() == values.max():
            raise DataError(
                f"Column {self.target!r} has one value only, {values[0]:g}: there is nothing to learn.",
                "Name another target column.",
            )
        self._mean, self._std = float(values.mean()), float(values.std())

    def state(self) -> dict[str, Any]:
        """Columns and scale."""
        return {"roles": self.columns.roles, "mean": self._mean, "std": self._std}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """A fitted task."""
        task = cls(Columns(dict(state["roles"])))
        task._mean, task._std = float(state["mean"]), float(state["std"])
        return task

    def carried(self, old: Task) -> Carried:
        """Between two scales: what stands for a value in the old one, and for the same in this."""
        assert isinstance(old, TextRegression)
        mean, deviation = self.scale
        return Carried((0,), old.scale[1] / deviation, (old.scale[0] - mean) / deviation)

    @property
    def reading(self) -> str:
        """The learnt scale undone."""
        mean, deviation = self.scale
        return f"value = {mean!r} + {deviation!r} * logits"

    @property
    def label_names(self) -> list[str]:
        """``["value"]``."""
        return ["value"]

    def strata(self, frame: pd.DataFrame) -> np.ndarray | None:
        """(n,) the decile of each value, -1 where missing; needs no fit."""
        values = numbers(frame, self.target)
        known = np.isfinite(values)
        bins = np.full(len(values), -1, dtype=np.int64)
        if known.any():
            edges = np.unique(np.quantile(values[known], np.linspace(0, 1, _BINS + 1)[1:-1]))
            bins[known] = np.searchsorted(edges, values[known], side="right")
        return bins

    def _values(self, frame: pd.DataFrame) -> np.ndarray:
        """(n,) float32 in the learnt scale, NaN where missing."""
        if self.target not in frame.columns:
            return np.full(len(frame), np.nan, dtype=np.float32)
        return ((numbers(frame, self.target) - self._mean) / self._std).astype(np.float32)

    def targets(self, frame: pd.DataFrame) -> list[np.ndarray]:
        """0-d float32 arrays in the learnt scale, NaN where missing."""
        return [np.asarray(value) for value in self._values(frame)]

    def encode(
        self, frame: pd.DataFrame, processor: Any, *, max_length: int | None = None,
        image_size: int | None = None, root: str = ".",
    ) -> TextExamples:  # fmt: skip
        """Token ids of the texts."""
        return encode_texts(texts(frame[self.input]), self._values(frame), processor, max_length)

    def loss(
        self, logits: torch.Tensor, targets: torch.Tensor, *, label_smoothing: float = 0.0,
        class_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """(batch,) squared error in the learnt scale, zero where the target is NaN."""
        known = ~torch.isnan(targets)
        goal = torch.where(known, targets, torch.zeros_like(targets)).to(logits.dtype)
        errors = (logits.squeeze(-1) - goal) ** 2
        return torch.where(known, errors, torch.zeros_like(errors))

    def gradient(
        self, logits: torch.Tensor, targets: torch.Tensor, *, label_smoothing: float | torch.Tensor = 0.0,
        class_weights: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """In closed form."""
        goal = targets.to(logits.dtype)
        errors = logits.squeeze(-1) - goal
        errors = torch.where(torch.isnan(goal), torch.zeros_like(errors), errors)
        return errors**2, 2 * errors.unsqueeze(-1)

    def class_weights(self, targets: list[np.ndarray]) -> torch.Tensor | None:
        """None."""
        return None

    def outputs(self, logits: torch.Tensor, batch: Batch) -> list[np.ndarray]:
        """(1,) value of each example, in the learnt scale."""
        return list(logits.detach().cpu().numpy())

    def statistics(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
        """(n, 8); see the class."""
        if not len(targets):
            return np.zeros((0, 8))
        true = np.asarray(targets, dtype=np.float64)
        said = as_table(outputs).astype(np.float64)[:, 0]
        error = said - true
        table = np.stack(
            [np.ones_like(true), true, true**2, said, said**2, said * true, np.abs(error), error**2], axis=1
        )
        return np.where(np.isnan(true)[:, None], 0.0, table)

    def score_statistics(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
        """(n, 2) counted, and the squared error, where the objective is the root of its mean."""
        table = self.statistics(outputs, targets)
        return table[:, [0, 7]] if self.metric == "rmse" else table

    def scores(self, totals: np.ndarray) -> np.ndarray:
        """Negative root mean squared errors."""
        if self.metric != "rmse":
            return super().scores(totals)
        return np.asarray(-self._std * np.sqrt(ratios(totals[..., 1], totals[..., 0])))

    def summarise(self, totals: np.ndarray) -> dict[str, float]:
        """``rmse`` and ``mae`` in the column's units, ``r2``, ``pearson``; ``loss`` in the learnt scale."""
        count, true, true2, said, said2, product, absolute, squared = (float(value) for value in totals)
        if not count:
            return dict.fromkeys(("rmse", "mae", "r2", "pearson", "loss"), float("nan"))
        # Products, since a power of Python's floats raises where it overflows: outputs may have diverged.
        spread_true, spread_said = true2 - true * true / count, said2 - said * said / count
        # Rounding leaves a little of what is zero: a constant has no correlation.
        flat = min(spread_true, spread_said) <= 1e-10 * max(true2, said2)
        pearson = (
            float("nan") if flat else (product - true * said / count) / np.sqrt(spread_true * spread_said)
        )
        return {
            "rmse": self._std * float(np.sqrt(squared / count)),
            "mae": self._std * absolute / count,
            "r2": ratio(spread_true - squared, spread_true) if spread_true > 1e-10 * true2 else float("nan"),
            "pearson": float(np.clip(pearson, -1, 1)),
            "loss": squared / count,
        }

    def decode(
        self, outputs: Sequence[np.ndarray], frame: pd.DataFrame | None = None
    ) -> list[dict[str, Any]]:
        """``value`` in the column's units."""
        return [{"value": self._mean + self._std * float(output[0])} for output in outputs]

    def confusion(
        self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]
    ) -> tuple[list[str], np.ndarray] | None:
        """None."""
        return None

    def example_losses(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
        """(n,) squared errors in the learnt scale, NaN where the value is missing."""
        if not len(targets):
            return np.empty(0)
        errors = as_table(outputs).astype(np.float64)[:, 0] - np.asarray(targets, dtype=np.float64)
        return np.asarray(errors**2)

    def measure(self, frame: pd.DataFrame, root: str = ".") -> tuple[str, np.ndarray] | None:
        """Words, or characters."""
        return text_sizes(texts(frame[self.input]))

    def vote(self, targets: Sequence[np.ndarray], near: np.ndarray) -> list[np.ndarray] | None:
        """The mean of the neighbours' values, of those that have one."""
        values = np.asarray(targets, dtype=np.float64)
        known = np.isfinite(values)
        if not known.any():
            return None
        count = known[near].sum(axis=1)
        sums = np.where(known, values, 0.0)[near].sum(axis=1)
        mean = np.where(count > 0, sums / np.maximum(count, 1), values[known].mean())
        return list(mean.astype(np.float32)[:, None])

    def show(self, frame: pd.DataFrame) -> list[str]:
        """The texts."""
        return [one_line(text) for text in texts(frame[self.input])]

    def majority(self, train: Sequence[np.ndarray], like: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The training mean, for every row."""
        values = np.asarray(train, dtype=np.float64)
        mean = float(np.nanmean(values)) if np.isfinite(values).any() else 0.0
        return [np.array([mean], dtype=np.float32) for _ in like]

    def classical(
        self, train: pd.DataFrame, test: pd.DataFrame, *, seed: int, root: str = "."
    ) -> tuple[str, list[np.ndarray]] | None:
        """TF-IDF and ridge regression."""
        predicted = classical.text_values(
            texts(train[self.input]),
            self._values(train).astype(np.float64),
            texts(test[self.input]),
            seed=seed,
        )
        return None if predicted is None else ("TF-IDF + ridge", list(predicted.astype(np.float32)[:, None]))
