"""Runs whose trouble is known, because it was put there: data, model and settings of each. What is made of
them is measured in `verdicts`.

A case is a small fine-tuning of its own: a tiny network with random weights that learns made texts, or the
packaged MiniLM on the demo's questions. Networks and rows are made in `verdict_data`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from verdict_data import coded, intents, leaking, noisy, pictures, ratings, several, shuffled, topics

BASELINES = ["majority", "classical", "probe"]


@dataclass(frozen=True)
class Known:
    """A run whose trouble is known.

    Attributes:
        name: Of the case.
        truth: What should be said first: any of these names; empty for a clean one.
        data: Makes it, in a folder, from a seed: a table, or the path of a file or folder.
        model: ``tiny`` (random weights), ``tiny-image`` or ``minilm``.
        space: What is varied.
        trials: How many.
        options: Further settings.
    """

    name: str
    truth: tuple[str, ...]
    data: Callable[[Path, int], Any]
    model: str
    space: dict[str, Any]
    trials: int = 1
    options: dict[str, Any] = field(default_factory=dict)


GOOD: dict[str, Any] = {"adaptation": "full", "learning_rate": 1e-3, "epochs": 8, "batch_size": 16}
HEAD: dict[str, Any] = {
    "adaptation": "probe", "pooling": "mean", "head": "linear", "learning_rate": 1e-2, "epochs": 20,
    "batch_size": 32,
    "head_dropout": 0.0,
}  # fmt: skip
GRID = {"strategy": "grid", "trials": None}
MULTI = {"task": "multi-label-classification"}
FEW = ("too-few-data", "overfitting")


def _rates(low: float, high: float) -> dict[str, Any]:
    return {"low": low, "high": high, "log": True}


CASES: tuple[Known, ...] = (
    # Nothing is wrong.
    Known("clean-topics", (), lambda p, s: topics(700, s), "tiny", GOOD),
    Known("clean-two-topics", (), lambda p, s: topics(600, s, classes=2, signal=0.5), "tiny", GOOD),
    Known(
        "clean-search",
        (),
        lambda p, s: topics(600, s),
        "tiny",
        GOOD | {"learning_rate": _rates(3e-4, 3e-3)},
        4,
    ),
    Known("clean-intents-probe", (), lambda p, s: intents(600, s), "minilm", HEAD),
    Known(
        "clean-intents-rates",
        (),
        lambda p, s: intents(480, s),
        "minilm",
        HEAD | {"learning_rate": _rates(3e-3, 3e-2)},
        4,
    ),
    Known(
        "clean-ratings",
        (),
        lambda p, s: ratings(600, s),
        "tiny",
        GOOD | {"epochs": 12},
        1,
        {"target": "rating"},
    ),
    Known("clean-several", (), lambda p, s: several(500, s), "tiny", GOOD, 1, MULTI),
    Known(
        "clean-pictures",
        (),
        lambda p, s: pictures(p, 240, s, contrast=40),
        "tiny-image",
        GOOD | {"epochs": 6},
    ),
    # It learns its rows by heart.
    Known(
        "overfit-full",
        ("overfitting",),
        lambda p, s: topics(150, s, signal=0.15),
        "tiny",
        GOOD | {"learning_rate": 3e-3, "epochs": 25, "weight_decay": 0.0},
    ),
    Known(
        "overfit-two",
        ("overfitting",),
        lambda p, s: topics(120, s, classes=2, signal=0.15),
        "tiny",
        GOOD | {"learning_rate": 2e-3, "epochs": 30},
    ),
    Known(
        "overfit-ratings",
        ("overfitting",),
        lambda p, s: ratings(120, s),
        "tiny",
        GOOD | {"learning_rate": 2e-3, "epochs": 40},
        1,
        {"target": "rating"},
    ),
    # It does not learn what can be learnt.
    Known(
        "underfit-one-epoch",
        ("underfitting", "rate-too-low"),
        lambda p, s: topics(500, s),
        "tiny",
        GOOD | {"learning_rate": 1e-5, "epochs": 1},
    ),
    Known(
        "underfit-frozen",
        ("underfitting",),
        lambda p, s: topics(600, s),
        "tiny",
        HEAD | {"pooling": "cls", "learning_rate": 1e-2},
    ),
    Known(
        "underfit-decay",
        ("underfitting",),
        lambda p, s: intents(480, s),
        "minilm",
        HEAD | {"weight_decay": 100.0, "learning_rate": 1e-2, "epochs": 10},
    ),
    # Its rate is wrong.
    Known(
        "high-full", ("rate-too-high",), lambda p, s: topics(500, s), "tiny", GOOD | {"learning_rate": 0.3}
    ),
    Known(
        "high-diverges",
        ("rate-too-high",),
        lambda p, s: topics(500, s),
        "tiny",
        GOOD | {"optimizer": "sgd", "learning_rate": [0.05, 1e3, 3e3, 1e4], "clip_norm": None},
        4,
        GRID,
    ),
    Known(
        "high-search",
        ("rate-too-high",),
        lambda p, s: topics(400, s),
        "tiny",
        GOOD | {"learning_rate": _rates(0.05, 1.0)},
        4,
    ),
    Known(
        "high-ratings",
        ("rate-too-high",),
        lambda p, s: ratings(400, s),
        "tiny",
        GOOD | {"learning_rate": 0.3},
        1,
        {"target": "rating"},
    ),
    Known(
        "low-full",
        ("rate-too-low",),
        lambda p, s: topics(500, s),
        "tiny",
        GOOD | {"learning_rate": 1e-5, "schedule": "constant"},
    ),
    Known(
        "low-search",
        ("rate-too-low",),
        lambda p, s: topics(400, s),
        "tiny",
        GOOD | {"learning_rate": _rates(1e-7, 1e-5), "epochs": 5},
        4,
    ),
    Known(
        "low-probe", ("rate-too-low",), lambda p, s: intents(480, s), "minilm", HEAD | {"learning_rate": 3e-5}
    ),
    # Labels are wrong.
    Known("noise-10", ("label-noise",), lambda p, s: noisy(intents(900, s), 0.1, s), "minilm", HEAD),
    Known("noise-20", ("label-noise",), lambda p, s: noisy(intents(600, s), 0.2, s), "minilm", HEAD),
    Known("noise-40", ("label-noise",), lambda p, s: noisy(intents(600, s), 0.4, s), "minilm", HEAD),
    Known(
        "noise-20-full",
        ("label-noise",),
        lambda p, s: noisy(topics(700, s, classes=2, signal=0.5), 0.2, s),
        "tiny",
        GOOD,
    ),
    # Answers leak.
    Known("leak-rows", ("leakage",), lambda p, s: leaking(p, topics(600, s), 0.2), "tiny", GOOD),
    Known(
        "leak-near-rows", ("leakage",), lambda p, s: leaking(p, topics(600, s), 0.2, near=True), "tiny", GOOD
    ),
    Known("leak-code", ("leakage",), lambda p, s: coded(topics(400, s, signal=0.2)), "tiny", GOOD),
    Known(
        "leak-image-size",
        ("leakage",),
        lambda p, s: pictures(p, 160, s, contrast=15, sides=(32, 36)),
        "tiny-image",
        GOOD | {"epochs": 3},
    ),
    # There is nothing to learn.
    Known(
        "shuffled-topics", ("unlearnable",), lambda p, s: shuffled(topics(500, s), "label", s), "tiny", GOOD
    ),
    Known(
        "shuffled-intents",
        ("unlearnable",),
        lambda p, s: shuffled(intents(480, s), "label", s),
        "minilm",
        HEAD,
    ),
    Known(
        "shuffled-ratings",
        ("unlearnable",),
        lambda p, s: shuffled(ratings(400, s), "rating", s),
        "tiny",
        GOOD,
        1,
        {"target": "rating"},
    ),
    # There is too little of it.
    Known("few-intents", FEW, lambda p, s: intents(110, s), "minilm", HEAD),
    Known("few-more-intents", FEW, lambda p, s: intents(200, s), "minilm", HEAD),
    # A class is passed over.
    Known(
        "rare-topic",
        ("class-ignored",),
        lambda p, s: topics(900, s, classes=2, signal=0.25, weights=[0.95, 0.05]),
        "tiny",
        HEAD | {"epochs": 5, "learning_rate": 3e-3},
    ),
    Known(
        "rare-full",
        ("class-ignored",),
        lambda p, s: topics(900, s, classes=2, signal=0.2, weights=[0.94, 0.06]),
        "tiny",
        GOOD | {"epochs": 3, "learning_rate": 3e-4},
    ),
    # Trials fail.
    Known(
        "failing-trials",
        ("failures",),
        lambda p, s: pictures(p, 160, s, contrast=40),
        "tiny-image",
        GOOD | {"epochs": 6, "pooling": ["mean", "cls"]},
        4,
        GRID,
    ),
)
