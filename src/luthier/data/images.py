"""Image files: which decode, what their pixels hash to, and images in memory laid down as files."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from luthier.errors import DataError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
)
# Others start outside programs (EPS) or are seldom tested decoders: data from elsewhere must not reach them.
_FORMATS = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "BMP": ".bmp",
    "GIF": ".gif",
    "WEBP": ".webp",
    "TIFF": ".tif",
    "PPM": ".ppm",
}
MAX_PIXELS = 89_478_485
"""Pixels of the largest image that is decoded: 256 MiB as RGB, pillow's own mark for a decompression bomb."""


@dataclass(frozen=True)
class Inspection:
    """What decoding an image said.

    Attributes:
        digest: Hash of size and RGB pixels, or None where it does not decode.
        problem: Why it does not decode, or None.
    """

    digest: str | None
    problem: str | None = None


def inspect(images: Sequence[Any], root: Path) -> list[Inspection]:
    """Decodes every image fully, in threads (pillow decodes outside the interpreter's lock).

    Args:
        images: File names, relative to ``root`` or absolute.
        root: Folder of relative names.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what pillow warns of is either judged here or harmless (odd EXIF)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            return list(pool.map(lambda image: _inspect(image, root), images))


def _inspect(cell: Any, root: Path) -> Inspection:
    if not isinstance(cell, (str, Path)):
        return Inspection(None, "no file name")
    try:
        with Image.open(root / cell, formats=tuple(_FORMATS)) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                return Inspection(
                    None, f"{width} x {height} pixels, more than the {MAX_PIXELS:,} that are decoded"
                )
            pixels = image.convert("RGB")
    except FileNotFoundError:
        return Inspection(None, "no such file")
    except PermissionError:
        return Inspection(None, "may not be read")
    except UnidentifiedImageError:
        return Inspection(None, "not an image")
    except Image.DecompressionBombError:
        return Inspection(None, f"more than the {MAX_PIXELS:,} pixels that are decoded")
    except Exception as error:  # damaged files make pillow's decoders raise nearly anything
        return Inspection(None, str(error) or type(error).__name__)
    return Inspection(
        hashlib.blake2b(repr(pixels.size).encode() + pixels.tobytes(), digest_size=16).hexdigest()
    )


def store(images: Sequence[Any], column: str) -> tuple[Path, list[str | None]]:
    """Lays images in memory down as files: they are read like all others, and a later process finds them.

    Files are named by their content: the same image is written once, whoever asks.

    Args:
        images: Encoded bytes, pillow images, ``{"bytes": ..., "path": ...}`` as the datasets library has
            them, or None.
        column: Where they come from, for messages.

    Returns:
        The folder, and a file name in it for each image (None where there is none).

    Raises:
        DataError: A cell is no image, or the folder cannot be written.
    """
    folder = _cache_folder()
    names: list[str | None] = []
    for position, cell in enumerate(images, start=1):
        data = _encoded(cell, f"column {column!r}, record {position}")
        if data is None:
            names.append(None)
            continue
        name = hashlib.sha256(data).hexdigest()[:32] + _suffix(data)
        _write_once(folder / name, data)
        names.append(name)
    return folder, names


def is_in_memory(cell: Any) -> bool:
    """Whether a cell holds an image itself rather than its file name."""
    return isinstance(cell, Image.Image) or (isinstance(cell, dict) and set(cell) == {"bytes", "path"})


def _encoded(cell: Any, where: str) -> bytes | None:
    if isinstance(cell, dict):
        cell = cell.get("bytes")
    if cell is None or isinstance(cell, bytes):
        return cell
    if isinstance(cell, Image.Image):
        buffer = io.BytesIO()
        (cell if cell.mode in ("1", "L", "RGB", "RGBA") else cell.convert("RGB")).save(buffer, "PNG")
        return buffer.getvalue()
    raise DataError(f"{where}: {type(cell).__name__} is no image.", "Give file names or pillow images.")


def _suffix(data: bytes) -> str:
    try:
        with Image.open(io.BytesIO(data), formats=tuple(_FORMATS)) as image:
            return _FORMATS.get(image.format or "", ".img")
    except Exception:  # the check reports it with its row; here it only needs a name
        return ".img"


def _cache_folder() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "luthier" / "images"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"Images cannot be kept in {folder}: {error.strerror or error}.",
            "Set XDG_CACHE_HOME to a folder you may write.",
        ) from None
    return folder


def _write_once(path: Path, data: bytes) -> None:
    """Writes under another name and renames, so that a reader never sees half a file."""
    if path.exists():
        return
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(data)
        Path(file.name).replace(path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}.", "Free some space and run again."
        ) from None
