"""`Finding`: one thing the check has to say; and dropping the rows it names, bad or leaked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from luthier.data.dataset import ROW, Dataset

Severity = Literal["error", "warning", "info"]

BAD_ROWS = frozenset(
    {
        "missing-label",
        "bad-label",
        "not-a-number",
        "empty-input",
        "broken-image",
        "length-mismatch",
        "bad-tag",
    }
)
"""Codes whose rows cannot be learnt from; `clean` drops them."""


@dataclass(frozen=True)
class Finding:
    """One thing found in a dataset.

    Attributes:
        severity: An error stops before training; a warning wants something done, and stands out in the
            report; info is a note on the data.
        code: A fixed short name of the kind of finding.
        message: A sentence for the user, with counts and the first row numbers.
        rows: All row numbers (``__row__``) concerned, in ``split``.
        split: The split they lie in; None where it concerns the whole dataset.
    """

    severity: Severity
    code: str
    message: str
    rows: list[int] = field(default_factory=list)
    split: str | None = None


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then warnings; otherwise in the order they came."""
    return sorted(findings, key=lambda finding: get_args(Severity).index(finding.severity))


def clean(dataset: Dataset, findings: Iterable[Finding]) -> Dataset:
    """The dataset without rows that cannot be learnt from (`BAD_ROWS`), with a note that counts them."""
    return _without(dataset, [one for one in findings if one.code in BAD_ROWS], "that cannot be used")


def drop_leaks(dataset: Dataset, findings: Iterable[Finding]) -> Dataset:
    """The dataset without test and validation rows that stand in an earlier split too; training stays whole.

    Only equal inputs go. Nearly equal ones (``near-leak``) stay, since two close sentences can rightly
    differ.
    """
    return _without(
        dataset, [one for one in findings if one.code == "leak"], "that stand in an earlier split too"
    )


def _without(dataset: Dataset, findings: Sequence[Finding], why: str) -> Dataset:
    splits, notes = {}, []
    for name, frame in dataset.splits.items():
        rows = {row for one in findings if one.split == name for row in one.rows}
        keep = ~frame[ROW].isin(rows)
        splits[name] = frame if keep.all() else frame[keep].reset_index(drop=True)
        if not keep.all():
            notes.append(f"{int((~keep).sum())} {name} rows {why} were dropped.")
    return dataset.with_splits(splits, notes)


def some(values: Sequence[Any], limit: int = 5) -> str:
    """The first few values and how many more: ``3, 8, 13 and 20 more``."""
    shown = ", ".join(str(value) for value in values[:limit])
    return shown if len(values) <= limit else f"{shown} and {len(values) - limit} more"


def counted(number: int, what: str) -> str:
    """``1 row``, ``2 rows``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
