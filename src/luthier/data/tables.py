"""Table files to frames: CSV and TSV, JSON lines and arrays, Parquet. Knows no splits and no folders."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]

from luthier.data.dataset import number_rows
from luthier.data.encoding import read_bytes, read_text
from luthier.errors import DataError

_DELIMITERS = (",", "\t", ";", "|")
_STRANGE_DELIMITERS = "^~:\x01\x1f"
_MISSING_NUMBERS = {"", "na", "n/a", "nan", "null"}
_FIELD_LIMIT = 1 << 26


def read_csv(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Reads a table with a header and a delimiter that is found out (comma, tab, semicolon or bar).

    Only an empty cell is missing: ``NA`` and ``null`` are texts like others, except in a column that
    otherwise holds numbers. Numbers with leading zeros stay text. Row numbers are lines of the file; the
    header is line 1.

    Raises:
        DataError: Unreadable or binary file, no rows, rows of unequal width, doubled or no column names,
            quotes that do not close, or a delimiter that is none of the four.
    """
    text, notes = read_text(path)
    delimiter = _delimiter(text, path)
    try:
        records = _records(text, delimiter, csv.QUOTE_MINIMAL)
    except csv.Error as error:
        records = _records(text, delimiter, csv.QUOTE_NONE)
        if any(len(fields) != len(records[0][1]) for _, fields in records):
            raise DataError(
                f"{path} has a quoted field that does not end properly ({error}).",
                'Close every quoted field, and write a quote inside one twice ("").',
            ) from None
        notes.append(f"{path.name}: quotes do not pair up, so they were read as ordinary characters.")
    header, rows = records[0][1], records[1:]
    if not rows:
        raise DataError(
            f"{path} has a header but no rows.", "It must hold at least one row below the column names."
        )
    _check_width(path, header, rows, delimiter)
    frame = pd.DataFrame(
        {position: _typed([fields[position] for _, fields in rows]) for position in range(len(header))}
    )
    frame.columns = pd.Index(header)
    if len(header) > 1 and not header[0].strip():
        frame = frame.drop(columns=[header[0]])
        notes.append(f"{path.name}: the first column has no name and was left out.")
    _check_names(path, [str(name).strip() for name in frame.columns])
    frame.columns = pd.Index([str(name).strip() for name in frame.columns])
    return number_rows(frame, [line for line, _ in rows]), notes


def read_json_lines(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Reads one JSON object a line; row numbers are lines.

    Raises:
        DataError: Unreadable file, no rows, or a line that is no JSON object.
    """
    text, notes = read_text(path)
    records, lines = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            records.append(_object(line, f"{path}, line {number}"))
            lines.append(number)
    return number_rows(pd.DataFrame.from_records(records), lines), notes


def read_json(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Reads a JSON array of objects, or JSON lines under this ending; rows are positions in the array.

    Raises:
        DataError: Unreadable file, no rows, or something else than an array of objects.
    """
    text, notes = read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("{") and "\n" in text.strip():
            return read_json_lines(path)
        raise DataError(
            f"{path} is not valid JSON: {error}.", "Give an array of objects, or one object a line."
        ) from None
    if isinstance(content, dict) and not any(isinstance(value, (list, dict)) for value in content.values()):
        content = [content]
    if not isinstance(content, list):
        raise DataError(
            f"{path} holds a JSON object, not an array of rows.", 'Give [{"text": ..., "label": ...}, ...].'
        )
    if not content:
        raise DataError(f"{path} has no rows.", "The array must hold at least one object.")
    bad = next((i for i, record in enumerate(content, start=1) if not isinstance(record, dict)), None)
    if bad is not None:
        raise DataError(
            f"{path}: record {bad} is not an object.",
            'Each record must look like {"text": ..., "label": ...}.',
        )
    return number_rows(pd.DataFrame.from_records(content)), notes


def read_parquet(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Reads Parquet; class indices get names where the file carries them, as the datasets library writes it.

    Raises:
        DataError: Unreadable or damaged file, or no rows.
    """
    data = read_bytes(path)
    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(data))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path} is not a readable Parquet file: {reason}", "Write it again; it may be cut short."
        ) from None
    if not table.num_rows:
        raise DataError(f"{path} has no rows.", "It must hold at least one row.")
    frame = table.replace_schema_metadata(None).to_pandas()
    for name, labels in _class_names(table.schema.metadata or {}).items():
        if name in frame.columns:
            frame[name] = frame[name].map(lambda code, labels=labels: name_of(code, labels))
    return number_rows(plain(frame)), []


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Arrays in cells to lists, so that a column of words looks the same from every source."""
    for name in frame.columns:
        if frame[name].map(lambda cell: isinstance(cell, np.ndarray)).any():
            frame[name] = frame[name].map(
                lambda cell: cell.tolist() if isinstance(cell, np.ndarray) else cell
            )
    return frame


def name_of(code: Any, labels: list[str]) -> Any:
    """Label name(s) of a class index or a sequence of them; None for one out of range, such as -1."""
    if isinstance(code, (list, tuple, np.ndarray)):
        return [name_of(item, labels) for item in code]
    if code is None or code != code or not 0 <= int(code) < len(labels):
        return None
    return labels[int(code)]


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """Label names by column from the metadata that the datasets library leaves in a Parquet file."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        found = {}
        for column, feature in features.items():
            inner = feature.get("feature", feature)
            if inner.get("_type") == "ClassLabel":
                found[column] = [str(name) for name in inner["names"]]
        return found
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON ({error}).", "Write one JSON object a line.") from None
    if not isinstance(value, dict):
        raise DataError(
            f"{where}: not a JSON object.", 'Each line must look like {"text": ..., "label": ...}.'
        )
    return value


def _records(text: str, delimiter: str, quoting: int) -> list[tuple[int, list[str]]]:
    """Non-empty records, each with the line it begins on."""
    limit = csv.field_size_limit(_FIELD_LIMIT)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)  # type: ignore[arg-type]
        records, line = [], 1
        for fields in reader:
            if any(fields):
                records.append((line, fields))
            line = reader.line_num + 1
        return records
    finally:
        csv.field_size_limit(limit)


def _delimiter(text: str, path: Path) -> str:
    """The delimiter that cuts the first rows into as many fields as the header, and the most of them."""
    head = text[: 1 << 16]
    if len(head) < len(text):
        head = head[: head.rfind("\n") + 1] or head
    best, score = ",", (0.0, 1)
    candidates = (
        sorted(_DELIMITERS, key=lambda one: one != "\t") if path.suffix.lower() == ".tsv" else _DELIMITERS
    )
    for candidate in candidates:
        rows = [
            fields for fields in csv.reader(io.StringIO(head, newline=""), delimiter=candidate) if any(fields)
        ][:200]
        width = len(rows[0])
        if width > 1:
            agreement = sum(len(fields) == width for fields in rows) / len(rows)
            if (agreement, width) > score:
                best, score = candidate, (agreement, width)
    if score[1] == 1:
        lines = [line for line in head.split("\n") if line.strip()][:200]
        for strange in _STRANGE_DELIMITERS:
            counts = {line.count(strange) for line in lines}
            if len(lines) > 1 and len(counts) == 1 and counts != {0}:
                raise DataError(
                    f"{path} seems to be delimited by {strange!r}, which is not read.",
                    "Use commas, tabs, semicolons or bars between fields.",
                )
    return best


def _check_width(path: Path, header: list[str], rows: list[tuple[int, list[str]]], delimiter: str) -> None:
    ragged = [(line, len(fields)) for line, fields in rows if len(fields) != len(header)]
    if ragged:
        line, width = ragged[0]
        raise DataError(
            f"{path}, line {line}: {width} fields, but the header has {len(header)} ({len(ragged)} such).",
            f"Fields are delimited by {delimiter!r}: put a field that holds it in double quotes.",
        )


def _check_names(path: Path, names: list[str]) -> None:
    if "" in names:
        raise DataError(
            f"{path}: column {names.index('') + 1} has no name.", "The first line must name every column."
        )
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise DataError(f"{path} has two columns named {double!r}.", "Give every column a name of its own.")


def _typed(cells: list[str]) -> pd.Series[Any]:
    """Numbers where every cell that says something is one, otherwise text with None for empty cells."""
    values = pd.Series(cells, dtype=object)
    missing = values.str.strip().str.lower().isin(_MISSING_NUMBERS)
    zeros = values.str.match(r"\s*[+-]?0\d", na=False)
    if not missing.all() and not zeros.any():
        numbers = pd.to_numeric(values.where(~missing, None), errors="coerce")
        if not numbers[~missing].isna().any():
            return numbers
    return values.where(values != "", None)


TABLES = {
    ".csv": read_csv, ".tsv": read_csv, ".jsonl": read_json_lines, ".ndjson": read_json_lines,
    ".json": read_json, ".parquet": read_parquet,
}  # fmt: skip
"""Readers by file ending; each takes a path and returns a frame with row numbers, and notes."""
