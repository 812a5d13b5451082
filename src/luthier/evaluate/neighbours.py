"""Nearest neighbours: what a model's frozen features say with nothing learnt on top of them.

Where the features come from lives in `luthier.run.baselines`; what neighbours' answers come to, in
`Task.vote`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from luthier.tasks.base import Task

COUNTS = (1, 3, 5, 9, 17, 33)
"""Numbers of neighbours that are tried on validation."""
LARGEST = 20_000
"""Training rows that are looked among, a random choice: the work is their number times the test rows."""
JUDGED = 2_000
"""Validation rows that the number is chosen on, a random choice."""
_CELLS = 2**24  # similarities held at once: 64 MB of float32


def neighbours(
    task: Task,
    train: np.ndarray,
    validation: np.ndarray,
    test: np.ndarray,
    train_targets: Sequence[np.ndarray],
    validation_targets: Sequence[np.ndarray],
    *,
    seed: int = 0,
) -> tuple[int, list[np.ndarray]] | None:
    """Answers by the most similar training rows (Cover & Hart 1967), by the cosine of their features.

    Args:
        task: The fitted task.
        train: (n, width) features.
        validation: (v, width).
        test: (m, width).
        train_targets: n arrays.
        validation_targets: v arrays; the number of neighbours that scores best on them is taken, the smaller
            one of equals.
        seed: Of random choices of rows.

    Returns:
        The number of neighbours, and m outputs; None where an example has no one answer.
    """
    generator = np.random.default_rng(seed)
    among, judged = _some(len(train), LARGEST, generator), _some(len(validation), JUDGED, generator)
    answers = [train_targets[i] for i in among]
    counts = [count for count in COUNTS if count <= len(among)]
    near = nearest(train[among], validation[judged], counts[-1])
    truths = [validation_targets[i] for i in judged]
    best, best_score = counts[0], -np.inf
    for count in counts:
        outputs = task.vote(answers, near[:, :count])
        if outputs is None:
            return None
        score = task.score(task.metrics(outputs, truths))
        if score > best_score:
            best, best_score = count, score
    said = task.vote(answers, nearest(train[among], test, best))
    return None if said is None else (best, said)


def nearest(reference: np.ndarray, asked: np.ndarray, count: int) -> np.ndarray:
    """The most similar rows by cosine, the most similar first.

    Args:
        reference: (n, width) rows to look among.
        asked: (m, width) rows to look for.
        count: How many of each, at most n.

    Returns:
        (m, count) positions in ``reference``.
    """
    known, sought = _unit(reference), _unit(asked)
    found = np.empty((len(asked), count), dtype=np.int64)
    rows = max(1, _CELLS // max(1, len(known)))
    for start in range(0, len(sought), rows):
        likeness = sought[start : start + rows] @ known.T
        top = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(likeness, top, axis=1), axis=1, kind="stable")
        found[start : start + rows] = np.take_along_axis(top, order, axis=1)
    return found


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, dtype=np.float32)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def _some(count: int, most: int, generator: np.random.Generator) -> np.ndarray:
    return np.arange(count) if count <= most else np.sort(generator.choice(count, most, replace=False))
