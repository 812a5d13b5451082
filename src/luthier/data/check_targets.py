"""Findings about targets over all splits: missing, malformed, constant, out of balance."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from luthier.data.dataset import ROW
from luthier.data.findings import Finding, counted, some

TargetKind = Literal["class", "multi", "tags", "number"]

IMBALANCE = 10
"""How many times more frequent than the rarest the most frequent class may be before it is said."""
_BIO = re.compile(r"O|[BIESLU]-.+", re.DOTALL)


@dataclass
class _Answers:
    """What the target cells of a split say.

    Attributes:
        labels: (n,) labels of each row (one, several, or the tag types), None where the row cannot be used.
        bad: Row numbers by finding code.
        why: An example of each code, for the message.
    """

    labels: list[tuple[str, ...] | None] = field(default_factory=list)
    bad: dict[str, list[int]] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)

    def add(self, row: int, labels: tuple[str, ...] | None, code: str = "", why: str = "") -> None:
        self.labels.append(labels)
        if code:
            self.bad.setdefault(code, []).append(row)
            self.why.setdefault(code, why)


_MESSAGES = {
    "missing-label": "without a target",
    "bad-label": "with a target other than 0 and 1",
    "not-a-number": "with a target that is no finite number",
    "length-mismatch": "with other numbers of words and tags",
    "bad-tag": "with tags that are not in BIO form",
}


def check_targets(
    splits: dict[str, pd.DataFrame], target: str | list[str], kind: TargetKind, words: str | None = None
) -> tuple[list[Finding], dict[str, list[str | None]]]:
    """Looks at the targets of all splits.

    Args:
        splits: Frames by split.
        target: Target column(s); several are 0/1 columns.
        kind: What the targets are.
        words: Column with the words that tags belong to.

    Returns:
        Findings, and for each split (n,) texts that are equal for equal answers (None where there is none).
    """
    read = {name: _read(frame, target, kind, words) for name, frame in splits.items()}
    findings = [
        one for name, answers in read.items() for one in _bad_rows(name, answers, len(splits[name]), target)
    ]
    usable = {name: [one for one in answers.labels if one is not None] for name, answers in read.items()}
    usable = {name: labels for name, labels in usable.items() if labels}
    if "train" in usable:
        findings += _number(usable) if kind == "number" else _classes(usable, read, splits, kind)
    if kind == "tags":
        findings += _loose_tags(splits, str(target))
    if kind == "tags":  # equal answers are equal tag sequences, not equal sets of entity types
        return findings, {
            name: [_joined(cell) for cell in frame[str(target)]] for name, frame in splits.items()
        }
    return findings, {name: [_joined(labels) for labels in answers.labels] for name, answers in read.items()}


def _joined(labels: Any) -> str | None:
    return ", ".join(map(str, labels)) if _is_list(labels) else None


def _read(frame: pd.DataFrame, target: str | list[str], kind: TargetKind, words: str | None) -> _Answers:
    names = [target] if isinstance(target, str) else target
    if kind == "multi" and (len(names) > 1 or not isinstance(target, str)):
        return _read_columns(frame, names)
    if kind == "tags":
        return _read_tags(frame, names[0], words)
    reader: dict[str, Callable[[_Answers, int, Any], None]] = {
        "class": _one_class, "number": _one_number, "multi": _many_labels
    }  # fmt: skip
    answers = _Answers()
    for row, cell in zip(frame[ROW], frame[names[0]], strict=True):
        if _is_missing(cell):
            answers.add(int(row), None, "missing-label")
        else:
            reader[kind](answers, int(row), cell)
    return answers


def _one_class(answers: _Answers, row: int, cell: Any) -> None:
    answers.add(row, (_label(cell),))


def _one_number(answers: _Answers, row: int, cell: Any) -> None:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        value = math.nan
    if math.isfinite(value):
        answers.add(row, (repr(value),))
    else:
        answers.add(row, None, "not-a-number", repr(cell)[:40])


def _many_labels(answers: _Answers, row: int, cell: Any) -> None:
    parts = re.split(r"[;|,]", cell) if isinstance(cell, str) else cell if _is_list(cell) else [cell]
    answers.add(row, tuple(sorted({_label(part) for part in parts if not _is_missing(part)})))


def _read_columns(frame: pd.DataFrame, names: list[str]) -> _Answers:
    """Labels from 0/1 columns; a row with gaps in some columns can be used, one with gaps in all cannot."""
    answers = _Answers()
    numbers = np.column_stack(
        [pd.to_numeric(frame[name], errors="coerce").to_numpy(float, na_value=np.nan) for name in names]
    )
    gaps = np.column_stack([[_is_missing(cell) for cell in frame[name]] for name in names])
    wrong = ~gaps & (numbers != 0) & (numbers != 1)
    for place, row in enumerate(frame[ROW]):
        if gaps[place].all():
            answers.add(int(row), None, "missing-label")
        elif wrong[place].any():
            column = names[int(np.flatnonzero(wrong[place])[0])]
            answers.add(int(row), None, "bad-label", f"{column} = {str(frame[column].iloc[place])[:40]!r}")
        else:
            answers.add(int(row), tuple(names[i] for i in np.flatnonzero(numbers[place] == 1)))
    return answers


def _read_tags(frame: pd.DataFrame, target: str, words: str | None) -> _Answers:
    answers = _Answers()
    inputs = frame[words] if words is not None else [None] * len(frame)
    for row, tags, tokens in zip(frame[ROW], frame[target], inputs, strict=True):
        if not _is_list(tags) or (len(tags) == 0 and _is_list(tokens) and len(tokens) > 0):
            answers.add(int(row), None, "missing-label")
            continue
        odd = next((tag for tag in tags if not isinstance(tag, str) or not _BIO.fullmatch(tag)), None)
        if _is_list(tokens) and len(tokens) != len(tags):
            answers.add(int(row), None, "length-mismatch", f"{len(tokens)} words, {len(tags)} tags")
        elif len(tags) and odd is not None:
            answers.add(int(row), None, "bad-tag", repr(odd))
        else:
            answers.add(int(row), tuple(sorted({tag[2:] for tag in tags if tag != "O"})))
    return answers


def _bad_rows(name: str, answers: _Answers, count: int, target: str | list[str]) -> list[Finding]:
    findings = []
    where = f" in {target if isinstance(target, str) else ', '.join(target)!r}"
    for code, rows in answers.bad.items():
        example = f" ({answers.why[code]})" if answers.why[code] else ""
        if len(rows) == count:
            message = f"Every {name} row is {_MESSAGES[code]}{where}{example}."
            hint = " Leave that split out, and it is made from the training rows." if name != "train" else ""
            all_code = "labels-all-missing" if code == "missing-label" else f"all-{code}"
            findings.append(Finding("error", all_code, message + hint, rows, name))
        else:
            said = f"{counted(len(rows), f'{name} row')} {_MESSAGES[code]}{where}{example}"
            message = f"{said}: rows {some(rows)}. Left out."
            findings.append(Finding("warning", code, message, rows, name))
    return findings


def _number(usable: dict[str, list[tuple[str, ...]]]) -> list[Finding]:
    values = {one[0] for one in usable["train"]}
    if len(values) > 1:
        return []
    return [
        Finding(
            "error",
            "constant-target",
            f"Every training target is {values.pop()}: nothing to learn.",
            [],
            "train",
        )
    ]


def _classes(
    usable: dict[str, list[tuple[str, ...]]],
    read: dict[str, _Answers],
    splits: dict[str, pd.DataFrame],
    kind: TargetKind,
) -> list[Finding]:
    """One class, classes absent from a split, imbalance; for tags the classes are entity types."""
    counts = {name: Counter(label for labels in rows for label in labels) for name, rows in usable.items()}
    train, total = counts["train"], len(usable["train"])
    findings = _nothing_to_tell(train, total, kind)
    for name in usable:
        if name == "train":
            continue
        absent = sorted(set(train) - set(counts[name]))
        if absent:
            message = f"{counted(len(absent), 'class')} of training absent from {name}: {some(absent)}."
            findings.append(
                Finding("warning", "class-absent", message.replace("classs", "classes"), [], name)
            )
        new = sorted(set(counts[name]) - set(train))
        if new:
            pairs = zip(splits[name][ROW], read[name].labels, strict=True)
            rows = [int(row) for row, labels in pairs if labels is not None and set(labels) & set(new)]
            message = (
                f"{counted(len(new), 'class')} in {name} that training never shows: {some(new)}; "
                f"{counted(len(rows), 'row')}: {some(rows)}."
            )
            findings.append(
                Finding("warning", "class-unseen", message.replace("classs", "classes"), rows, name)
            )
    if kind != "tags" and len(train) > 1:
        (most, many), (least, few) = train.most_common()[0], train.most_common()[-1]
        if many >= IMBALANCE * few:
            message = (
                f"Classes are out of balance: {most!r} has {many:,} of {total:,} training rows, "
                f"{least!r} has {few:,}."
            )
            findings.append(Finding("warning", "imbalance", message, [], "train"))
    return findings


def _nothing_to_tell(train: Counter[str], total: int, kind: TargetKind) -> list[Finding]:
    """Errors where there is nothing to tell apart, and a warning where a target is no class at all."""
    if kind == "class" and len(train) == 1:
        message = (
            f"Every training row is of one class, {next(iter(train))!r}: there is nothing to tell apart."
        )
        return [Finding("error", "one-class", message, [], "train")]
    if kind == "tags" and not train:
        return [
            Finding(
                "error",
                "one-class",
                "Every training word is tagged O: there are no entities to learn.",
                [],
                "train",
            )
        ]
    if kind == "multi" and all(count == total for count in train.values()):
        said = "has every label" if train else "has no label"
        return [
            Finding(
                "error",
                "one-class",
                f"Every training row {said}: there is nothing to tell apart.",
                [],
                "train",
            )
        ]
    if kind == "class" and total >= 20 and len(train) > total / 2:
        message = (
            f"{len(train):,} classes for {total:,} training rows: the target looks like a text or an id."
        )
        return [Finding("warning", "many-classes", message, [], "train")]
    return []


def _loose_tags(splits: dict[str, pd.DataFrame], target: str) -> list[Finding]:
    """Inside tags that continue nothing: read as the beginning of an entity, as the CoNLL script does."""
    findings = []
    for name, frame in splits.items():
        rows = []
        for row, tags in zip(frame[ROW], frame[target], strict=True):
            if _is_list(tags):
                before = ["O", *map(str, tags)]
                loose = (
                    str(tag).startswith("I-") and (last == "O" or last[2:] != str(tag)[2:])
                    for last, tag in zip(before, tags, strict=False)
                )  # fmt: skip
                if any(loose):
                    rows.append(int(row))
        if rows:
            message = (
                f"{counted(len(rows), f'{name} row')} with an I- tag that continues no entity: "
                f"rows {some(rows)}. It is read as the entity's beginning."
            )
            findings.append(Finding("warning", "loose-tag", message, rows, name))
    return findings


def _is_list(cell: Any) -> bool:
    return isinstance(cell, (list, tuple, np.ndarray, set, frozenset))


def _is_missing(cell: Any) -> bool:
    """None, NaN, NA or blank text; an empty list says "none of them"."""
    if isinstance(cell, str):
        return not cell.strip()
    return cell is None or (not _is_list(cell) and pd.api.types.is_scalar(cell) and bool(pd.isna(cell)))


def _label(cell: Any) -> str:
    """A label's name; ``1``, ``1.0`` and ``"1"`` are one label."""
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return str(int(cell))
    return str(cell).strip()
