"""`read`: which reader a source goes to. The readers themselves have their own files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from luthier.data import hub, images
from luthier.data.conll import looks_like_conll, read_conll
from luthier.data.dataset import (
    ROW,
    Dataset,
    by_split_column,
    by_split_names,
    number_rows,
    split_name,
    visible,
)
from luthier.data.encoding import read_text
from luthier.data.folders import inside, read_media
from luthier.data.tables import TABLES
from luthier.errors import DataError

Frame = pd.DataFrame
Reader = Callable[[Path], tuple[Frame, list[str]]]
READERS: dict[str, Reader] = {**TABLES, **dict.fromkeys((".conll", ".bio", ".iob", ".iob2"), read_conll)}
_FRAMES = ("a frame", "a dict of frames")
_IMAGE_COLUMNS = ("image", "image_path", "file_name", "filename", "path", "file")


def read(source: Any, *, split_column: str | None = None) -> Dataset:
    """Reads labelled data from wherever it is.

    Args:
        source: A file (CSV, TSV, JSON lines, JSON, Parquet, CoNLL); a folder with a file a split
            (``train.csv``, ``dev.csv``, ``test.csv``) or of images or sounds; a list of files; a frame; a
            dict of frames by split; a ``datasets`` object; or a hub id, ``user/name`` or
            ``user/name:config``.
        split_column: Column of split names; where it is None, a column ``split`` is taken if it holds nothing
            else.

    Returns:
        The dataset, with the splits as given, or all rows as ``train``.

    Raises:
        DataError: The source is missing, unreadable, empty, malformed or of an unknown kind.
        MissingExtra: A hub id, and the datasets library is not installed.
    """
    if isinstance(source, Dataset):
        return source
    if hub.is_datasets_object(source):
        dataset = hub.from_datasets(source)
    elif isinstance(source, pd.DataFrame):
        dataset = _from_frames({"train": source}, _FRAMES[0])
    elif isinstance(source, dict):
        if not all(isinstance(frame, pd.DataFrame) for frame in source.values()):
            raise DataError(
                "A dict of data must hold frames by split.", 'Give {"train": frame, "test": frame}.'
            )
        dataset = _from_frames(by_split_names(source, "The dict"), _FRAMES[1])
    elif isinstance(source, (list, tuple)):
        dataset = _from_files([Path(path) for path in source], "the list of files")
    elif isinstance(source, (str, Path)):
        dataset = _from_path(source, split_column)
    else:
        raise DataError(
            f"{type(source).__name__} is no data that can be read.", "Give a path, a frame or a hub id."
        )
    return _media_columns(_split_by_column(dataset, split_column))


def _from_path(source: str | Path, split_column: str | None) -> Dataset:
    if not str(source).strip():
        raise DataError("The name of the data is empty.", "Name a file, a folder or a hub id.")
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            os.scandir(path).close()
        exists = path.exists()
    except OSError as error:
        raise DataError(
            f"{path} cannot be opened: {error.strerror or error}.", "Check the path and its permissions."
        ) from None
    if path.is_dir():
        return _from_folder(path, split_column)
    if (
        not exists
        and isinstance(source, str)
        and path.suffix.lower() not in READERS
        and hub.is_hub_id(source)
    ):
        return hub.read_hub(source)
    frame, notes = _read_file(path)
    return Dataset(path.stem, {"train": frame}, root=path.parent, source=str(path), notes=notes)


def _from_folder(folder: Path, split_column: str | None) -> Dataset:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    known = [path for path in files if path.suffix.lower() in READERS or path.suffix.lower() == ".txt"]
    splits = [path for path in known if split_name(path.stem) is not None]
    if splits:
        dataset = _from_files(splits, str(folder))
        return Dataset(
            folder.resolve().name, dataset.splits, root=folder, source=str(folder), notes=dataset.notes
        )
    media = read_media(folder, split_column)
    if media is not None:
        return media
    tables = [path for path in known if path.suffix.lower() != ".txt"]
    if len(tables) == 1:
        return _from_path(tables[0], split_column)
    if (folder / "data").is_dir():
        return _from_folder(folder / "data", split_column)
    found = (
        f"it holds {', '.join(path.name for path in tables[:5])}" if tables else "nothing in it can be read"
    )
    raise DataError(
        f"{folder} is no data set: {found}.",
        "Expected train.csv and test.csv (or .jsonl, .parquet, .conll), a folder of images a class, or "
        "metadata.csv; to read one file among several, name it.",
    )


def _from_files(paths: Sequence[Path], source: str) -> Dataset:
    """Files whose names are splits become these; others become one table, one below the other."""
    if not paths:
        raise DataError(f"{source} names no file.", "Give at least one.")
    names = [split_name(path.stem) for path in paths]
    notes: list[str] = []
    groups: dict[str, list[Path]] = {}
    for path, name in zip(paths, names, strict=True):
        groups.setdefault(name if name and None not in names else "train", []).append(path)
    for name, group in groups.items():
        twice = len(group) > 1 and None not in names and len({_shard_family(path) for path in group}) > 1
        if twice:
            raise DataError(
                f"{source} has two {name} splits: {', '.join(path.name for path in group)}.",
                "Keep one of them.",
            )
    frames = {name: _joined(group, notes) for name, group in groups.items()}
    return Dataset(paths[0].resolve().parent.name, frames, root=paths[0].parent, source=source, notes=notes)


def _shard_family(path: Path) -> str:
    """Equal for the shards of one split, unequal for a shard and a whole file."""
    return re.sub(r"-\d{5}-of-(\d{5})$", r"-of-\1", path.stem) + path.suffix


def _joined(paths: list[Path], notes: list[str]) -> Frame:
    """Tables below one another; row numbers run on from file to file, so that each stays unique."""
    frames: list[Frame] = []
    offset = 0
    for path in paths:
        frame, said = _read_file(path)
        notes.extend(said)
        if frames and set(visible(frame)) != set(visible(frames[0])):
            raise DataError(
                f"{path} has other columns than {paths[0]}: {', '.join(visible(frame))}.",
                f"All must have {', '.join(visible(frames[0]))}.",
            )
        frame[ROW] += offset
        offset = int(frame[ROW].iloc[-1])
        frames.append(frame)
    if len(frames) > 1:
        notes.append(f"Rows are numbered on through {', '.join(path.name for path in paths)}.")
    return pd.concat(frames, ignore_index=True)


def _read_file(path: Path) -> tuple[Frame, list[str]]:
    suffix = path.suffix.lower()
    if suffix in READERS:
        return READERS[suffix](path)
    if suffix == ".txt" and looks_like_conll(read_text(path)[0]):
        return read_conll(path)
    if not path.exists():
        raise DataError(
            f"No such file or folder: {path}", "Check the path; it is relative to the current folder."
        )
    raise DataError(
        f"{path} ends in {path.suffix or 'nothing'!r}, which is no kind of data that is read.",
        f"Known endings: {', '.join(READERS)}. Save a spreadsheet as CSV.",
    )


def _from_frames(frames: dict[str, Frame], source: str) -> Dataset:
    splits = {}
    for name, frame in frames.items():
        if frame.empty:
            raise DataError(f"{source}: the {name} frame has no rows.", "Leave it out, or fill it.")
        if not frame.columns.is_unique:
            double = frame.columns[frame.columns.duplicated()][0]
            raise DataError(
                f"{source} has two columns named {double!r}.", "Give every column a name of its own."
            )
        splits[name] = number_rows(frame.rename(columns=str))
    return Dataset("data", splits, source=source)


def _split_by_column(dataset: Dataset, column: str | None) -> Dataset:
    if list(dataset.splits) != ["train"]:
        if column is not None and any(column in frame.columns for frame in dataset.splits.values()):
            raise DataError(
                f"{dataset.source} has splits already, so column {column!r} cannot give them.",
                "Leave it out.",
            )
        return dataset
    if dataset.modality != "text" and column is not None and column not in dataset.splits["train"].columns:
        raise DataError(
            f"No column {column!r} to split by.", "A folder of classes has none; use a folder a split."
        )
    frames, notes = by_split_column(dataset.splits["train"], column)
    return dataset.with_splits(frames, notes)


def _media_columns(dataset: Dataset) -> Dataset:
    """A table of images, or of names of image files, is an image dataset; the column becomes ``image``."""
    if dataset.modality != "text":
        return dataset
    first = next(iter(dataset.splits.values()))
    memory = next((name for name in first.columns if first[name].map(images.is_in_memory).any()), None)
    if memory is not None:
        splits, root = {}, dataset.root
        for split, frame in dataset.splits.items():
            root, names = images.store(list(frame[memory]), str(memory))
            splits[split] = frame.rename(columns={memory: "image"})
            splits[split]["image"] = names
        return Dataset(
            dataset.name,
            splits,
            "image",
            root,
            dataset.source,
            [*dataset.notes, f"Images are kept in {root}."],
        )
    named = next(
        (name for name in _IMAGE_COLUMNS if name in first.columns and _names_images(first[name])), None
    )
    if named is None or (named != "image" and "image" in first.columns):
        return dataset
    splits = {split: frame.rename(columns={named: "image"}) for split, frame in dataset.splits.items()}
    root = dataset.root
    if dataset.source in _FRAMES:
        root = _below_one_folder(splits)
    else:
        for split, frame in splits.items():
            for row, cell in zip(frame[ROW], frame["image"], strict=True):
                inside(cell, root, f"{dataset.source}, {split} row {row}")
    return Dataset(dataset.name, splits, "image", root, dataset.source, dataset.notes)


def _below_one_folder(splits: dict[str, Frame]) -> Path:
    """Makes the image names of frames relative to a folder that holds them all, in place, and gives it.

    That is the current folder where the names are below it already. Absolute names, or names with ``..``,
    would otherwise lead out of every folder that the data is copied to.
    """
    for frame in splits.values():
        frame["image"] = frame["image"].map(lambda cell: cell.as_posix() if isinstance(cell, Path) else cell)
    names = {cell for frame in splits.values() for cell in frame["image"] if isinstance(cell, str)}
    if not any(Path(name).is_absolute() or ".." in Path(name).parts for name in names):
        return Path()
    # Only folders are resolved: what a link to a file is called says more than what it leads to.
    paths = {name: Path(name).parent.resolve() / Path(name).name for name in names}
    try:
        root = Path(os.path.commonpath([path.parent for path in paths.values()]))
    except ValueError:
        raise DataError(
            "The images lie on several drives, so that no folder holds them all.", "Move them to one drive."
        ) from None
    below = {name: path.relative_to(root).as_posix() for name, path in paths.items()}
    for frame in splits.values():
        frame["image"] = frame["image"].map(lambda cell: below.get(cell, cell))
    return root


def _names_images(column: pd.Series[Any]) -> bool:
    cells = column.dropna()
    suffixes = cells.map(lambda cell: Path(cell).suffix.lower() if isinstance(cell, (str, Path)) else "")
    return len(cells) > 0 and bool(suffixes.isin(images.IMAGE_SUFFIXES).all())
