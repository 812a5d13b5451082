"""Weight files on disk: safetensors only, each header checked against the file before anything is loaded."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from pathlib import Path
from typing import Any

from luthier.errors import ModelError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
MAX_HEADER = 100_000_000
"""Bytes; the format's own limit."""
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "F4": 4, "C64": 64,
}  # fmt: skip

_digests: dict[tuple[str, int, int], str] = {}


def find(folder: Path) -> list[Path]:
    """The weight files of a model folder, each checked.

    Raises:
        ModelError: There are none, they are pickles, or one is damaged; names the file.
    """
    if (folder / SINGLE).is_file():
        _check(folder / SINGLE)
        return [folder / SINGLE]
    if (folder / INDEX).is_file():
        return _shards(folder / INDEX)
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in PICKLES)
    if pickles:
        raise ModelError(*pickle_refused(pickles[0], folder))
    raise ModelError(
        f"Model folder '{folder}' has no weights: looked for {SINGLE} and {INDEX}.",
        "A folder written by save_pretrained() has them beside config.json.",
    )


def pickle_refused(name: str, where: Path) -> tuple[str, str]:
    """Message and hint for a file that loading would run code from."""
    return (
        f"'{name}' in '{where}' is a pickle or the like: loading it could run code, so it is refused.",
        "Convert it where you trust it: "
        "AutoModel.from_pretrained(folder).save_pretrained(new_folder) writes safetensors.",
    )


def digest(path: Path) -> str:
    """sha256 of a file, remembered while its path, size and time of change stay the same."""
    stat = path.stat()
    key = (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    if key not in _digests:
        with path.open("rb") as file:
            _digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _digests[key]


def _shards(index: Path) -> list[Path]:
    try:
        mapping: Any = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted({str(name) for name in mapping.values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"'{index}' is not an index of safetensors shards: {error}.") from None
    tensors: set[str] = set()
    paths = []
    for name in names:
        # Names only: a hub's cache links files to elsewhere, which is its business, but an index may not
        # lead anywhere.
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(
                f"'{index}' names the shard {name!r}, which is not a safetensors file in its own folder."
            )
        path = index.parent / name
        if not path.is_file():
            raise ModelError(
                f"Shard '{name}' of '{index.parent}' is missing.", "Download or copy the model again."
            )
        tensors |= _check(path)
        paths.append(path)
    lost = sorted(set(mapping) - tensors)
    if lost:
        raise ModelError(f"'{index}' promises the tensor {lost[0]!r}, which no shard holds.")
    return paths


def _check(path: Path) -> set[str]:
    """Names of the tensors in a file whose header is whole and whose size is what the header says."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else MAX_HEADER + 1
            if length > min(size - 8, MAX_HEADER):
                raise _damaged(path, "its header is cut off or is not a header")
            header: Any = json.loads(file.read(length))
    except OSError as error:
        raise ModelError(f"'{path}' cannot be read: {error.strerror}.") from None
    except ValueError:
        raise _damaged(path, "its header is not JSON") from None
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a table")
    header.pop("__metadata__", None)
    end = 0
    try:
        for entry in sorted(header.values(), key=lambda entry: tuple(entry["data_offsets"])):
            start, stop = entry["data_offsets"]
            if start != end or (stop - start) * 8 != math.prod(entry["shape"]) * BITS[entry["dtype"]]:
                raise _damaged(path, "its tensors do not fill it as its header says")
            end = stop
    except (KeyError, TypeError, ValueError):
        raise _damaged(path, "its header has an entry that is not a tensor") from None
    if end != size - 8 - length:
        raise _damaged(path, f"it has {size:,} bytes where its header says {end + 8 + length:,}")
    return set(header)


def _damaged(path: Path, why: str) -> ModelError:
    return ModelError(f"'{path}' is damaged: {why}.", "Download or copy the model again.")
