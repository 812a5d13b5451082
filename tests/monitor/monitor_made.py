"""Made references and requests of a classifier whose answers are as sure as they are right."""

from __future__ import annotations

import numpy as np

from luthier.monitor.judgement import Reference, Requests

NAMES = ("ant", "bee", "cow")


def drawn(
    rows: int, seed: int, *, hard: float = 0.0, cows: float = 0.0, moved: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, true classes drawn from them, and features.

    Args:
        rows: How many.
        seed: Of the draw.
        hard: By how much logits are made smaller: right answers get rarer, and confidence with them.
        cows: What is added to the third logit.
        moved: By how much features are moved.
    """
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (rows, len(NAMES))) * (1 - hard) + np.array([0, 0, cows])
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truths = (shares.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    return logits, truths, rng.normal(moved, 1, (rows, 6))


def reference(rows: int = 1000, seed: int = 0) -> Reference:
    logits, truths, features = drawn(rows, seed)
    answered = logits.argmax(axis=1)
    confusion = np.zeros((3, 3), dtype=np.int64)
    np.add.at(confusion, (truths, answered), 1)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    rng = np.random.default_rng(seed + 1)
    return Reference(
        "class",
        NAMES,
        logits.astype(np.float32),
        np.bincount(answered, minlength=3),
        1 / powers.sum(axis=1),
        answered == truths,
        np.arange(rows),
        confusion,
        features=features[:300],
        statistics={
            "length": rng.integers(3, 60, rows).astype(float),
            "unknown": rng.binomial(9, 0.1, rows) / 9,
        },
    )


def requests(
    rows: int = 1000, seed: int = 7, *, hard: float = 0.0, cows: float = 0.0, moved: float = 0.0,
    labels: bool = False,
) -> Requests:  # fmt: skip
    logits, truths, features = drawn(rows, seed, hard=hard, cows=cows, moved=moved)
    rng = np.random.default_rng(seed + 1)
    return Requests(
        [f"r{i}" for i in range(rows)],
        np.arange(rows, dtype=float),
        logits.astype(np.float32),
        features,
        {"length": rng.integers(3, 60, rows).astype(float), "unknown": rng.binomial(9, 0.1, rows) / 9},
        (logits.argmax(axis=1) == truths).astype(float) if labels else None,
        truths if labels else None,
    )


def followed(first: Requests, second: Requests) -> Requests:
    """One after the other, all without labels or all with."""
    both = first.outcomes is not None and second.outcomes is not None
    return Requests(
        [*first.ids, *(f"s{i}" for i in range(len(second)))],
        np.concatenate([first.times, len(first) + second.times]),
        np.concatenate([first.outputs, second.outputs]),
        np.concatenate([first.features, second.features]),
        {
            name: np.concatenate([first.statistics[name], second.statistics[name]])
            for name in first.statistics
        },
        np.concatenate([first.outcomes, second.outcomes]) if both else None,
    )
