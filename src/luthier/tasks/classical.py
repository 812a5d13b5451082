"""Baselines without a pre-trained model: bag of n-grams or pixels, and a linear model (scikit-learn)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

LARGEST = 50_000
"""Rows a baseline learns from at most (a random choice): a baseline must not eat the budget."""
SIDE = 32
"""Side in pixels that images are shrunk to for the pixel baseline."""

_FLOOR = 1e-7  # The least probability a baseline gives: a class that it never saw must not cost infinity.


def vectorizer(texts: Sequence[str]) -> TfidfVectorizer:
    """TF-IDF over 1-2 words, or 1-4 characters where a text is one word (molecules, unspaced scripts).

    n-grams seen once are dropped where there are texts enough.
    """
    rare = 2 if len(texts) >= 1000 else 1
    if np.median([len(text.split()) for text in texts]) < 2:
        return TfidfVectorizer(
            analyzer="char", lowercase=False, ngram_range=(1, 4), sublinear_tf=True, min_df=rare
        )
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=rare)


def features(train: list[str], test: list[str]) -> tuple[Any, Any] | None:
    """Sparse TF-IDF features of both, or None where no text has a word."""
    try:
        model = vectorizer(train).fit(train)
    except ValueError:  # An empty vocabulary.
        return None
    return model.transform(train), model.transform(test)


def choose(count: int, seed: int) -> np.ndarray:
    """Indices of the rows to learn from: all, or a random `LARGEST` of them."""
    if count <= LARGEST:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, LARGEST, replace=False))


def logistic(
    train: Any, classes: np.ndarray, test: Any, count: int, *, strength: float, seed: int
) -> list[np.ndarray] | None:
    """Log-probabilities of a multinomial logistic regression.

    Args:
        train: (n, features).
        classes: (n,) class indices.
        test: (m, features).
        count: Number of classes, also of those without a training row.
        strength: Inverse of the L2 penalty.
        seed: Of the solver.

    Returns:
        m arrays (count,), or None where fewer than two classes are there to learn from.
    """
    if len(np.unique(classes)) < 2:
        return None
    model = LogisticRegression(C=strength, max_iter=100, tol=1e-3, random_state=seed)
    with warnings.catch_warnings():  # A hundred iterations are enough for a baseline.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, classes)
    shares = np.zeros((test.shape[0], count))
    shares[:, model.classes_] = model.predict_proba(test)
    return list(np.log(np.maximum(shares, _FLOOR)).astype(np.float32))


def text_classes(
    train: list[str], classes: np.ndarray, test: list[str], count: int, *, seed: int
) -> list[np.ndarray] | None:
    """TF-IDF and logistic regression; see `logistic`. Rows with a negative class are left out."""
    rows = np.flatnonzero(classes >= 0)
    rows = rows[choose(len(rows), seed)]
    if not len(rows) or (found := features([train[row] for row in rows], test)) is None:
        return None
    return logistic(found[0], classes[rows], found[1], count, strength=10.0, seed=seed)


def text_labels(
    train: list[str], labels: np.ndarray, test: list[str], *, seed: int
) -> list[np.ndarray] | None:
    """TF-IDF and one logistic regression a label.

    Args:
        train: n texts.
        labels: (n, labels) of 1, 0, or negative where unknown.
        test: m texts.
        seed: Of the solvers.

    Returns:
        m arrays (labels,) of log-odds, or None where no text has a word.
    """
    rows = choose(len(train), seed)
    if not len(rows) or (found := features([train[row] for row in rows], test)) is None:
        return None
    columns = []
    for label in range(labels.shape[1]):
        answers = labels[rows, label]
        known = np.flatnonzero(answers >= 0)
        fitted = logistic(
            found[0][known], (answers[known] > 0).astype(int), found[1], 2, strength=10.0, seed=seed
        )
        if fitted is None:
            share = np.clip(np.mean(answers[known] > 0) if len(known) else 0.0, 1e-4, 1 - 1e-4)
            columns.append(np.full(len(test), np.log(share / (1 - share))))
        else:
            columns.append(np.array([no_yes[1] - no_yes[0] for no_yes in fitted]))
    return list(np.stack(columns, axis=1).astype(np.float32))


def text_values(train: list[str], values: np.ndarray, test: list[str], *, seed: int) -> np.ndarray | None:
    """(m,) predictions of ridge regression on TF-IDF, with the best penalty on a fifth of the rows."""
    rows = np.flatnonzero(np.isfinite(values))
    rows = np.random.default_rng(seed).permutation(rows[choose(len(rows), seed)])
    if len(rows) < 10 or (found := features([train[row] for row in rows], test)) is None:
        return None
    known, held = values[rows], len(rows) // 5
    penalties = (0.1, 0.3, 1.0, 3.0, 10.0)
    errors = [
        np.mean((_ridge(found[0][held:], known[held:], found[0][:held], penalty) - known[:held]) ** 2)
        for penalty in penalties
    ]
    return _ridge(found[0], known, found[1], penalties[int(np.argmin(errors))])


def _ridge(train: Any, values: np.ndarray, test: Any, penalty: float) -> np.ndarray:
    return np.asarray(Ridge(alpha=penalty, solver="sparse_cg").fit(train, values).predict(test))


def pixel_classes(
    train: np.ndarray, classes: np.ndarray, test: np.ndarray, count: int, *, seed: int
) -> list[np.ndarray] | None:
    """Logistic regression on standardised pixels; see `logistic`.

    Args:
        train: (n, values) pixels.
        classes: (n,) class indices.
        test: (m, values).
        count: Number of classes.
        seed: Of the solver.
    """
    scaler = StandardScaler().fit(train)
    return logistic(scaler.transform(train), classes, scaler.transform(test), count, strength=1e-3, seed=seed)
