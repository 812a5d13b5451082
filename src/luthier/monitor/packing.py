"""Arrays and inputs as bytes, and back: a few bytes that say type and shape, then the numbers. No pickle."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from luthier.errors import RunError

WIDE = 4096
"""Numbers beyond which outputs are kept in float16: those of long texts with many tags."""
LARGEST_INPUT = 1 << 20
"""Bytes of an input that are kept at most; a larger one is left out."""
_TYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f2"), 2: np.dtype("<f4")}
_JSON, _BYTES = b"j", b"b"


def pack(array: np.ndarray, *, half: bool = False) -> bytes:
    """An array of numbers, of any shape up to 255 dimensions.

    Args:
        array: Floats.
        half: In float16, in which what is beyond its range becomes its largest number; else in float32.
    """
    values = np.asarray(array, dtype=np.float32)
    if half:
        limit = float(np.finfo(np.float16).max)
        values = np.clip(values, -limit, limit)
    kind = 1 if half else 2
    head = struct.pack(f"<BB{values.ndim}I", kind, values.ndim, *values.shape)
    return head + np.ascontiguousarray(values, dtype=_TYPES[kind]).tobytes()


def pack_output(output: np.ndarray) -> bytes:
    """What a network said: in float32, or in float16 where it is `WIDE`."""
    return pack(output, half=np.size(output) > WIDE)


def unpack(data: bytes) -> np.ndarray:
    """The array, in float32.

    Raises:
        RunError: The bytes are not what `pack` gives.
    """
    try:
        kind, dimensions = struct.unpack_from("<BB", data)
        shape = struct.unpack_from(f"<{dimensions}I", data, 2)
        values = np.frombuffer(data, dtype=_TYPES[kind], offset=2 + 4 * dimensions)
        return np.asarray(values.reshape(shape), dtype=np.float32)
    except (struct.error, KeyError, ValueError) as error:
        raise RunError(f"A record is damaged: {error}.", "Restore the database from a copy.") from None


def pack_input(value: Any) -> bytes | None:
    """A text, a list of words or the bytes of a file; None for anything else, and where it is too large."""
    if isinstance(value, bytes | bytearray | memoryview):
        data = _BYTES + bytes(value)
    elif isinstance(value, str) or (
        isinstance(value, list | tuple) and all(isinstance(word, str) for word in value)
    ):
        data = _JSON + json.dumps(value).encode()
    else:
        return None
    return data if len(data) <= LARGEST_INPUT else None


def unpack_input(data: bytes | None) -> Any:
    """What `pack_input` was given: a text, a list of words, or bytes."""
    if data is None:
        return None
    return data[1:] if data[:1] == _BYTES else json.loads(data[1:])
