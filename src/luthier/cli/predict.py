"""``luthier predict``: answers of a run's model or an export for files, images, texts or lines of standard
input."""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from luthier.errors import DataError, RunError, SettingError

if TYPE_CHECKING:
    import pandas as pd

IMAGES = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff"}
TABLES = {".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".conll", ".bio", ".iob", ".iob2"}
LINES = {".txt"}
OUTPUTS = {".csv", ".jsonl"}
EXPORT = "export.json"
"""What tells an export from a run folder."""

Answers = list[dict[str, Any]]


def predict(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or an export.")],
    data: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="A table, a .txt file of lines, an image, a folder of images, a text, or - for stdin.",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Write a .csv or .jsonl file instead of standard output."),
    ] = None,
) -> None:
    """Predict for INPUT; prints one JSON object a line."""
    if output is not None:
        _check_output(Path(output))
    inputs = read_inputs(data, sys.stdin)
    if (Path(run) / EXPORT).is_file():
        from luthier.deploy.runtime import Exported

        answers = Exported.load(run).predict(inputs)
    else:
        from luthier.run.result import Result

        answers = Result.load(run).predict(inputs)
    answers = [{**key, **answer} for key, answer in zip(_keys(inputs), answers, strict=True)]
    if output is None:
        _write_lines(answers, sys.stdout)
    else:
        _write_file(answers, Path(output))


def read_inputs(data: str, stdin: IO[str]) -> list[str] | pd.DataFrame:
    """What INPUT stands for: texts, image files, or the rows of a table.

    Raises:
        DataError: There is no such file, it holds nothing, or it cannot be read.
    """
    path = Path(data)
    found: list[str] | pd.DataFrame
    if data == "-":
        found = [line.rstrip("\r\n") for line in stdin]
    elif _exists(path) and path.is_dir() and (images := _images(path)):
        found = images
    elif _exists(path) and (path.is_dir() or path.suffix.lower() in TABLES):
        found = _table(path)
    elif _exists(path) and path.suffix.lower() in LINES:
        found = _lines(path)
    elif _exists(path):
        if path.suffix.lower() not in IMAGES:
            raise DataError(
                f"Cannot tell what {data!r} is.", f"Known: {', '.join(sorted(TABLES | LINES | IMAGES))}."
            )
        found = [str(path)]
    elif path.suffix.lower() in TABLES | LINES | IMAGES and " " not in data:
        raise DataError(
            f"There is no file {data!r}.", "To predict for a text that looks like a file name, use stdin: -"
        )
    else:
        found = [data]
    if len(found) == 0:
        raise DataError(
            f"There is nothing to predict for in {'standard input' if data == '-' else repr(data)}."
        )
    return found


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a text too long for a file name, or with a NUL in it
        return False


def _images(folder: Path) -> list[str]:
    return [
        str(path) for path in sorted(folder.rglob("*")) if path.suffix.lower() in IMAGES and path.is_file()
    ]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise DataError(
            f"{str(path)!r} is not UTF-8 text.", "Convert it first, for example with iconv."
        ) from None
    except OSError as error:
        raise DataError(f"Cannot read {str(path)!r}: {error.strerror}.") from None


def _table(path: Path) -> pd.DataFrame:
    import pandas as pd

    from luthier.data import read

    frames: list[pd.DataFrame] = list(read(path).splits.values())
    return pd.concat(frames, ignore_index=True)


def _keys(inputs: list[str] | pd.DataFrame) -> list[dict[str, Any]]:
    """What tells which input an answer belongs to: the input itself, or its row number in the file."""
    if isinstance(inputs, list):
        return [{"input": item} for item in inputs]
    rows = inputs["__row__"] if "__row__" in inputs.columns else range(len(inputs))
    return [{"row": int(row)} for row in rows]


def _check_output(path: Path) -> None:
    if path.suffix.lower() not in OUTPUTS:
        raise SettingError(f"--output {str(path)!r} must end in .csv or .jsonl.")
    if not os.access(path.parent, os.W_OK):
        raise RunError(f"Cannot write {str(path)!r}: the folder is missing or read-only.")


def _write_lines(answers: Answers, file: IO[str]) -> None:
    from luthier.cli.output import clean

    for answer in answers:
        file.write(json.dumps(clean(answer), ensure_ascii=False) + "\n")


def _write_table(answers: Answers, file: IO[str]) -> None:
    from luthier.cli.output import clean

    names = list(dict.fromkeys(name for answer in answers for name in answer))
    writer = csv.DictWriter(file, names)
    writer.writeheader()
    for answer in answers:
        plain = clean(answer)
        nested = {
            name: json.dumps(value, ensure_ascii=False)
            for name, value in plain.items()
            if isinstance(value, list | dict)
        }
        writer.writerow({**plain, **nested})


def _write_file(answers: Answers, path: Path) -> None:
    """Writes beside the file and then puts it in its place, so that there is never half a file."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, suffix=".part", delete=False, encoding="utf-8", newline=""
        ) as file:
            try:
                (_write_table if path.suffix.lower() == ".csv" else _write_lines)(answers, file)
            except BaseException:
                Path(file.name).unlink()
                raise
        Path(file.name).replace(path)
    except OSError as error:
        raise RunError(f"Cannot write {str(path)!r}: {error.strerror}.") from None


VERB = predict
