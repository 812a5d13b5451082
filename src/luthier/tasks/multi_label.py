"""Any number of labels for each text: a column of lists or of joined names, or several columns of 0 and 1.

How these are read lives in `label_sets`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from scipy.special import expit

from luthier.errors import DataError
from luthier.tasks import classical
from luthier.tasks.base import Batch, Columns, Decisions, Modality, Task
from luthier.tasks.classification import as_table, mean_f1, ratio, ratios
from luthier.tasks.columns import Hints, check_hints, kind, text_and_target, text_input
from luthier.tasks.examples import TextExamples, encode_texts
from luthier.tasks.label_sets import find_delimiter, flag_columns, flags, named, read_as_labels
from luthier.tasks.labels import MISSING, UNSEEN, one_line, sort_labels, text_sizes, texts


class MultiLabelClassification(Task):
    """Any number of labels for each text.

    The metric is micro F1 at a probability of one half: it pools the counts of all labels, so that on a small
    validation split it moves smoothly, where macro F1 jumps with every hit on a label of three rows. Macro F1
    stands beside it.

    A row without labels is an empty list, or 0 in all columns; a missing cell is unknown, counts as nothing.
    Targets of a row are (labels,) float32: 1, 0, or -100 where a 0/1 column has a gap (neither loss nor error
    is counted). Each label of the row that training never saw adds a -1 at the end; it counts as missed.

    Label smoothing e moves each answer towards one half: 1 becomes 1 - e / 2, 0 becomes e / 2. Class weights
    multiply the loss of positive answers (torch's ``pos_weight``).

    Statistics of an example: counted, all right, loss, loss counted, unseen labels, then for each label true
    positives, predictions, truths.
    """

    name: ClassVar[str] = "multi-label-classification"
    modality: ClassVar[Modality] = "text"
    input_kind = "text"
    target_kind = "multi"
    pipeline_tag: ClassVar[str] = "text-classification"
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    peft_type: ClassVar[str | None] = "SEQ_CLS"
    problem_type: ClassVar[str | None] = "multi_label_classification"
    metric: ClassVar[str] = "micro_f1"

    @classmethod
    def claim(cls, frame: pd.DataFrame, modality: Modality, hints: Hints) -> Columns | None:
        """A column of text, and a target of lists or joined names, or two or more 0/1 columns."""
        if not check_hints(frame, hints) or modality != "text":
            return None
        if columns := flag_columns(frame, hints):
            text = text_input(frame, hints, set(columns))
            if text is None:
                return None
            shown = ", ".join(columns[:3]) + (", ..." if len(columns) > 3 else "")
            why = f"{text!r} holds the text; {len(columns)} columns of 0 and 1 ({shown}) are labels"
            return Columns({"input": text, "target": columns}, 0.75, why)
        found = text_and_target(frame, hints, ("list", "text"))
        if found is None:
            return None
        text, target = found
        confidence, how = read_as_labels(frame[target.name])
        if confidence is None:
            return None
        why = f"{text!r} holds the text; {target.why}; {how}"
        return Columns({"input": text, "target": target.name}, confidence, why)

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        target = columns.roles["target"]
        self._columns = [target] if isinstance(target, str) else list(target)
        self._labels: list[str] = []
        self._delimiter: str | None = None

    def fit(self, frame: pd.DataFrame) -> None:
        """Learns the label names: of the columns, or those in the rows, sorted.

        Raises:
            DataError: There is no label at all, or a 0/1 column holds something else.
        """
        if len(self._columns) > 1:
            self._labels = list(self._columns)
            flags(frame, self._columns)
        else:
            if kind(frame[self._columns[0]]) == "text":
                self._delimiter = find_delimiter(frame[self._columns[0]])
            rows = self._named(frame)
            self._labels = sort_labels(name for row in rows if row is not None for name in row)
        answers = self._matrix(self.targets(frame)) if self._labels else np.zeros((0, 0))
        if not (answers == 1).any():
            raise DataError(
                f"No row has a label in {', '.join(map(repr, self._columns))}: all are missing or empty.",
                "Name another target column.",
            )
        if not (answers == 0).any():
            raise DataError(
                "Every row has every label: there is nothing to tell apart.", "Name another target column."
            )

    def state(self) -> dict[str, Any]:
        """Columns, labels and the delimiter."""
        return {"roles": self.columns.roles, "labels": self._labels, "delimiter": self._delimiter}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """A fitted task."""
        task = cls(Columns(dict(state["roles"])))
        task._labels = [str(name) for name in state["labels"]]
        task._delimiter = state["delimiter"]
        return task

    @property
    def label_names(self) -> list[str]:
        """Names of the labels."""
        return list(self._labels)

    def strata(self, frame: pd.DataFrame) -> np.ndarray | None:
        """(n,) the rarest label that a row has, as a number; -1 for rows without one. Needs no fit."""
        if len(self._columns) > 1:
            rows = [
                [name for name, value in zip(self._columns, row, strict=True) if value == 1]
                for row in flags(frame, self._columns)
            ]
        else:
            rows = [row or [] for row in self._named(frame)]
        counts = pd.Series([name for row in rows for name in row], dtype=object).value_counts()
        order = {name: position for position, name in enumerate(counts.index)}
        return np.array([max((order[name] for name in row), default=-1) for row in rows], dtype=np.int64)

    def _named(self, frame: pd.DataFrame) -> list[list[str] | None]:
        """The distinct labels of each row, None where the cell is missing."""
        column = frame[self._columns[0]]
        delimiter = self._delimiter
        if delimiter is None and not self._labels and kind(column) == "text":
            delimiter = find_delimiter(column)
        return named(column, delimiter)

    def targets(self, frame: pd.DataFrame) -> list[np.ndarray]:
        """(labels,) float32 arrays, longer by a -1 for each label of the row that training never saw."""
        if not set(self._columns) <= set(frame.columns):
            return [np.full(self.num_outputs, MISSING, dtype=np.float32) for _ in range(len(frame))]
        if len(self._columns) > 1:
            return list(flags(frame, self._columns).astype(np.float32))
        index = {name: position for position, name in enumerate(self._labels)}
        found = []
        for row in self._named(frame):
            unseen = [name for name in row or [] if name not in index]
            answer = np.full(self.num_outputs + len(unseen), MISSING if row is None else 0, dtype=np.float32)
            answer[[index[name] for name in row or [] if name in index]] = 1
            answer[self.num_outputs :] = UNSEEN
            found.append(answer)
        return found

    def _matrix(self, targets: Sequence[np.ndarray]) -> np.ndarray:
        """(n, labels) without the marks of unseen labels."""
        rows = [np.asarray(target)[: self.num_outputs] for target in targets]
        return np.stack(rows) if rows else np.zeros((0, self.num_outputs), dtype=np.float32)

    def encode(
        self, frame: pd.DataFrame, processor: Any, *, max_length: int | None = None,
        image_size: int | None = None, root: str = ".",
    ) -> TextExamples:  # fmt: skip
        """Token ids of the texts."""
        answers = self._matrix(self.targets(frame))
        return encode_texts(texts(frame[self.input]), answers, processor, max_length)

    def loss(
        self, logits: torch.Tensor, targets: torch.Tensor, *, label_smoothing: float = 0.0,
        class_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """(batch,) mean binary cross-entropy over the labels that are known."""
        known = targets >= 0
        goal = torch.where(known, targets, torch.zeros_like(targets)).to(logits.dtype)
        goal = goal * (1 - label_smoothing) + label_smoothing / 2
        positive = torch.nn.functional.softplus(-logits)
        if class_weights is not None:
            positive = positive * class_weights.to(logits.dtype)
        losses = goal * positive + (1 - goal) * torch.nn.functional.softplus(logits)
        counted = torch.where(known, losses, torch.zeros_like(losses)).sum(-1)
        return counted / known.sum(-1).clamp(min=1).to(logits.dtype)

    def gradient(
        self, logits: torch.Tensor, targets: torch.Tensor, *, label_smoothing: float | torch.Tensor = 0.0,
        class_weights: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """In closed form."""
        known = targets >= 0
        yes = targets.clamp(min=0).to(logits.dtype) * (1 - label_smoothing) + label_smoothing / 2
        no = 1 - yes
        if class_weights is not None:
            yes = yes * class_weights.to(logits.dtype)
        share = known.to(logits.dtype) / known.sum(-1, keepdim=True).clamp(min=1)
        losses = yes * torch.nn.functional.softplus(-logits) + no * torch.nn.functional.softplus(logits)
        slope = no * torch.sigmoid(logits) - yes * torch.sigmoid(-logits)
        return (losses * share).sum(-1), slope * share

    def class_weights(self, targets: list[np.ndarray]) -> torch.Tensor | None:
        """(labels,) negatives / positives of each label; 1 where it has none of either."""
        answers = self._matrix(targets)
        yes, no = (answers == 1).sum(axis=0), (answers == 0).sum(axis=0)
        return torch.tensor(np.where((yes > 0) & (no > 0), no / np.maximum(yes, 1), 1.0), dtype=torch.float32)

    def outputs(self, logits: torch.Tensor, batch: Batch) -> list[np.ndarray]:
        """(labels,) log-odds of each example."""
        return list(logits.detach().cpu().numpy())

    def statistics(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
        """(n, 5 + 3 labels); see the class."""
        labels = self.num_outputs
        table = np.zeros((len(targets), 5 + 3 * labels))
        if not len(targets):
            return table
        answers = self._matrix(targets)
        known, said = answers >= 0, as_table(outputs) > 0
        counted = known.any(axis=1)
        unseen = np.array([len(target) - labels for target in targets])
        table[:, 0] = counted
        table[:, 1] = counted & (unseen == 0) & (~known | (said == (answers == 1))).all(axis=1)
        table[:, 2] = np.where(counted, self.example_losses(outputs, targets), 0.0)
        table[:, 3], table[:, 4] = counted, unseen
        table[:, 5 : 5 + labels] = known & said & (answers == 1)
        table[:, 5 + labels : 5 + 2 * labels] = known & said
        table[:, 5 + 2 * labels :] = answers == 1
        return table

    def score_statistics(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
        """(n, 2) labels that are right, and those said and true together, where the objective is micro F1."""
        table = self.statistics(outputs, targets)
        if self.metric != "micro_f1":
            return table
        hit, said, true = table[:, 5:].reshape(len(table), 3, self.num_outputs).sum(axis=2).T
        return np.stack([hit, said + true + table[:, 4]], axis=1)

    def scores(self, totals: np.ndarray) -> np.ndarray:
        """Micro F1."""
        return (
            ratios(2 * totals[..., 0], totals[..., 1])
            if self.metric == "micro_f1"
            else super().scores(totals)
        )

    def summarise(self, totals: np.ndarray) -> dict[str, float]:
        """``micro_f1``, ``macro_f1``, ``exact_match`` (share of rows with all labels right), ``loss``."""
        count, exact, loss, known, unseen = totals[:5]
        hit, said, true = totals[5:].reshape(3, -1)
        return {
            "micro_f1": ratio(2 * hit.sum(), said.sum() + true.sum() + unseen),
            "macro_f1": mean_f1(hit, said, true),
            "exact_match": ratio(exact, count),
            "loss": ratio(loss, known),
        }

    def decode(
        self, outputs: Sequence[np.ndarray], frame: pd.DataFrame | None = None
    ) -> list[dict[str, Any]]:
        """``label``, the list of labels above one half, and all ``probabilities`` by name."""
        decoded = []
        for output in outputs:
            shares = expit(np.asarray(output, dtype=np.float64))
            chosen = [name for name, value in zip(self._labels, output, strict=True) if value > 0]
            probabilities = {name: float(share) for name, share in zip(self._labels, shares, strict=True)}
            decoded.append({"label": chosen, "probabilities": probabilities})
        return decoded

    def confusion(
        self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]
    ) -> tuple[list[str], np.ndarray] | None:
        """None: labels do not exclude each other."""
        return None

    def example_losses(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
        """(n,) mean binary cross-entropy over known labels, NaN where none is known."""
        if not len(targets):
            return np.empty(0)
        answers, scores = self._matrix(targets), as_table(outputs).astype(np.float64)
        known = answers >= 0
        losses = np.where(known, np.logaddexp(0, np.where(answers == 1, -scores, scores)), 0.0)
        count = known.sum(axis=1)
        return np.where(count > 0, losses.sum(axis=1) / np.maximum(count, 1), np.nan)

    def decisions(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> Decisions | None:
        """Yes or no to each label that is known to be there or not."""
        answers, scores = self._matrix(targets), as_table(outputs).astype(np.float64)
        example, label = np.nonzero(answers >= 0)
        said = scores[example, label]
        return Decisions(expit(np.abs(said)), (said > 0) == (answers[example, label] == 1), example)

    def hits(
        self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]
    ) -> tuple[list[str], np.ndarray, np.ndarray] | None:
        """By label."""
        right, _, true = np.split(self.statistics(outputs, targets)[:, 5:], 3, axis=1)
        return self.label_names, right, true

    def measure(self, frame: pd.DataFrame, root: str = ".") -> tuple[str, np.ndarray] | None:
        """Words, or characters."""
        return text_sizes(texts(frame[self.input]))

    def vote(self, targets: Sequence[np.ndarray], near: np.ndarray) -> list[np.ndarray] | None:
        """Log-odds of each label among the neighbours that know it, with the training frequencies counted as
        one neighbour more."""
        answers = self._matrix(targets)
        yes, no = (answers == 1).sum(axis=0) + 0.5, (answers == 0).sum(axis=0) + 0.5
        share = yes / (yes + no)
        for_it, against = (
            (answers[near] == 1).sum(axis=1) + share,
            (answers[near] == 0).sum(axis=1) + 1 - share,
        )
        return list(np.log(for_it / against).astype(np.float32))

    def show(self, frame: pd.DataFrame) -> list[str]:
        """The texts."""
        return [one_line(text) for text in texts(frame[self.input])]

    def majority(self, train: Sequence[np.ndarray], like: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The log-odds of each label in ``train``, for every row: says labels that most rows have."""
        answers = self._matrix(train)
        yes, no = (answers == 1).sum(axis=0) + 0.5, (answers == 0).sum(axis=0) + 0.5
        odds = np.log(yes / no).astype(np.float32)
        return [odds.copy() for _ in like]

    def classical(
        self, train: pd.DataFrame, test: pd.DataFrame, *, seed: int, root: str = "."
    ) -> tuple[str, list[np.ndarray]] | None:
        """TF-IDF and one logistic regression a label."""
        answers = self._matrix(self.targets(train))
        outputs = classical.text_labels(texts(train[self.input]), answers, texts(test[self.input]), seed=seed)
        return None if outputs is None else ("TF-IDF + logistic regression", outputs)
