"""What X is: texts, images, or an array of features; and the first two as the dataset of a run.

Arrays of features are scikit-learn's to check.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from PIL.Image import Image

from luthier.data import Dataset, images
from luthier.errors import DataError
from luthier.tasks.labels import is_missing

TARGET, GROUP = "label", "group"
"""Columns of a run's dataset; its input column is called ``text`` or ``image``."""


@dataclass(frozen=True)
class Inputs:
    """Inputs that a pre-trained model reads.

    Attributes:
        kind: Texts, or files of images or images in memory.
        cells: n of them.
    """

    kind: Literal["text", "image"]
    cells: list[Any]

    def __len__(self) -> int:
        return len(self.cells)

    def take(self, rows: np.ndarray) -> Inputs:
        """Those at some positions."""
        return Inputs(self.kind, [self.cells[row] for row in rows])

    def dataset(self, targets: list[Any], groups: np.ndarray | None) -> Dataset:
        """The dataset of a run, to be split by it.

        Args:
            targets: n names of labels, or n values.
            groups: (n,) keys of rows that stay in one split, or None.
        """
        root, names = (Path(), self.cells) if self.kind == "text" else _files(self.cells)
        frame = pd.DataFrame({self.kind: pd.Series(names, dtype=object), TARGET: targets})
        if groups is not None:
            frame[GROUP] = groups
        return Dataset("estimator", {"train": frame}, self.kind, root, "X")


def read(X: Any) -> Inputs | None:
    """Texts or images, or None where X is an array of features.

    Args:
        X: A list, array or Series of texts, of image files or of pillow images; the same as one column of a
            table or of a two-dimensional array; or features.

    Raises:
        DataError: X is one text instead of many, mixes kinds, misses some, or has columns beside texts.
    """
    if isinstance(X, str | Path | Image):
        raise DataError(f"X is one input, {_short(X)}, not a list of them.", "Give [X] for one.")
    cells = _cells(X)
    if cells is None or not any(isinstance(cell, str | Path | Image) for cell in cells):
        return None
    for row, cell in enumerate(cells):
        if not isinstance(cell, str | Path | Image):
            said = "is missing" if is_missing(cell) else f"is {_short(cell)}"
            raise DataError(f"X holds texts or images, but the one at {row} {said}.", "Mend or drop it.")
    files = [not isinstance(cell, str) or _names_image(cell) for cell in cells]
    if all(files):
        return Inputs("image", [str(cell) if isinstance(cell, Path) else cell for cell in cells])
    if any(not isinstance(cell, str) for cell in cells):
        row = next(row for row, cell in enumerate(cells) if not isinstance(cell, str))
        raise DataError(f"X mixes texts and images: the one at {row} is {_short(cells[row])}.")
    return Inputs("text", [str(cell) for cell in cells])


def _cells(X: Any) -> list[Any] | None:
    """X as one column, or None where it is not one."""
    if isinstance(X, pd.DataFrame):
        texts = [name for place, name in enumerate(X.columns) if _holds_inputs(X.iloc[:, place])]
        if texts and X.shape[1] > 1:
            raise DataError(
                f"X has {X.shape[1]} columns, and {texts[0]!r} holds texts or images.",
                "Give that column alone, or columns of numbers alone.",
            )
        return X.iloc[:, 0].tolist() if texts else None
    if isinstance(X, pd.Series | list | tuple):
        return list(X)
    if isinstance(X, np.ndarray) and X.dtype.kind in "OUT" and X.size == len(X):
        return list(X.ravel().tolist())
    return None


def _holds_inputs(column: pd.Series[Any]) -> bool:
    if pd.api.types.is_numeric_dtype(column):
        return False
    return any(isinstance(cell, str | Path | Image) for cell in column)


def _files(cells: list[Any]) -> tuple[Path, list[Any]]:
    """The folder that files lie under, and their names in it; images in memory become files."""
    if any(isinstance(cell, Image) for cell in cells):
        return images.store([_image(cell) for cell in cells], "X")
    paths = [Path(cell).absolute() for cell in cells]
    root = Path(os.path.commonpath([path.parent for path in paths]))
    return root, [str(path.relative_to(root)) for path in paths]


def _image(cell: Any) -> Any:
    """What lies in a file, where images in memory stand beside files."""
    try:
        return cell if isinstance(cell, Image) else Path(cell).read_bytes()
    except OSError as error:
        raise DataError(f"The image {str(cell)!r} cannot be read: {error.strerror or error}.") from None


def _names_image(cell: str) -> bool:
    return Path(cell).suffix.lower() in images.IMAGE_SUFFIXES


def _short(value: Any) -> str:
    return repr(value if len(repr(value)) <= 60 else repr(value)[:60])
