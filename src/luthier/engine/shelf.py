"""Arrays in a folder that any process may find, use and throw away.

Each is written whole or not at all, and is checked when it is read. Where room is needed, those that were not
used for longest go first. Nothing in the folder but such arrays is ever touched.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import time
import uuid
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
"""What values can be kept in, by the names that settings and files use."""
VALUES = "values.bin"
META = "meta.json"
# Free space that is left to others: this many bytes or this share of the disk, whichever is more.
SPARE_BYTES = 2**30
SPARE_SHARE = 0.05
# Seconds after which what a writer left unfinished is taken for that of a dead process.
STALE = 3600.0

_KEY = re.compile(r"[0-9a-f]{40}")
_UNFINISHED = re.compile(r"\.[0-9a-f]{40}\.[0-9a-f]{32}")
# Bytes that are read or written at a time.
_CHUNK = 2**24


@dataclass(frozen=True)
class _Entry:
    path: Path
    size: int
    used: float
    finished: bool


class Shelf:
    """A folder of arrays.

    An array is a directory, named by its key, with the raw values and a small file that describes them, the
    sums of both checked. It is made under another name beside its place and renamed, so that several
    processes can write, read and remove the same one at the same time.

    Args:
        folder: Made when first written to.
        limit: Bytes that all arrays together may take; held by every process that writes.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self._checked: set[str] = set()

    def has(self, key: str) -> bool:
        """Whether an array is there; it may still turn out to be damaged."""
        try:
            return (self._place(key) / META).is_file()
        except OSError:
            return False

    def touch(self, key: str) -> None:
        """Marks an array as used now."""
        with contextlib.suppress(OSError):
            os.utime(self._place(key) / META)

    def get(self, key: str, largest: int) -> tuple[torch.Tensor, dict[str, Any]] | None:
        """An array and what was noted of it; None if it is not there, or was damaged and is now removed.

        Args:
            key: Its key.
            largest: Bytes up to which values are read into memory. Larger ones stay on disk and are read as
                they are used; they are checked once only.
        """
        if not self.has(key):
            return None
        place = self._place(key)
        try:
            meta = _read_meta(place / META, key)
            mapped = meta["size"] > largest
            values = _map(place / VALUES, meta["size"]) if mapped else _read(place / VALUES, meta["size"])
            if not (mapped and key in self._checked):
                _check(values, meta["sum"])
                self._checked.add(key)
        except (OSError, ValueError, KeyError, TypeError):
            # Whatever is wrong with it, it can be computed again.
            self._remove(place)
            return None
        self.touch(key)
        return values.view(DTYPES[meta["dtype"]]).view(meta["shape"]), meta["note"]

    def put(self, key: str, values: torch.Tensor, note: dict[str, Any]) -> bool:
        """Writes an array, unless it is there.

        Args:
            key: 40 hex digits.
            values: Of one of `DTYPES`.
            note: JSON values to hand out with it.

        Returns:
            Whether it is there now; False where the limit or the free space of the disk forbids it.

        Raises:
            OSError: The folder cannot be written.
        """
        place = self._place(key)
        if self.has(key):
            self.touch(key)
            return True
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._make_room(values.nbytes):
            return False
        partial = self._aside(key)
        try:
            partial.mkdir()
            total = _write(partial / VALUES, values)
            meta = {
                "key": key,
                "dtype": str(values.dtype).removeprefix("torch."),
                "shape": list(values.shape),
                "sum": total,
                "note": note,
            }
            line = json.dumps(meta)
            # Last: what has it is complete.
            (partial / META).write_text(f"{zlib.crc32(line.encode()):08x}\n{line}\n", encoding="utf-8")
            if place.is_dir() and not self.has(key):
                self._remove(place)
            partial.rename(place)
        except OSError:
            # Another process may have been faster: then its array is as good.
            if not self.has(key):
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        # Others may have written meanwhile; the new one is the last to go.
        with contextlib.suppress(OSError):
            self._make_room(0)
        return True

    def clear(self) -> None:
        """Removes all arrays."""
        for entry in self._entries():
            self._remove(entry.path)

    def _place(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no key.")
        return self.folder / key

    def _aside(self, key: str) -> Path:
        return self.folder / f".{key}.{uuid.uuid4().hex}"

    def _make_room(self, size: int) -> bool:
        """Removes what is needed to add ``size`` bytes, oldest first; nothing where all would not do."""
        entries = sorted(self._entries(), key=lambda entry: entry.used)
        disk = shutil.disk_usage(self.folder)
        spare = max(SPARE_BYTES, int(SPARE_SHARE * disk.total))
        lacking = max(
            sum(entry.size for entry in entries) + size - self.limit,
            size + spare - disk.free,
        )
        finished = [entry for entry in entries if entry.finished]
        if size > self.limit or lacking > sum(entry.size for entry in finished):
            return False
        for entry in finished:
            if lacking <= 0:
                break
            if self._remove(entry.path):
                lacking -= entry.size
        return lacking <= 0

    def _entries(self) -> Iterator[_Entry]:
        """All arrays, and what is being written; what a dead process left is removed."""
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else []:
            finished = bool(_KEY.fullmatch(path.name))
            if not finished and not _UNFINISHED.fullmatch(path.name):
                continue
            size, used = 0, 0.0
            for name in (VALUES, META):
                with contextlib.suppress(OSError):
                    stat = (path / name).stat()
                    size += stat.st_size
                    # Only the small file is touched by use, and what lacks it is of none.
                    used = stat.st_mtime if name == META or not finished else 0.0
            if not finished:
                with contextlib.suppress(OSError):
                    used = max(used, path.stat().st_mtime)
                if time.time() - used > STALE:
                    shutil.rmtree(path, ignore_errors=True)
                    continue
            yield _Entry(path, size, used, finished)

    def _remove(self, path: Path) -> bool:
        """Takes an array out of sight, then away, so that nobody finds half of it."""
        aside = self._aside(path.name) if _KEY.fullmatch(path.name) else path
        try:
            path.rename(aside)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        shutil.rmtree(aside, ignore_errors=True)
        return True


def _read_meta(path: Path, key: str) -> dict[str, Any]:
    total, _, line = path.read_text(encoding="utf-8").partition("\n")
    line = line.rstrip("\n")
    if int(total, 16) != zlib.crc32(line.encode()):
        raise ValueError("The description is damaged.")
    meta: dict[str, Any] = json.loads(line)
    size = math.prod(meta["shape"]) * DTYPES[meta["dtype"]].itemsize
    if meta["key"] != key or (path.parent / VALUES).stat().st_size != size:
        raise ValueError("The values are not those described.")
    return meta | {"size": size}


def _write(path: Path, values: torch.Tensor) -> int:
    """Writes the raw values and returns their check sum."""
    flat = values.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
    total = 0
    with path.open("wb") as file:
        for start in range(0, len(flat), _CHUNK):
            part = flat[start : start + _CHUNK].data
            total = zlib.crc32(part, total)
            file.write(part)
    return total


def _read(path: Path, size: int) -> torch.Tensor:
    flat = torch.empty(size, dtype=torch.uint8)
    view = flat.numpy().data
    with path.open("rb", buffering=0) as file:
        filled = 0
        while filled < len(view):
            count = file.readinto(view[filled : filled + _CHUNK])
            if not count:
                raise ValueError("The values end too soon.")
            filled += count
    return flat


def _map(path: Path, size: int) -> torch.Tensor:
    # Read only rather than copy on write: for that the system may have to promise as much memory.
    array = np.memmap(path, dtype=np.uint8, mode="r", shape=(size,))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)


def _check(values: torch.Tensor, expected: int) -> None:
    flat, total = values.numpy(), 0
    for start in range(0, len(flat), _CHUNK):
        total = zlib.crc32(flat[start : start + _CHUNK].data, total)
    if total != expected:
        raise ValueError("The values are damaged.")
