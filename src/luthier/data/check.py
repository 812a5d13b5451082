"""`check`: looks for what ruins a fine-tuning, by way of `check_inputs`, `check_targets` and `leaks`."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from luthier.data.check_inputs import Lengths, check_images, check_lengths, check_texts
from luthier.data.check_targets import TargetKind, check_targets
from luthier.data.dataset import ROW, Dataset, visible
from luthier.data.duplicates import input_texts, normalise
from luthier.data.findings import BAD_ROWS, Finding, in_order
from luthier.data.leaks import find_leaks, find_repeats

__all__ = ["Finding", "check"]

InputKind = Literal["text", "tokens", "image"]


def check(
    dataset: Dataset,
    *,
    input: str | list[str],
    target: str | list[str] | None,
    kind: InputKind,
    target_kind: TargetKind,
    lengths: Lengths | None = None,
    max_length: int | None = None,
) -> list[Finding]:
    """Looks for what ruins a fine-tuning, in all splits at once. Reads every image; changes nothing.

    Args:
        dataset: Split or not.
        input: Input column(s).
        target: Target column(s), or None where there is none to check.
        kind: ``text``, ``tokens`` (lists of words), or ``image`` (file names).
        target_kind: ``class``, ``multi`` (lists, joined names or 0/1 columns), ``tags`` (BIO), or ``number``.
        lengths: Gives (n,) lengths in tokens of a list of inputs; None where nothing is cut.
        max_length: The model's limit in tokens.

    Returns:
        Findings, errors first. Rows that cannot be used are named, and `clean` drops them; an error says that
        training makes no sense.
    """
    inputs = [input] if isinstance(input, str) else list(input)
    targets = [] if target is None else [target] if isinstance(target, str) else list(target)
    findings = _structure(dataset, [*inputs, *targets])
    if findings:
        return findings
    splits = dataset.splits
    rows = {name: frame[ROW].to_numpy() for name, frame in splits.items()}
    keys: dict[str, list[str | None]] = {}
    texts: dict[str, list[str]] = {}
    for name, frame in splits.items():
        if kind == "image":
            said, keys[name] = check_images(list(frame[inputs[0]]), rows[name], name, dataset.root)
            findings += said
            continue
        texts[name] = input_texts(frame, inputs)
        keys[name] = [normalise(text) for text in texts[name]]
        findings += check_texts(texts[name], rows[name], name)
        if lengths is not None and max_length is not None:
            findings += check_lengths(
                _model_inputs(frame, inputs, kind, texts[name]), rows[name], name, lengths, max_length
            )
    what = "image" if kind == "image" else "text"
    answers: dict[str, list[str | None]] = {name: [None] * len(frame) for name, frame in splits.items()}
    if target is not None:
        words = inputs[0] if target_kind == "tags" else None
        said, answers = check_targets(splits, target, target_kind, words)
        findings += said
    findings += find_leaks(keys, rows, None if kind == "image" else texts, what)
    if kind == "tokens":  # with another cut into words, other tags are right
        keys = {name: [repr(_words(cell)) for cell in frame[inputs[0]]] for name, frame in splits.items()}
    findings += find_repeats(keys, answers, rows, what)
    findings += _nothing_left(splits, findings)
    return in_order(findings)


def _structure(dataset: Dataset, columns: list[str]) -> list[Finding]:
    """Errors that leave nothing to look at: no rows, no training split, no such column."""
    findings = []
    if "train" not in dataset.splits:
        have = ", ".join(dataset.splits) or "no split at all"
        findings.append(Finding("error", "no-train", f"There is no train split; found {have}."))
    for name, frame in dataset.splits.items():
        if frame.empty:
            findings.append(Finding("error", "empty-split", f"The {name} split has no rows.", [], name))
        for column in columns:
            if column not in frame.columns:
                message = (
                    f"The {name} split has no column {column!r}; its columns are {', '.join(visible(frame))}."
                )
                if name != "train":
                    message += " Leave that split out, and it is made from the training rows."
                findings.append(Finding("error", "no-column", message, [], name))
    return findings


def _nothing_left(splits: dict[str, pd.DataFrame], findings: list[Finding]) -> list[Finding]:
    """Errors for splits in which no row can be used."""
    left = []
    for name, frame in splits.items():
        of_split = [one for one in findings if one.split == name]
        bad = {row for one in of_split if one.code in BAD_ROWS for row in one.rows}
        if len(bad) == len(frame) and not any(one.severity == "error" for one in of_split):
            left.append(
                Finding(
                    "error", "nothing-left", f"No row of the {name} split can be used.", sorted(bad), name
                )
            )
    return left


def _model_inputs(frame: pd.DataFrame, inputs: list[str], kind: InputKind, texts: list[str]) -> list[Any]:
    """(n,) inputs as the model's processor takes them: texts, or lists of words."""
    if kind == "text":
        return list(texts)
    return [_words(cell) for cell in frame[inputs[0]]]


def _words(cell: Any) -> list[str]:
    return [str(word) for word in cell] if isinstance(cell, (list, tuple, np.ndarray)) else []
