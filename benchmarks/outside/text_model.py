"""A text classifier as its card says to load it, for the servers that ours is compared with; runs under
their interpreter and knows nothing of HTTP."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer


class TextModel:
    """Answers texts, a batch at a time.

    Args:
        folder: Of a transformers directory; texts are cut at its tokenizer's length.
        threads: That torch computes with.
        part: Texts that are computed at once; a longer batch is sorted by length and cut, so that short texts
            are not padded to the longest.
    """

    def __init__(self, folder: str, threads: int, part: int) -> None:
        torch.set_num_threads(threads)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        self.labels = [self.model.config.id2label[at] for at in range(self.model.config.num_labels)]
        self.part = part

    def answers(self, texts: list[str]) -> list[dict[str, Any]]:
        """The label, its probability, and those of all."""
        ids = self.tokenizer(texts, truncation=True)["input_ids"]
        order = sorted(range(len(texts)), key=lambda at: len(ids[at]))
        found: dict[int, list[float]] = {}
        for start in range(0, len(texts), self.part):
            places = order[start : start + self.part]
            found |= zip(places, self._probabilities([ids[at] for at in places]), strict=True)
        return [self._answer(found[at]) for at in range(len(texts))]

    @torch.inference_mode()
    def _probabilities(self, ids: list[list[int]]) -> list[list[float]]:
        inputs = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt")
        return self.model(**inputs).logits.softmax(-1).tolist()  # type: ignore[no-any-return]

    def _answer(self, row: list[float]) -> dict[str, Any]:
        label, confidence = max(zip(self.labels, row, strict=True), key=lambda pair: pair[1])
        probabilities = dict(zip(self.labels, row, strict=True))
        return {"label": label, "confidence": confidence, "probabilities": probabilities}
