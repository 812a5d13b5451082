"""CoNLL files: a word and its tag a line, an empty line between sentences. Tags stay as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from luthier.data.dataset import number_rows
from luthier.data.encoding import read_text
from luthier.errors import DataError

_TAG = re.compile(r"O|[BIESLU]-\S+")


def read_conll(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Reads sentences; the first field of a line is the word, the last its tag.

    Returns:
        A frame with ``tokens`` (list of str), ``tags`` (list of str; left out where no line has a second
        field), and the line of each sentence's first word as its row number. Then notes.

    Raises:
        DataError: The file cannot be read, holds no sentence, or has words without a tag among words with
            one.
    """
    text, notes = read_text(path)
    return parse(text, path), notes


def parse(text: str, path: Path) -> pd.DataFrame:
    """The frame that `read_conll` returns, from text; ``path`` is for messages."""
    # Not splitlines: words may hold U+2028 or U+0085, which are no ends of lines here.
    lines = [line.rstrip("\r") for line in text.split("\n")]
    tabs = any("\t" in line.strip() for line in lines)
    sentences: list[tuple[int, list[list[str]]]] = []
    untagged: list[int] = []
    fresh, tagged = True, False
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            fresh = True
            continue
        fields = [part for part in (line.split("\t") if tabs else line.split(" ")) if part]
        if fields[0] == "-DOCSTART-" or _is_comment(line, fields, tabs):
            continue
        if fresh:
            sentences.append((number, []))
            fresh = False
        if len(fields) == 1:
            untagged.append(number)
        else:
            tagged = True
        sentences[-1][1].append(fields)
    if not sentences:
        raise DataError(
            f"{path} holds no sentences.",
            "Write a word and its tag a line, and an empty line after a sentence.",
        )
    if untagged and tagged:
        raise DataError(
            f"{path}, line {untagged[0]}: a word without a tag ({len(untagged)} such lines).",
            "Write a word and its tag a line, with a tab between; O tags words outside every entity.",
        )
    columns = {"tokens": [[fields[0] for fields in sentence] for _, sentence in sentences]}
    if tagged:
        columns["tags"] = [[fields[-1].strip() for fields in sentence] for _, sentence in sentences]
    return number_rows(pd.DataFrame(columns), [number for number, _ in sentences])


def looks_like_conll(text: str) -> bool:
    """Whether the first lines of a text are words with BIO tags."""
    lines = [
        line.split() for line in text.split("\n")[:200] if line.strip() and not line.startswith("-DOCSTART-")
    ]
    return bool(lines) and all(
        len(fields) > 1 and _TAG.fullmatch(fields[-1]) for fields in lines[:-1] or lines
    )


def _is_comment(line: str, fields: list[str], tabs: bool) -> bool:
    """A comment, not the word ``#``."""
    if not line.startswith("# "):
        return False
    return len(fields) == 1 if tabs else _TAG.fullmatch(fields[-1]) is None
