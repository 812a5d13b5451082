"""Suspects: rows whose label may be a mistake, by confident learning.

Where the probabilities of a split come from lives in `luthier.run.suspects`.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from luthier.evaluate.plain import Plain
from luthier.evaluate.resampling import resamplings
from luthier.tasks.base import Task

LEAST = 20
"""Rows of a split below which nothing is said of it."""
AGREEMENT = 0.6
"""Share of labels that a model agrees with, below which its doubts say nothing: where classes overlap so
much, most rows that confident learning names are hard ones, not wrong ones (docs/evaluation.md has figures).
"""
FOLDS = 5
LARGEST, SMALLEST = 5_000, 500
"""Training rows that are looked at, at most, and at least where there are so many; a random choice."""
ITERATIONS = 100
SPEED = 5e9
"""Floating-point operations a second that a core does at least: by it rows are so few that all folds fit."""
TEXT_LIMIT = 600
"""Characters of an input that are kept."""
COLUMNS = ["split", "row", "input", "given", "suggested", "quality"]


@dataclass
class Suspect(Plain):
    """One row whose label is likely wrong.

    Attributes:
        split: Where it is: ``train``, ``validation`` or ``test``.
        row: Row number in the source.
        input: The input as a person sees it, cut like that of a worst error.
        given: The label it has.
        suggested: The label the model would give it.
        quality: How likely the given label is right, 0 to 1; the least likely come first.
    """

    split: str
    row: int
    input: str
    given: str
    suggested: str
    quality: float


@dataclass
class Suspects(Plain):
    """Likely label mistakes.

    Attributes:
        rows: The likeliest, worst first.
        found: How many were found in all, by split.
        share: Their share of all rows looked at.
        note: What was not looked at, and why.
    """

    rows: list[Suspect]
    found: dict[str, int]
    share: float
    note: str = ""

    def table(self) -> pd.DataFrame:
        """One row a suspect."""
        return pd.DataFrame([row.to_json() for row in self.rows], columns=COLUMNS)


@dataclass
class Looked:
    """Rows whose labels are looked at.

    Attributes:
        split: Where they are.
        frame: The n rows.
        targets: n arrays.
        shares: (n, classes) probabilities from a model that was not trained on the row; NaN in rows that none
            was asked about.
    """

    split: str
    frame: pd.DataFrame
    targets: Sequence[np.ndarray]
    shares: np.ndarray


def find_suspects(task: Task, parts: Sequence[Looked], note: str = "") -> Suspects | None:
    """Rows whose label is likely a mistake (confident learning, Northcutt, Jiang & Chuang 2021).

    By the cleanlab package. Suspects are rows that count towards another class in the confident joint (their
    section 3.1) and are among the rows with the least probability of their given label, of which there are as
    many as the joint has mistakes; and the model would give them another label. Either rule alone finds more
    mistakes, and names about twice as many rows that are right.

    Args:
        task: The fitted task.
        parts: Splits, each judged by itself.
        note: What was not looked at.

    Returns:
        All suspects, the likeliest first; None for tasks whose answer is not one class, and where there is
        nothing to say: no split has 20 rows and two classes.
    """
    if task.target_kind != "class":
        return None
    found: dict[str, int] = {}
    rows: list[Suspect] = []
    looked = 0
    for part in parts:
        classes = np.asarray(part.targets, dtype=np.int64)
        at = np.flatnonzero((classes >= 0) & np.isfinite(part.shares).all(axis=1))
        if len(at) < LEAST or len(np.unique(classes[at])) < 2:
            continue
        agreement = float((part.shares[at].argmax(axis=1) == classes[at]).mean())
        if agreement < AGREEMENT:
            weak = f"by a model that agrees with {agreement:.0%} of them"
            note = f"{note} The {part.split} labels cannot be doubted {weak}.".strip()
            continue
        suspects = at[_issues(classes[at], part.shares[at])]
        looked += len(at)
        found[part.split] = len(suspects)
        rows += _told(task, part, classes, suspects)
    if not looked and not note:
        return None
    rows.sort(key=lambda row: row.quality)
    return Suspects(rows, found, len(rows) / max(1, looked), note)


def shares(outputs: Sequence[np.ndarray]) -> np.ndarray:
    """(n, classes) probabilities of logits."""
    from scipy.special import softmax

    return np.asarray(softmax(np.stack([np.asarray(row, dtype=np.float64) for row in outputs]), axis=1))


def out_of_fold(
    features: np.ndarray,
    targets: Sequence[np.ndarray],
    classes: int,
    *,
    groups: Any | None = None,
    seconds: float = 10.0,
    seed: int = 0,
) -> tuple[np.ndarray, str]:
    """Probabilities for training rows, each from a logistic regression that did not see the row.

    Args:
        features: (n, width).
        targets: n class indices; negative ones are left out.
        classes: How many there are.
        groups: (n,) keys; rows of a group are in one fold.
        seconds: What it may take: by it the rows are chosen, and no fold is begun that would end later.
        seed: Of the choice of rows and folds.

    Returns:
        (n, classes), NaN in rows without a label and those left out; and what was left out, in a sentence.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    started = time.perf_counter()
    found = np.full((len(targets), classes), np.nan)
    truths = np.asarray(targets, dtype=np.int64)
    known = np.flatnonzero(truths >= 0)
    # A step of the solver multiplies rows, features and classes forth and back.
    affordable = seconds * SPEED / (FOLDS * ITERATIONS * 4 * features.shape[1] * classes)
    most = int(min(LARGEST, max(SMALLEST, affordable)))
    generator = np.random.default_rng(seed)
    at = np.sort(generator.choice(known, most, replace=False)) if len(known) > most else known
    if len(at) < LEAST or len(np.unique(truths[at])) < 2:
        return found, "The training labels were not looked at: there are too few."
    keys = None if groups is None else np.asarray(groups).astype(str)[at]
    if keys is not None and len(np.unique(keys)) < 2:
        return found, "The training labels were not looked at: their rows are all of one group."
    parts = resamplings("folds", FOLDS, len(at), strata=truths[at], groups=keys, seed=seed)
    done = 0
    with warnings.catch_warnings():
        # A hundred iterations are enough to tell what is odd.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for learnt, asked in parts:
            spent = time.perf_counter() - started
            if spent + spent / max(1, done) > seconds:
                break
            done += 1
            if len(np.unique(truths[at[learnt]])) < 2:
                continue
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=ITERATIONS, tol=1e-3))
            model.fit(features[at[learnt]], truths[at[learnt]])
            said = np.zeros((len(asked), classes))
            said[:, model.classes_] = model.predict_proba(features[at[asked]])
            found[at[asked]] = said
    looked = int(np.isfinite(found).all(axis=1).sum())
    left = len(known) - looked
    return found, f"{looked:,} of {len(known):,} training rows were looked at." if left else ""


def _issues(classes: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(n,) bool."""
    from cleanlab.filter import find_label_issues

    # Every class must be there for cleanlab: those that no row has are folded away.
    present, labels = np.unique(classes, return_inverse=True)
    kept = np.maximum(shares[:, present], 1e-12)
    kept /= kept.sum(axis=1, keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        counted, least = (
            find_label_issues(labels, kept, filter_by=rule, n_jobs=1)
            for rule in ("confident_learning", "low_self_confidence")
        )
    return np.asarray(counted & least & (shares.argmax(axis=1) != classes))


def _told(task: Task, part: Looked, classes: np.ndarray, suspects: np.ndarray) -> list[Suspect]:
    if not len(suspects):
        return []
    names = task.label_names
    numbers = part.frame["__row__"].to_numpy() if "__row__" in part.frame else np.arange(len(part.frame))
    shown = task.show(part.frame.iloc[suspects])
    return [
        Suspect(
            split=part.split,
            row=int(numbers[at]),
            input=text if len(text) <= TEXT_LIMIT else text[:TEXT_LIMIT] + "…",
            given=names[classes[at]],
            suggested=names[int(part.shares[at].argmax())],
            quality=float(part.shares[at, classes[at]]),
        )
        for at, text in zip(suspects, shown, strict=True)
    ]
