"""The content of a folder: its plain files, their checksums, and a copy of it that is on the disk before it
counts."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from luthier.errors import ModelError

BLOCK = 1 << 20
CARD = "README.md"
"""Says of a model what people want to know, may be written anew, and changes no answer."""


def files(folder: Path) -> list[str]:
    """Names of all files below a folder, sorted.

    Raises:
        ModelError: One of them, or a folder, is a link or something stranger: what it leads to may change.
    """
    names = []
    for place, folders, found in os.walk(folder, onerror=_raise):
        for name in [*folders, *found]:
            path = Path(place) / name
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise ModelError(
                    f"'{path}' is a link or a special file.",
                    "What is deployed has plain files only: copy it.",
                )
            if stat.S_ISREG(mode):
                names.append(path.relative_to(folder).as_posix())
    return sorted(names)


def sums(folder: Path) -> dict[str, dict[str, Any]]:
    """``sha256`` and ``bytes`` of each file, by name."""
    return {name: _sum(folder / name) for name in files(folder)}


def digest(found: dict[str, dict[str, Any]]) -> str:
    """One sha256 over all files but model cards, from what `sums` gave."""
    rows = [[name, row["sha256"]] for name, row in sorted(found.items()) if Path(name).name != CARD]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def copy(source: Path, target: Path) -> dict[str, dict[str, Any]]:
    """Copies a folder's files and flushes them to the disk.

    No hard links: whoever edits the source in place would edit the copy, and one damaged block would reach
    both.

    Args:
        source: Is left alone.
        target: Is made.

    Returns:
        What `sums` gives of the source, as it was read.

    Raises:
        ModelError: There is a link or a special file in it.
        OSError: It cannot be read or written.
    """
    target.mkdir(parents=True)
    found = {}
    for name in files(source):
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        hashed, size = hashlib.sha256(), 0
        with (source / name).open("rb") as reader, place.open("xb") as writer:
            while block := reader.read(BLOCK):
                hashed.update(block)
                size += writer.write(block)
            writer.flush()
            os.fsync(writer.fileno())
        found[name] = {"sha256": hashed.hexdigest(), "bytes": size}
    for folder in sorted({target, *(parent for name in found for parent in _parents(target, name))}):
        sync(folder)
    return found


def write(path: Path, text: str) -> None:
    """Replaces a file's text in one step, and has it on the disk when it returns."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync(path.parent)


def sync(folder: Path) -> None:
    """Flushes the names in a folder to the disk, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _parents(target: Path, name: str) -> list[Path]:
    return [target / parent for parent in Path(name).parents]


def _sum(path: Path) -> dict[str, Any]:
    # Not `weights.digest`: what that remembers of a file may be older than the file.
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}


def _raise(error: OSError) -> None:
    raise ModelError(f"'{error.filename}' cannot be read: {error.strerror}.")
