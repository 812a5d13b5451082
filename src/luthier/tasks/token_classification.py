"""Named entities: a BIO tag for each word, judged by whole entities as seqeval counts them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from scipy.special import log_softmax, softmax
from seqeval.metrics.sequence_labeling import get_entities

from luthier.errors import DataError
from luthier.tasks.base import Batch, Columns, Decisions, Modality, Task
from luthier.tasks.classification import balanced_weights, cross_entropy, log_prior, ratio, ratios
from luthier.tasks.columns import Hints, check_hints, kind, one, usable
from luthier.tasks.examples import TokenExamples, encode_words
from luthier.tasks.labels import MISSING, UNSEEN, is_list, is_missing, row_numbers, word_lists

OUTSIDE = "O"
# A type that no file can name, for words whose tag training never saw.
_UNKNOWN = "\0"

_WORD_NAMES = ("tokens", "words", "text")
_TAG_NAMES = ("tags", "ner_tags", "labels", "ner", "entities")


class TokenClassification(Task):
    """A BIO tag for each word.

    Words that the model's maximum length cuts away get no output: they count as ``O``. A tag that training
    never saw is -1: it has no loss, and neighbouring words with such tags make an entity that is missed. Rows
    without tags count as nothing.

    Statistics of an example: loss, loss counted, then for each entity type true positives, predictions,
    truths; the last type stands for all that training never saw.
    """

    name: ClassVar[str] = "token-classification"
    modality: ClassVar[Modality] = "text"
    input_kind = "tokens"
    target_kind = "tags"
    pipeline_tag: ClassVar[str] = "token-classification"
    auto_class: ClassVar[str] = "AutoModelForTokenClassification"
    peft_type: ClassVar[str | None] = "TOKEN_CLS"
    level = "token"
    metric: ClassVar[str] = "f1"

    @classmethod
    def claim(cls, frame: pd.DataFrame, modality: Modality, hints: Hints) -> Columns | None:
        """Two columns of lists, as long as one another: words and tags."""
        if not check_hints(frame, hints) or modality != "text" or isinstance(hints.get("target"), list):
            return None
        lists = [name for name in usable(frame) if kind(frame[name]) == "list"]
        words = one(hints, "input") or _named(lists, _WORD_NAMES)
        tags = one(hints, "target") or _named(lists, _TAG_NAMES)
        if words is None and tags in lists and len(lists) == 2:
            words = next(name for name in lists if name != tags)
        if words is None or tags is None or words == tags or kind(frame[words]) != "list":
            return None
        if kind(frame[tags]) not in ("list", "empty"):
            return None
        why = f"{words!r} holds lists of words and {tags!r} a tag for each"
        return Columns({"input": words, "target": tags}, 0.95, why)

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self._set_labels([])

    def _set_labels(self, labels: list[str]) -> None:
        self._labels = labels
        self._index = {name: index for index, name in enumerate(labels)}
        self._types = [*sorted({label[2:] for label in labels if label != OUTSIDE}), _UNKNOWN]
        self._outside = self._index.get(OUTSIDE, 0)

    def fit(self, frame: pd.DataFrame) -> None:
        """Learns the tags, sorted; ``O`` and both ``B-`` and ``I-`` of every type are always among them.

        Raises:
            DataError: No row has tags, none has an entity, or a tag is not ``O`` or of the form ``B-type``.
        """
        tags: set[str] = set()
        for row, row_tags in zip(row_numbers(frame), self._tags(frame), strict=True):
            for tag in set(row_tags or ()) - tags:
                if tag != OUTSIDE and not re.match(r"[BIES]-.", tag):
                    raise DataError(
                        f"Row {row} has the tag {tag!r}; expected 'O', or 'B-' or 'I-' and an entity type.",
                        "Write the tags in BIO form.",
                    )
                tags.add(tag)
        types = {tag[2:] for tag in tags if tag != OUTSIDE}
        if not tags:
            raise DataError(
                f"All {len(frame)} rows lack tags in {self.target!r}.", "Name another target column."
            )
        if not types:
            raise DataError(
                f"Column {self.target!r} has one tag only, 'O': there is no entity to learn.",
                "Add rows with entities.",
            )
        self._set_labels(sorted(tags | {OUTSIDE} | {f"{sign}-{name}" for sign in "BI" for name in types}))

    def _tags(self, frame: pd.DataFrame) -> list[list[str] | None]:
        """Tags of each row, None where missing.

        Raises:
            DataError: A row has not as many tags as words.
        """
        rows: list[list[str] | None] = []
        words = word_lists(frame, self.input)
        for row, row_words, cell in zip(row_numbers(frame), words, frame[self.target], strict=True):
            if not is_list(cell):
                if not is_missing(cell):
                    raise DataError(f"Row {row}: the tags should be a list, not {str(cell)[:60]!r}.")
                rows.append(None)
                continue
            if len(cell) != len(row_words):
                raise DataError(
                    f"Row {row} has {len(row_words)} words but {len(cell)} tags.",
                    "Give each word exactly one tag.",
                )
            rows.append([str(tag) for tag in cell])
        return rows

    def state(self) -> dict[str, Any]:
        """Columns and tags."""
        return {"roles": self.columns.roles, "labels": self._labels}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """A fitted task."""
        task = cls(Columns(dict(state["roles"])))
        task._set_labels([str(name) for name in state["labels"]])
        return task

    @property
    def label_names(self) -> list[str]:
        """The tags."""
        return list(self._labels)

    def strata(self, frame: pd.DataFrame) -> np.ndarray | None:
        """(n,) each row's rarest entity type as a number, -1 for rows without an entity. Needs no fit."""
        rows = [{tag[2:] for tag in tags or () if tag != OUTSIDE} for tags in self._tags(frame)]
        common = [name for name, _ in Counter(name for row in rows for name in sorted(row)).most_common()]
        order = {name: position for position, name in enumerate(common)}
        return np.array([max((order[name] for name in row), default=-1) for row in rows], dtype=np.int64)

    def targets(self, frame: pd.DataFrame) -> list[np.ndarray]:
        """(words,) int64 arrays: the tag, -1 for one training never saw, all -100 for a row without tags."""
        if self.target not in frame.columns:
            return [np.full(len(words), MISSING, dtype=np.int64) for words in word_lists(frame, self.input)]
        found = []
        for words, tags in zip(word_lists(frame, self.input), self._tags(frame), strict=True):
            codes = [MISSING] * len(words) if tags is None else [self._index.get(tag, UNSEEN) for tag in tags]
            found.append(np.array(codes, dtype=np.int64))
        return found

    def encode(
        self, frame: pd.DataFrame, processor: Any, *, max_length: int | None = None,
        image_size: int | None = None, root: str = ".",
    ) -> TokenExamples:  # fmt: skip
        """Token ids of the words, with each word's tag at its first sub-token."""
        return encode_words(word_lists(frame, self.input), self.targets(frame), processor, max_length)

    def loss(
        self, logits: torch.Tensor, targets: torch.Tensor, *, label_smoothing: float = 0.0,
        class_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """(batch,) mean cross-entropy over the counted words of an example, zero where it has none."""
        losses = cross_entropy(logits, targets, label_smoothing, class_weights)
        return losses.sum(-1) / (targets >= 0).sum(-1).clamp(min=1).to(losses.dtype)

    def class_weights(self, targets: list[np.ndarray]) -> torch.Tensor | None:
        """(tags,) n / (tags * count), counted over words."""
        return balanced_weights(_joined(targets), self.num_outputs)

    def outputs(self, logits: torch.Tensor, batch: Batch) -> list[np.ndarray]:
        """(words kept, tags) logits of each example, from the first sub-token of each word."""
        scores = logits.detach().cpu().numpy()
        first = batch.targets.cpu().numpy() != MISSING
        return [row[mask] for row, mask in zip(scores, first, strict=True)]

    def _spoken(self, output: np.ndarray, count: int) -> list[str]:
        """The likeliest tag of each of ``count`` words; ``O`` beyond those that have an output."""
        tags = [self._labels[index] for index in np.argmax(output, axis=1)[:count]] if len(output) else []
        return tags + [OUTSIDE] * (count - len(tags))

    def _meant(self, target: np.ndarray) -> list[str]:
        return [f"I-{_UNKNOWN}" if index < 0 else self._labels[index] for index in target]

    def statistics(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
        """(n, 2 + 3 types); see the class."""
        types = len(self._types)
        place = {name: position for position, name in enumerate(self._types)}
        table = np.zeros((len(targets), 2 + 3 * types))
        losses = self.example_losses(outputs, targets)
        counted = np.array([_counts(o, t) for o, t in zip(outputs, targets, strict=True)], dtype=bool)
        table[:, 0], table[:, 1] = np.where(counted, losses, 0.0), counted
        for row, output, target in zip(table, outputs, targets, strict=True):
            if (target == MISSING).all():
                continue
            said = set(get_entities(self._spoken(output, len(target))))
            meant = set(get_entities(self._meant(target)))
            for offset, entities in enumerate((said & meant, said, meant)):
                for name, _, _ in entities:
                    row[2 + offset * types + place[name]] += 1
        return table

    def score_statistics(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
        """(n, 2) entities that are right, and those said and meant together, where the objective is F1."""
        table = self.statistics(outputs, targets)
        if self.metric != "f1":
            return table
        right, said, meant = table[:, 2:].reshape(len(table), 3, len(self._types)).sum(axis=2).T
        return np.stack([right, said + meant], axis=1)

    def scores(self, totals: np.ndarray) -> np.ndarray:
        """F1, 0 for want of any entity."""
        if self.metric != "f1":
            return super().scores(totals)
        return ratios(2 * totals[..., 0], totals[..., 1], empty=0.0)

    def summarise(self, totals: np.ndarray) -> dict[str, float]:
        """``f1``, ``precision``, ``recall`` over all entities (0 for want of any, as seqeval), ``loss``."""
        loss, count = totals[:2]
        right, said, meant = totals[2:].reshape(3, -1).sum(axis=1)
        return {
            "f1": float(2 * right / (said + meant)) if said + meant else 0.0,
            "precision": float(right / said) if said else 0.0,
            "recall": float(right / meant) if meant else 0.0,
            "loss": ratio(loss, count),
        }

    def decode(
        self, outputs: Sequence[np.ndarray], frame: pd.DataFrame | None = None
    ) -> list[dict[str, Any]]:
        """``entities`` and ``tags``.

        An entity has its ``type``, its words as ``start`` (inclusive) and ``end`` (exclusive), the mean
        probability of its words' tags as ``confidence``, and, where the rows are given, its words joined by
        spaces as ``text``. Without the rows, words that were cut away have no tag.
        """
        rows = [None] * len(outputs) if frame is None else word_lists(frame, self.input)
        decoded = []
        for output, words in zip(outputs, rows, strict=True):
            tags = self._spoken(output, len(output) if words is None else len(words))
            sure = (
                softmax(np.asarray(output, dtype=np.float64), axis=1).max(axis=1)
                if len(output)
                else np.empty(0)
            )
            entities = []
            for name, start, last in get_entities(tags):
                entity = {"text": " ".join(words[start : last + 1])} if words is not None else {}
                span = {"type": name, "start": int(start), "end": int(last) + 1}
                entities.append({**entity, **span, "confidence": float(sure[start : last + 1].mean())})
            decoded.append({"entities": entities, "tags": tags})
        return decoded

    def confusion(
        self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]
    ) -> tuple[list[str], np.ndarray] | None:
        """Counts of words by (true, predicted) entity type, ``O`` first; unseen tags are left out."""
        names = [OUTSIDE, *self._types[:-1]]
        place = {name: position for position, name in enumerate(names)}
        to_type = np.array([place[OUTSIDE if tag == OUTSIDE else tag[2:]] for tag in self._labels])
        counts = np.zeros((len(names), len(names)), dtype=np.int64)
        for output, target in zip(outputs, targets, strict=True):
            said = np.full(len(target), self._outside)
            kept = min(len(output), len(target))
            said[:kept] = np.argmax(output[:kept], axis=1) if kept else []
            known = target >= 0
            np.add.at(counts, (to_type[target[known]], to_type[said[known]]), 1)
        return names, counts

    def example_losses(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
        """(n,) mean cross-entropy over the words with an output and a known tag, NaN where there are none."""
        losses = np.full(len(targets), np.nan)
        for row, (output, target) in enumerate(zip(outputs, targets, strict=True)):
            if _counts(output, target):
                kept = target[: len(output)]
                scores = log_softmax(np.asarray(output[: len(kept)], dtype=np.float64), axis=1)
                losses[row] = -scores[np.arange(len(kept)), np.maximum(kept, 0)][kept >= 0].mean()
        return losses

    def decisions(self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> Decisions | None:
        """The likeliest tag of each word that the model read."""
        sure, right, example = [np.empty(0)], [np.empty(0, dtype=bool)], [np.empty(0, dtype=np.int64)]
        for place, (output, target) in enumerate(zip(outputs, targets, strict=True)):
            judged = np.flatnonzero(target[: len(output)] != MISSING)
            if len(judged):
                shares = softmax(np.asarray(output, dtype=np.float64)[judged], axis=1)
                sure.append(shares.max(axis=1))
                right.append(shares.argmax(axis=1) == target[judged])
                example.append(np.full(len(judged), place))
        return Decisions(np.concatenate(sure), np.concatenate(right), np.concatenate(example))

    def hits(
        self, outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]
    ) -> tuple[list[str], np.ndarray, np.ndarray] | None:
        """By type of entity."""
        right, _, meant = np.split(self.statistics(outputs, targets)[:, 2:], 3, axis=1)
        known = len(self._types) - 1
        return list(self._types[:-1]), right[:, :known], meant[:, :known]

    def measure(self, frame: pd.DataFrame, root: str = ".") -> tuple[str, np.ndarray] | None:
        """Words."""
        return "words", np.array([len(words) for words in word_lists(frame, self.input)], dtype=np.float64)

    def show(self, frame: pd.DataFrame) -> list[str]:
        """The words."""
        return [" ".join(words) for words in word_lists(frame, self.input)]

    def majority(self, train: Sequence[np.ndarray], like: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Log frequencies of the tags in ``train``, for every word: all ``O``, but in the strangest data."""
        prior = log_prior(_joined(train), self.num_outputs)
        return [np.tile(prior, (len(row), 1)) for row in like]

    def classical(
        self, train: pd.DataFrame, test: pd.DataFrame, *, seed: int, root: str = "."
    ) -> tuple[str, list[np.ndarray]] | None:
        """Each word's most frequent tag in training; unknown words get the tags' overall frequencies."""
        targets = self.targets(train)
        prior = np.exp(log_prior(_joined(targets), self.num_outputs).astype(np.float64))
        counts: dict[str, Counter[int]] = {}
        for words, tags in zip(word_lists(train, self.input), targets, strict=True):
            for word, tag in zip(words, tags, strict=True):
                if tag >= 0:
                    counts.setdefault(word, Counter())[int(tag)] += 1
        known = {word: _smoothed(found, prior) for word, found in counts.items()}
        fallback = np.log(prior).astype(np.float32)
        outputs = [
            np.array([known.get(word, fallback) for word in words], dtype=np.float32).reshape(
                -1, self.num_outputs
            )
            for words in word_lists(test, self.input)
        ]
        return "most frequent tag of each word", outputs


def _named(columns: list[str], common: tuple[str, ...]) -> str | None:
    return next((name for usual in common for name in columns if name.lower() == usual), None)


def _joined(targets: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(
        [np.asarray(row, dtype=np.int64) for row in targets] or [np.empty(0, dtype=np.int64)]
    )


def _counts(output: np.ndarray, target: np.ndarray) -> bool:
    """Whether a word has both an output and a known tag."""
    return bool((target[: len(output)] >= 0).any())


def _smoothed(found: Counter[int], prior: np.ndarray) -> np.ndarray:
    """Log frequencies of a word's tags, with the overall ones counted as one more occurrence."""
    counts = prior.copy()
    for tag, count in found.items():
        counts[tag] += count
    return np.asarray(np.log(counts / counts.sum()), dtype=np.float32)
