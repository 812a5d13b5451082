"""One class for each text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from luthier.tasks import classical
from luthier.tasks.base import Columns, Modality
from luthier.tasks.classification import SingleLabel, claim_classes
from luthier.tasks.columns import Hints, check_hints, text_and_target
from luthier.tasks.examples import TextExamples, encode_texts
from luthier.tasks.labels import one_line, text_sizes, texts


class TextClassification(SingleLabel):
    """One class for each text."""

    name: ClassVar[str] = "text-classification"
    modality: ClassVar[Modality] = "text"
    input_kind = "text"
    pipeline_tag: ClassVar[str] = "text-classification"
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    peft_type: ClassVar[str | None] = "SEQ_CLS"

    @classmethod
    def claim(cls, frame: pd.DataFrame, modality: Modality, hints: Hints) -> Columns | None:
        """A column of text, and a target of few distinct values."""
        if not check_hints(frame, hints):
            return None
        if modality != "text" or isinstance(hints.get("target"), list):
            return None
        found = text_and_target(frame, hints, ("text", "integer"))
        if found is None or (claimed := claim_classes(frame, found[1])) is None:
            return None
        text, target = found
        why = f"{text!r} holds the text; {claimed[1]}"
        return Columns({"input": text, "target": target.name}, claimed[0], why)

    def encode(
        self, frame: pd.DataFrame, processor: Any, *, max_length: int | None = None,
        image_size: int | None = None, root: str = ".",
    ) -> TextExamples:  # fmt: skip
        """Token ids of the texts."""
        return encode_texts(texts(frame[self.input]), self.classes(frame), processor, max_length)

    def show(self, frame: pd.DataFrame) -> list[str]:
        """The texts."""
        return [one_line(text) for text in texts(frame[self.input])]

    def measure(self, frame: pd.DataFrame, root: str = ".") -> tuple[str, np.ndarray] | None:
        """Words, or characters."""
        return text_sizes(texts(frame[self.input]))

    def classical(
        self, train: pd.DataFrame, test: pd.DataFrame, *, seed: int, root: str = "."
    ) -> tuple[str, list[np.ndarray]] | None:
        """TF-IDF and logistic regression."""
        outputs: Sequence[np.ndarray] | None = classical.text_classes(
            texts(train[self.input]),
            self.classes(train),
            texts(test[self.input]),
            self.num_outputs,
            seed=seed,
        )
        return None if outputs is None else ("TF-IDF + logistic regression", list(outputs))
