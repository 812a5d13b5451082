"""Bytes of a file to text: encodings, byte order marks, and signs that a text was once decoded wrongly."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from luthier.errors import DataError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What UTF-8 continuation bytes (80 to BF) look like when read as Windows-1252.
_TAIL = "\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_MOJIBAKE = re.compile(f"[ÂÃ][{_TAIL}]|â[€‚„†ˆ‰][{_TAIL}]|ð[Ÿ\u009f][{_TAIL}][{_TAIL}]")


def read_bytes(path: Path) -> bytes:
    """All bytes of a file.

    Raises:
        DataError: The file is missing, is no file, or may not be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"No such file: {path}", "Check the path; it is relative to the current folder."
        ) from None
    except PermissionError:
        raise DataError(
            f"{path} may not be read.", "Give yourself permission to read it (chmod u+r)."
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None


def read_text(path: Path) -> tuple[str, list[str]]:
    """The text of a file and notes about its encoding.

    A byte order mark decides; otherwise UTF-8 where it fits. Where it does not, a file with more good UTF-8
    sequences than bad ones is UTF-8 with damage (marked U+FFFD, which the check reports), and any other is
    Windows-1252.

    Raises:
        DataError: The file cannot be read, is empty, or is binary.
    """
    data = read_bytes(path)
    if not data.strip():
        raise DataError(f"{path} is empty.", "It must hold at least one row.")
    for mark, name in _MARKS:
        if data.startswith(mark):
            try:
                return data.decode(name), []
            except UnicodeDecodeError:
                raise _binary(path) from None
    if b"\0" in data or _control_share(data) > 0.05:
        raise _binary(path)
    try:
        return data.decode("utf-8"), []
    except UnicodeDecodeError as error:
        text = data.decode("utf-8", errors="replace")
        damaged = text.count("\ufffd")
        good = sum(character > "\x7f" for character in text) - damaged
        if good > damaged:
            where = f"the first at byte {error.start + 1}"
            return text, [f"{path.name} is UTF-8 with {damaged} damaged characters, {where}."]
        note = f"{path.name} is not UTF-8: read as Windows-1252. Save it as UTF-8 if characters look wrong."
        return data.decode("cp1252", errors="replace"), [note]


def looks_broken(text: str) -> bool:
    """Whether a text has replacement characters, or UTF-8 that was once read as Windows-1252 (``cafÃ©``)."""
    return "\ufffd" in text or _MOJIBAKE.search(text) is not None


def _control_share(data: bytes) -> float:
    """Share of control characters that text files do not hold, in the first 64 KiB."""
    head = data[:65536]
    strange = sum(
        head.count(bytes([code])) for code in range(32) if code not in b"\t\n\v\f\r\x01\x1b\x1c\x1d\x1e\x1f"
    )
    return strange / len(head)


def _binary(path: Path) -> DataError:
    return DataError(
        f"{path} is not a text file: it holds binary data.",
        "Give a CSV, TSV, JSON lines, CoNLL or Parquet file whose ending says what it is.",
    )
