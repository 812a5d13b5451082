"""``export.json``: what an export is and which files it has, written last and checked before anything is
opened."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path, PurePosixPath
from typing import Any

from luthier.errors import ModelError

MANIFEST = "export.json"
FORMAT = 1


def write(directory: Path, values: dict[str, Any]) -> None:
    """Writes the manifest of a directory in which all else is written.

    Args:
        directory: The export.
        values: JSON values; format and files are added.
    """
    files = {
        name: {"sha256": _digest(directory / name), "bytes": (directory / name).stat().st_size}
        for name in _files(directory)
    }
    text = json.dumps({"format": FORMAT, **values, "files": files}, indent=1, ensure_ascii=False)
    (directory / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read(directory: Path) -> dict[str, Any]:
    """The manifest, once the directory was found to hold the files it names and no others.

    Raises:
        ModelError: It is no export, or a file is missing, changed, added, a link, or named outside of it.
    """
    path = directory / MANIFEST
    if path.is_symlink() or not path.is_file():
        raise ModelError(
            f"'{directory}' is not an export: it has no {MANIFEST}.",
            "That file is written last: without it, an export was not finished. Export again.",
        )
    try:
        values = dict(json.loads(path.read_text(encoding="utf-8")))
        version = values["format"]
        files = {str(name): (str(row["sha256"]), int(row["bytes"])) for name, row in values["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"'{path}' is damaged: {error!r}.") from None
    if version != FORMAT:
        raise ModelError(
            f"'{path}' is of format {version!r}; this version reads {FORMAT}.", "Upgrade Luthier."
        )
    for name in files:
        if not _inside(name):
            raise ModelError(f"'{path}' names the file {name!r}, which is outside its directory.")
    found = _files(directory)
    if missing := sorted(set(files) - set(found)):
        raise ModelError(f"'{directory / missing[0]}' is missing from the export.", "Copy or export again.")
    if added := sorted(set(found) - set(files)):
        raise ModelError(
            f"'{directory / added[0]}' was added after the export was made.", "Remove it, or export again."
        )
    for name, (digest, size) in files.items():
        if (directory / name).stat().st_size != size or _digest(directory / name) != digest:
            raise ModelError(
                f"'{directory / name}' was changed after the export was made: its sha256 differs.",
                "Copy or export again.",
            )
    return values


def _inside(name: str) -> bool:
    """Whether a name is that of a file below its folder, written in the one way that `_files` writes it."""
    path = PurePosixPath(name)
    plain = not path.is_absolute() and path.as_posix() == name and name not in {"", "."}
    return plain and ".." not in path.parts and not any(mark in name for mark in ("\\", ":", "\0"))


def _files(directory: Path) -> list[str]:
    """Names of all files but the manifest.

    Raises:
        ModelError: One of them, or a folder, is a link or something stranger: what it leads to may change, or
            lie elsewhere.
    """
    names = []
    for folder, folders, files in os.walk(directory, onerror=_raise):
        for name in [*folders, *files]:
            path = Path(folder) / name
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise ModelError(f"'{path}' is a link or a special file; an export has plain files only.")
            if stat.S_ISREG(mode) and path != directory / MANIFEST:
                names.append(path.relative_to(directory).as_posix())
    return sorted(names)


def _raise(error: OSError) -> None:
    raise ModelError(f"'{error.filename}' cannot be read: {error.strerror}.")


def _digest(path: Path) -> str:
    # Not `weights.digest`: what that remembers of a file may be older than the file.
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
