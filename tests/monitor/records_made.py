"""Made observations, and a small reference of a classifier, for the tests of monitoring."""

from __future__ import annotations

import numpy as np
import pandas as pd

from luthier.monitor.observation import Observation
from luthier.monitor.reference import gather
from luthier.tasks.base import Columns
from luthier.tasks.text_classification import TextClassification

CLASSES = ("bird", "cat", "dog")
START = 1_700_000_000.0


def classifier() -> TextClassification:
    task = TextClassification(Columns({"input": "text", "target": "label"}))
    task.fit(pd.DataFrame({"text": CLASSES, "label": CLASSES}))
    return task


def logits(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, len(CLASSES))).astype(np.float32) * 2


def observations(
    count: int, *, first: int = 0, version: str = "1", seed: int = 0, **more
) -> list[Observation]:
    """Answers as a server gives them, a second apart, with ids ``r0``, ``r1`` and so on."""
    outputs = logits(count, seed)
    answers = classifier().decode(list(outputs))
    features = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    return [
        Observation(
            f"r{first + at}", START + first + at, version, outputs[at], answers[at],
            {"length": float(5 + at % 7), "unknown": 0.0}, features[at], **more,
        )
        for at in range(count)
    ]  # fmt: skip


def reference(rows: int = 400, seed: int = 1):
    """A reference in which the truth is drawn from what the model says."""
    task, outputs = classifier(), logits(rows, seed)
    draw = np.random.default_rng(seed)
    shares = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    truth = [CLASSES[draw.choice(3, p=share / share.sum())] for share in shares.astype(np.float64)]
    frame = pd.DataFrame({"text": ["some words"] * rows, "label": truth})
    features = list(draw.normal(size=(rows, 8)).astype(np.float32))
    return gather(task, list(outputs), task.targets(frame), frame, features=features)
