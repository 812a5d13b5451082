"""Findings about the inputs of one split: empty, broken, undecodable, or too long for the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from luthier.data.encoding import looks_broken
from luthier.data.findings import Finding, counted, some
from luthier.data.images import inspect

Lengths = Callable[[list[Any]], np.ndarray]


def check_texts(texts: Sequence[str], rows: np.ndarray, split: str) -> list[Finding]:
    """Texts that are empty (their rows are dropped) and texts that were once decoded wrongly."""
    findings = []
    empty = [int(row) for text, row in zip(texts, rows, strict=True) if not text.strip()]
    if empty:
        message = f"{counted(len(empty), f'{split} row')} with an empty text: rows {some(empty)}. Left out."
        findings.append(Finding("warning", "empty-input", message, empty, split))
    broken = [place for place, text in enumerate(texts) if looks_broken(text)]
    if broken:
        numbers = [int(rows[place]) for place in broken]
        message = (
            f"{counted(len(broken), f'{split} text')} with broken characters, as "
            f"{_around(texts[broken[0]])!r}: rows {some(numbers)}. "
            "They were once read in a wrong encoding."
        )
        findings.append(Finding("warning", "broken-encoding", message, numbers, split))
    return findings


def check_lengths(
    inputs: list[Any], rows: np.ndarray, split: str, lengths: Lengths, max_length: int
) -> list[Finding]:
    """Inputs that the model would see the beginning of only.

    Args:
        inputs: (n,) texts, or lists of words.
        rows: (n,) row numbers.
        split: Their split.
        lengths: Gives (n,) lengths in tokens.
        max_length: The model's limit in tokens.
    """
    sizes = np.asarray(lengths(inputs))
    long = np.flatnonzero(sizes > max_length)
    if not len(long):
        return []
    numbers = [int(row) for row in rows[long]]
    message = (
        f"{counted(len(long), f'{split} text')} ({len(long) / len(sizes):.1%}) longer than the model's "
        f"{max_length} tokens, the longest {int(sizes.max()):,}: rows {some(numbers)}. The rest is cut off."
    )
    return [Finding("warning", "truncated", message, numbers, split)]


def check_images(
    files: Sequence[Any], rows: np.ndarray, split: str, root: Path
) -> tuple[list[Finding], list[str | None]]:
    """Images that do not decode (their rows are dropped), and (n,) digests of the pixels of those that do."""
    seen = inspect(files, root)
    bad = [place for place, one in enumerate(seen) if one.problem is not None]
    if not bad:
        return [], [one.digest for one in seen]
    shown = some([f"{files[place]} ({seen[place].problem})" for place in bad], 3)
    numbers = [int(rows[place]) for place in bad]
    message = f"{counted(len(bad), f'{split} image')} not decoded: {shown}; rows {some(numbers)}. Left out."
    return [Finding("warning", "broken-image", message, numbers, split)], [one.digest for one in seen]


def _around(text: str) -> str:
    """The words about the first broken character."""
    place = next((i for i in range(len(text)) if looks_broken(text[i : i + 4])), 0)
    return text[max(0, place - 10) : place + 14].strip()
