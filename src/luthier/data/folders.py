"""Folders of images or sounds to frames: a folder a class or a metadata file, in folders by split or not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

from luthier.data.dataset import Dataset, Modality, by_split_column, by_split_names, number_rows, split_name
from luthier.data.images import IMAGE_SUFFIXES
from luthier.data.tables import TABLES
from luthier.errors import DataError

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".au"})
_METADATA = ("metadata.csv", "metadata.tsv", "metadata.jsonl", "metadata.parquet")
_FILE_COLUMNS = ("file_name", "filename", "file", "image", "image_path", "audio", "path")


def read_media(root: Path, split_column: str | None = None) -> Dataset | None:
    """Reads a folder of images or sounds, or says that it is none.

    Names in the frame are relative to ``root``, with forward slashes; the order is that of the sorted names.

    Args:
        root: The folder. Known shapes: ``metadata.csv`` (or .tsv, .jsonl, .parquet) with a ``file_name``
            column beside the files; a folder a class; either of them inside folders named for splits.
        split_column: Column of split names in the metadata.

    Returns:
        The dataset, or None where there are neither images nor sounds nor metadata.

    Raises:
        DataError: A class folder structure that cannot be a classification, unreadable metadata, a file name
            in it that leaves the folder, or splits named twice.
    """
    notes: list[str] = []
    folders = _subfolders(root)
    splits = {folder: name for folder in folders if (name := split_name(folder.name)) is not None}
    metadata = _metadata_file(root)
    if metadata is not None:
        frame, modality = _from_metadata(metadata, root, notes)
        frames, said = by_split_column(frame, split_column)
        return _dataset(root, frames, modality, [*notes, *said])
    holding = [folder for folder in folders if folder in splits or _holds_media(folder)]
    if splits and len(splits) == len(holding):
        read = {folder.name: _read_split(folder, root, notes) for folder in holding}
        found = {name: part for name, part in read.items() if part is not None}
        if not found:
            return None
        modalities = {modality for _, modality in found.values()}
        if len(modalities) > 1:
            raise DataError(
                f"{root} holds images in one split and sounds in another.", "Use one kind of file."
            )
        notes.extend(f"Folder {name!r} holds nothing to learn from." for name in read if name not in found)
        frames = by_split_names({name: frame for name, (frame, _) in found.items()}, str(root))
        return _dataset(root, frames, modalities.pop(), notes)
    part = _from_classes(root, root, notes)
    return None if part is None else _dataset(root, {"train": part[0]}, part[1], notes)


def inside(name: Any, folder: Path, where: str) -> Path | None:
    """The path that a file name in a data file means, certain to lie in the folder; None for no name.

    Raises:
        DataError: An absolute name, or one that leads out of the folder, also by way of a symbolic link.
    """
    if not isinstance(name, str) or not name.strip():
        return None
    plain = name.replace("\\", "/")
    path = folder / plain
    outside = plain.startswith("/") or plain[1:2] == ":" or ".." in plain.split("/") or "\0" in plain
    if outside or not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(
            f"{where}: {name!r} lies outside the data folder.", "Name files relative to the metadata file."
        )
    return path


def _dataset(root: Path, frames: dict[str, pd.DataFrame], modality: Modality, notes: list[str]) -> Dataset:
    return Dataset(root.resolve().name, frames, modality, root, str(root), notes)


def _read_split(folder: Path, root: Path, notes: list[str]) -> tuple[pd.DataFrame, Modality] | None:
    metadata = _metadata_file(folder)
    return _from_metadata(metadata, root, notes) if metadata else _from_classes(folder, root, notes)


def _from_metadata(metadata: Path, root: Path, notes: list[str]) -> tuple[pd.DataFrame, Modality]:
    frame, said = TABLES[metadata.suffix.lower()](metadata)
    notes.extend(said)
    column = next((name for name in _FILE_COLUMNS if name in frame.columns), None)
    if column is None:
        raise DataError(
            f"{metadata} has no column of file names; it has {', '.join(map(str, frame.columns[:-1]))}.",
            "Call it file_name.",
        )
    rows = zip(frame["__row__"], frame[column], strict=True)
    paths = [inside(name, metadata.parent, f"{metadata}, row {row}") for row, name in rows]
    suffixes = {path.suffix.lower() for path in paths if path is not None}
    modality: Modality = "audio" if suffixes & AUDIO_SUFFIXES else "image"
    strange = suffixes - (AUDIO_SUFFIXES if modality == "audio" else IMAGE_SUFFIXES)
    if strange:
        raise DataError(
            f"{metadata} names files ending in {sorted(strange)[0]!r}, no kind of {modality} file here.",
            f"Known endings: {', '.join(sorted(IMAGE_SUFFIXES | AUDIO_SUFFIXES))}.",
        )
    if column != modality and modality in frame.columns:
        raise DataError(
            f"{metadata} has both {column!r} and {modality!r}.",
            f"Keep the one that names the {modality} files.",
        )
    frame = frame.rename(columns={column: modality})
    frame[modality] = [None if path is None else path.relative_to(root).as_posix() for path in paths]
    return frame, modality


def _from_classes(folder: Path, root: Path, notes: list[str]) -> tuple[pd.DataFrame, Modality] | None:
    found: list[tuple[str, str]] = []
    kinds: set[Modality] = set()
    empty, skipped = [], 0
    for one in _subfolders(folder):
        files, others = _media_files(one, root)
        skipped += others
        if not files:
            empty.append(one.name)
        for path in files:
            kinds.add("audio" if path.suffix.lower() in AUDIO_SUFFIXES else "image")
            found.append((path.relative_to(root).as_posix(), one.name))
    if not found:
        return None
    classes = {label.lower() for _, label in found}
    if classes & {"images", "image"} and classes & {"masks", "mask", "labels", "annotations"}:
        raise DataError(
            f"{folder} holds images beside their masks or annotations, not a folder a class.",
            "Segmentation is not supported; to classify, put each class's images in a folder of its name.",
        )
    if len(kinds) > 1:
        raise DataError(f"{folder} holds images and sounds.", "Keep one kind of file.")
    modality = kinds.pop()
    if empty:
        notes.append(
            f"No {modality} files in {', '.join(empty[:5])} ({len(empty)} folders in {folder.name})."
        )
    if skipped:
        notes.append(
            f"{skipped} files in {folder.name} are no {modality} files, or link out of the folder: left out."
        )
    return number_rows(pd.DataFrame(found, columns=[modality, "label"])), modality


def _media_files(folder: Path, root: Path) -> tuple[list[Path], int]:
    """Images and sounds below a folder, sorted, and how many others; links that leave ``root`` are others."""
    files, others = [], 0
    top = root.resolve()
    for current, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _hidden(name))
        for name in sorted(names):
            path = Path(current, name)
            if _hidden(name):
                continue
            known = path.suffix.lower() in IMAGE_SUFFIXES or path.suffix.lower() in AUDIO_SUFFIXES
            if known and (not path.is_symlink() or path.resolve().is_relative_to(top)):
                files.append(path)
            else:
                others += 1
    return files, others


def _holds_media(folder: Path) -> bool:
    """Whether there is an image or a sound below a folder; stops at the first."""
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _hidden(name)]
        if any(
            Path(name).suffix.lower() in IMAGE_SUFFIXES | AUDIO_SUFFIXES
            for name in names
            if not _hidden(name)
        ):
            return True
    return False


def _metadata_file(folder: Path) -> Path | None:
    return next((folder / name for name in _METADATA if (folder / name).is_file()), None)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not _hidden(path.name))


def _hidden(name: str) -> bool:
    return name.startswith((".", "__"))
