"""Data from the `datasets` library: objects and hub ids. Needs the ``hub`` extra; runs no remote code."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pandas as pd

from luthier.data.dataset import Dataset, Modality, number_rows, split_name
from luthier.data.images import store
from luthier.data.tables import name_of, plain
from luthier.errors import DataError, MissingExtra

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[\w.+-]+)?")


def is_hub_id(source: str) -> bool:
    """Whether a string has the form ``user/name`` or ``user/name:config``."""
    return _HUB_ID.fullmatch(source) is not None


def is_datasets_object(source: object) -> bool:
    """Whether something comes from the datasets library, without importing it."""
    return type(source).__module__.split(".")[0] == "datasets"


def read_hub(source: str) -> Dataset:
    """Loads a data set by hub id.

    Raises:
        MissingExtra: The datasets library is not installed.
        DataError: There is no such data set or configuration, or the hub cannot be reached.
    """
    if importlib.util.find_spec("datasets") is None:
        raise MissingExtra(f"{source!r} is no file or folder here; reading it as a hub data set", "hub")
    import datasets

    name, _, config = source.partition(":")
    try:
        loaded = datasets.load_dataset(name, config or None)
    except (
        Exception
    ) as error:  # the library raises errors of its own, of the hub's client and of its HTTP library
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"{source!r} is no file or folder here, and as a hub data set it cannot be loaded: {reason}",
            "Check the path or the id (user/name or user/name:config) and the connection.",
        ) from None
    return from_datasets(loaded, name=name.split("/")[-1], source=source)


def from_datasets(loaded: Any, *, name: str = "dataset", source: str = "a datasets object") -> Dataset:
    """Turns a ``datasets.Dataset`` or ``DatasetDict`` into frames.

    Class indices become their names (-1 becomes missing). An image column becomes ``image``, with the encoded
    images laid down as files in the user's cache; further image columns and audio are left out, with a note.

    Raises:
        DataError: A streaming data set, no usable split, or no rows.
    """
    if type(loaded).__name__.startswith("Iterable"):
        raise DataError(
            "A streaming data set cannot be split or read twice.", "Load it with streaming=False."
        )
    notes: list[str] = []
    parts = dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
    if isinstance(loaded, dict):
        left = [given for given in parts if split_name(given) is None]
        parts = {given: part for given, part in parts.items() if given not in left}
        if left:
            notes.append(f"Splits left out, since they are no train, validation or test: {', '.join(left)}.")
        if not parts:
            raise DataError(
                f"{source} has no split that is a train, validation or test.", f"It has {', '.join(left)}."
            )
    frames: dict[str, pd.DataFrame] = {}
    modality: Modality = "text"
    root = Path()
    for given, part in parts.items():
        if not len(part):
            raise DataError(f"{source}: split {given!r} has no rows.", "Leave it out.")
        split = str(split_name(given))
        if split in frames:
            raise DataError(f"{source} has two {split} splits.", "Keep one of them.")
        frame, folder, said = _frame(part)
        if folder is not None:
            modality, root = "image", folder
        frames[split] = frame
        notes.extend(note for note in said if note not in notes)
    return Dataset(name, frames, modality, root, source, notes)


def _frame(part: Any) -> tuple[pd.DataFrame, Path | None, list[str]]:
    """A split as a frame, the folder of its images, and notes."""
    import datasets

    part = part.with_format(None)
    notes: list[str] = []
    images = [name for name, feature in part.features.items() if isinstance(feature, datasets.Image)]
    sounds = [name for name, feature in part.features.items() if isinstance(feature, datasets.Audio)]
    left = [*images[1:], *sounds]
    if left:
        notes.append(f"Columns left out: {', '.join(left)} (one image column is read, and no audio).")
        part = part.remove_columns(left)
    labels = {name: found for name, feature in part.features.items() if (found := _label_names(feature))}
    for name in images[:1]:
        part = part.cast_column(name, datasets.Image(decode=False))
    frame = part.to_pandas()
    for name, found in labels.items():
        frame[name] = frame[name].map(lambda code, found=found: name_of(code, found))
    if not images:
        return number_rows(plain(frame)), None, notes
    folder, names = store([_with_bytes(cell) for cell in frame[images[0]]], images[0])
    frame[images[0]] = names
    notes.append(f"Images are kept in {folder}.")
    return number_rows(plain(frame.rename(columns={images[0]: "image"}))), folder, notes


def _label_names(feature: Any) -> list[str] | None:
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return [str(name) for name in names] if isinstance(names, list) else None


def _with_bytes(cell: Any) -> Any:
    """An image of a datasets object; one that is kept as a path only is read from there."""
    if isinstance(cell, dict) and cell.get("bytes") is None and cell.get("path"):
        try:
            return Path(cell["path"]).read_bytes()
        except OSError as error:
            raise DataError(f"{cell['path']} cannot be read: {error.strerror or error}.") from None
    return cell
