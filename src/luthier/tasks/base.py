"""The `Task` contract: all that is particular to one kind of problem. Nobody else asks which it is.

What tasks take and hand out lives in `exchange`, and is found here too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch

from luthier.tasks.blend import mean, mean_of_words
from luthier.tasks.carried import Carried, by_name
from luthier.tasks.exchange import Batch, Columns, Decisions, Examples, Modality
from luthier.tasks.soft import SoftTargets

__all__ = ["Batch", "Columns", "Decisions", "Examples", "Modality", "Task"]


class Task(SoftTargets, ABC):
    """One kind of problem: columns, preprocessing, head, loss, metrics, decoding.

    A task object is fitted to one dataset's labels by `fit`, and is restored from `state` by `from_state`.
    *Outputs* below are what a trained network says of a split: a list with one float array for each example,
    (outputs,) for tasks with one answer an example, (words, outputs) for tagging.
    *Targets* are a list of the same length with the true answers as the
    task encodes them.
    """

    name: ClassVar[str]
    modality: ClassVar[Modality]
    input_kind: ClassVar[Literal["text", "tokens", "image"]]
    """What a cell of the input column is: a text, a list of words, an image."""
    target_kind: ClassVar[Literal["class", "multi", "tags", "number"]]
    """What a row's answer is: one class, any number of labels, a tag for each word, a number."""
    auto_class: ClassVar[str]
    """Name of the transformers Auto class that loads a finished model."""
    peft_type: ClassVar[str | None] = None
    """PEFT's task type, where it has one."""
    level: ClassVar[Literal["example", "token"]] = "example"
    """Whether the head answers once an example or once a token."""
    problem_type: ClassVar[str | None] = None
    """transformers' ``config.problem_type`` for a finished model, where it has one."""
    pipeline_tag: ClassVar[str]
    """The hub's name for this kind of model."""
    metric: ClassVar[str]
    """Name of the metric that is optimised."""
    maximize: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "loss" in vars(cls) and "gradient" not in vars(cls):
            # A closed form inherited from elsewhere would be that of another loss.
            cls.gradient = Task.gradient  # type: ignore[method-assign]

    # -- columns and labels ----------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def claim(
        cls, frame: pd.DataFrame, modality: Modality, hints: dict[str, str | list[str]]
    ) -> Columns | None:
        """Says whether this task fits a table, and with which columns.

        Args:
            frame: The training rows (all rows when nothing is split yet).
            modality: ``image`` where the reader found image files, otherwise ``text``.
            hints: Roles the user fixed, e.g. ``{"target": "label"}``.

        Returns:
            The mapping, or None when the table cannot be this task.
        """

    @abstractmethod
    def __init__(self, columns: Columns) -> None:
        """An unfitted task over these columns."""

    columns: Columns

    @abstractmethod
    def fit(self, frame: pd.DataFrame) -> None:
        """Learns label names (or scale). DataError where nothing can be learnt, e.g. one class."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Columns and labels as JSON values."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: dict[str, Any]) -> Task:
        """A fitted task from `state`."""

    @property
    def input(self) -> str:
        """The input column."""
        return str(self.columns.roles["input"])

    @property
    def target(self) -> str:
        """The target column, of tasks that have one."""
        return str(self.columns.roles["target"])

    @property
    def num_outputs(self) -> int:
        """Outputs of the head."""
        return len(self.label_names)

    @property
    @abstractmethod
    def label_names(self) -> list[str]:
        """Names of the outputs, in order (``["value"]`` for a regression)."""

    def carried(self, old: Task) -> Carried:
        """How the outputs of one that was fitted earlier, to other rows, become this one's."""
        return by_name(self.label_names, old.label_names)

    @property
    def reading(self) -> str:
        """How a saved model's raw logits become answers, where they are no classes; one line, or none."""
        return ""

    @abstractmethod
    def strata(self, frame: pd.DataFrame) -> np.ndarray | None:
        """(n,) keys to stratify a split by, or None where that means nothing."""

    # -- from rows to tensors --------------------------------------------------------------------------------

    @abstractmethod
    def encode(
        self,
        frame: pd.DataFrame,
        processor: Any,
        *,
        max_length: int | None = None,
        image_size: int | None = None,
        root: str = ".",
    ) -> Examples:
        """Encodes rows for a model.

        Args:
            frame: Rows; without a target column the examples carry targets that say nothing (zeros or -100).
            processor: A `luthier.models.processor` object for the task's modality.
            max_length: Tokens kept, or None for the model's limit.
            image_size: Side in pixels, or None for the model's own.
            root: Folder that relative file names in the frame are resolved against.
        """

    @abstractmethod
    def targets(self, frame: pd.DataFrame) -> list[np.ndarray]:
        """The true answers of the rows, encoded; labels that training never saw are -1."""

    # -- learning --------------------------------------------------------------------------------------------

    @abstractmethod
    def loss(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        *,
        label_smoothing: float = 0.0,
        class_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Loss of each example.

        Args:
            logits: (batch, outputs) or (batch, length, outputs).
            targets: As in `Batch`.
            label_smoothing: In [0, 1).
            class_weights: (outputs,) or None.

        Returns:
            (batch,) losses, for tagging the mean over an example's counted words.
        """

    def gradient(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        *,
        label_smoothing: float | torch.Tensor = 0.0,
        class_weights: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss of each example, and what its logits change it by, for one trial or a stack of trials.

        This one goes through `loss` and autograd, a trial at a time. A task whose derivative has a closed
        form does well to give it here for all trials at once: heads on cached features are trained by it.

        Args:
            logits: As in `loss`, with an axis for trials before it or without.
            targets: As in `loss`, with the same axes before.
            label_smoothing: In [0, 1); in a stack also a tensor (trials, 1, 1), with one axis more at token
                level.
            class_weights: (outputs,) or None; in a stack also (trials, 1, outputs), as above.

        Returns:
            Losses, (batch,) or (trials, batch), and the derivative of their sum, shaped like ``logits``.
            Neither has a graph.
        """
        if logits.ndim > (3 if self.level == "token" else 2):
            parts = [
                self.gradient(
                    logits[trial],
                    targets[trial],
                    label_smoothing=_of_trial(label_smoothing, trial),
                    class_weights=_of_trial(class_weights, trial),
                )
                for trial in range(len(logits))
            ]
            losses, slopes = zip(*parts, strict=True)
            return torch.stack(losses), torch.stack(slopes)
        logits = logits.detach().requires_grad_()
        with torch.enable_grad():
            found = self.loss(
                logits,
                targets,
                label_smoothing=float(label_smoothing),
                class_weights=None if class_weights is None else class_weights.flatten(),
            )
            (slope,) = torch.autograd.grad(found.sum(), logits)
        return found.detach(), slope

    @abstractmethod
    def class_weights(self, targets: list[np.ndarray]) -> torch.Tensor | None:
        """(outputs,) weights n / (classes * count) from training targets; None where classes mean nothing."""

    @abstractmethod
    def outputs(self, logits: torch.Tensor, batch: Batch) -> list[np.ndarray]:
        """Cuts a batch's logits into one array for each example, of their own floating type."""

    # -- joining ---------------------------------------------------------------------------------------------

    def blend(self, parts: Sequence[Sequence[np.ndarray]], weights: Sequence[float]) -> list[np.ndarray]:
        """Outputs that say what several networks say on the whole: the weighted mean of their probabilities,
        as logits again, or of their numbers.

        Args:
            parts: Each network's outputs on the same n examples. Where they cut texts at different lengths, a
                word's mean is over those that read it.
            weights: One a network, at least 0, not all of them 0.

        Returns:
            n float64 arrays.
        """
        shares = np.asarray(weights, dtype=np.float64)
        if self.level == "example":
            table = [np.stack([np.asarray(output, dtype=np.float64) for output in part]) for part in parts]
            return list(mean(table, shares, self.target_kind)) if len(table[0]) else []
        return [mean_of_words(outputs, shares, self.target_kind) for outputs in zip(*parts, strict=True)]

    # -- judging ---------------------------------------------------------------------------------------------

    @abstractmethod
    def statistics(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
        """(n, k) per-example sufficient statistics: sums of rows are all that `summarise` needs.

        This is what makes a bootstrap over thousands of resamples one matrix product.
        """

    @abstractmethod
    def summarise(self, totals: np.ndarray) -> dict[str, float]:
        """Metrics by name, `metric` first, from summed statistics (k,). What cannot be formed is NaN."""

    def metrics(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> dict[str, float]:
        """All metrics of a split."""
        return self.summarise(self.statistics(outputs, targets).sum(axis=0))

    def score(self, metrics: dict[str, float]) -> float:
        """The objective, higher is better."""
        value = metrics[self.metric]
        return value if self.maximize else -value

    def score_statistics(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
        """(n, j) per-example statistics that `scores` needs: what a bootstrap over many trials is fed with.

        These are all of `statistics`; a task that needs few of them for its objective does well to say so.
        """
        return self.statistics(outputs, targets)

    def scores(self, totals: np.ndarray) -> np.ndarray:
        """The objective, higher is better, from many summed `score_statistics` at once; (..., j) to (...)."""
        rows = totals.reshape(-1, totals.shape[-1])
        found = np.array([self.score(self.summarise(row)) for row in rows], dtype=np.float64)
        return found.reshape(totals.shape[:-1])

    @abstractmethod
    def decode(
        self, outputs: Sequence[np.ndarray], frame: pd.DataFrame | None = None
    ) -> list[dict[str, Any]]:
        """Predictions for people and files: plain JSON values, ``label`` or ``value`` or ``entities`` first.

        Args:
            outputs: Of some rows.
            frame: These rows, for predictions that quote their input, such as an entity's text.
        """

    @abstractmethod
    def confusion(
        self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]
    ) -> tuple[list[str], np.ndarray] | None:
        """Row labels and (true, predicted) counts, or None where a confusion matrix means nothing."""

    @abstractmethod
    def example_losses(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
        """(n,) loss of each example, to sort the worst errors by; NaN for unseen labels."""

    def decisions(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> Decisions | None:
        """What calibration is judged by: each answer whose truth is known, with its probability.

        An answer that training never saw makes the decision wrong. None, as here, where answers carry no
        probability.
        """
        return None

    def hits(
        self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]
    ) -> tuple[list[str], np.ndarray, np.ndarray] | None:
        """Names of the classes, and how often each was found and is there: (n, classes) twice; their sums
        give the recall of each class. None, as here, where there are no classes.
        """
        return None

    def measure(self, frame: pd.DataFrame, root: str = ".") -> tuple[str, np.ndarray] | None:
        """How much there is to an input, to judge short ones and long ones apart.

        Args:
            frame: Rows.
            root: Folder that relative file names in the frame are resolved against.

        Returns:
            The unit in the plural, such as ``words``, and (n,) numbers; None, as here, where nothing is to be
            measured.
        """
        return None

    def vote(self, targets: Sequence[np.ndarray], near: np.ndarray) -> list[np.ndarray] | None:
        """Outputs that say of each example what its neighbours' true answers say on the whole.

        Args:
            targets: Of the training examples.
            near: (m, k) positions among them.

        Returns:
            m arrays; None, as here, where an example has no one answer.
        """
        return None

    @abstractmethod
    def show(self, frame: pd.DataFrame) -> list[str]:
        """One line a row that shows its input to a person: the text, the words, or the image's file name."""

    # -- what must be beaten ---------------------------------------------------------------------------------

    @abstractmethod
    def majority(self, train: Sequence[np.ndarray], like: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs, shaped for the rows ``like``, that always say what ``train`` says most (or its mean)."""

    @abstractmethod
    def classical(
        self, train: pd.DataFrame, test: pd.DataFrame, *, seed: int, root: str = "."
    ) -> tuple[str, list[np.ndarray]] | None:
        """A baseline without a pre-trained model: its name and its outputs on ``test``; or None."""


def _of_trial(value: Any, trial: int) -> Any:
    """A stack's setting as one trial has it: itself where all share it."""
    stacked = isinstance(value, torch.Tensor) and value.ndim > 1
    return value[trial if len(value) > 1 else 0] if stacked else value
