"""Files that are small on the wire and large once unpacked, and files that only pretend to be pictures. Made
once; how they are sent is not said here."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from functools import cache

from PIL import Image

SIDE = 20_000
UNPACKED = 100_000_000


@cache
def gzip_bomb() -> bytes:
    """A hundred kilobytes that become a hundred megabytes of blanks, as JSON allows them."""
    return gzip.compress(b" " * UNPACKED, compresslevel=9)


@cache
def pictures() -> dict[str, bytes]:
    """Pictures that must not be decoded, and what is none, by name."""
    good = picture()
    return {
        "bomb": _png(SIDE, SIDE, zlib.compress(bytes((SIDE // 8 + 1) * SIDE), 9)),
        "huge promise": _png(2**31 - 1, 2**31 - 1, zlib.compress(b"\0")),
        "no width": _png(0, 10, zlib.compress(b"\0")),
        "cut": good[: len(good) // 2],
        "cut jpeg": picture("JPEG")[:-200],
        "head only": good[:24],
        "flipped": good[:60] + bytes(byte ^ 0xFF for byte in good[60:80]) + good[80:],
        "zip": b"PK\x03\x04" + bytes(200),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9999999" height="9999999"></svg>',
        "xml entities": b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><svg>&c;</svg>',
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n(/etc/passwd) (r) file\n",
        "text": b"a good cat",
        "zeros": bytes(5000),
        "nothing": b"",
        "tiff": b"II*\x00\x08\x00\x00\x00\xff\xff" + bytes(100),
        "gif": b"GIF89a\xff\xff\xff\xff\x00\x00\x00" + bytes(50),
        "bmp": b"BM"
        + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, -(2**31), 2**31 - 1, 1, 32, 3, 0, 0, 0, 0, 0),
    }


def picture(kind: str = "PNG") -> bytes:
    """A good one, of noise."""
    file = io.BytesIO()
    Image.effect_noise((40, 40), 50).convert("RGB").save(file, kind)
    return file.getvalue()


def _png(width: int, height: int, pixels: bytes) -> bytes:
    """Black and white, one bit a pixel."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
