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
    """

    def __init__(self, folder: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        self.labels = [self.model.config.id2label[at] for at in range(self.model.config.num_labels)]

    @torch.inference_mode()
    def answers(self, texts: list[str]) -> list[dict[str, Any]]:
        """The label, its probability, and those of all."""
        inputs = self.tokenizer(texts, truncation=True, padding=True, return_tensors="pt")
        probabilities = self.model(**inputs).logits.softmax(-1)
        best = probabilities.argmax(-1).tolist()
        return [
            {
                "label": self.labels[at],
                "confidence": row[at],
                "probabilities": dict(zip(self.labels, row, strict=True)),
            }
            for at, row in zip(best, probabilities.tolist(), strict=True)
        ]
