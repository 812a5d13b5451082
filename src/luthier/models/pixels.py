"""Any picture as eight-bit RGB: what cameras, scanners, microscopes and screenshots save in other forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from luthier.errors import DataError


def as_rgb(image: str | Path | Image.Image | np.ndarray) -> Image.Image:
    """A picture in RGB, upright.

    Transparency is laid over white; 16-bit grey keeps its 8 high bits; other grey is repeated in the three
    channels; a camera's rotation mark is obeyed.

    Args:
        image: A file, a picture, or an array (height, width[, channels]).

    Raises:
        DataError: The file is missing, not a picture, cut off, or absurdly large.
    """
    if isinstance(image, np.ndarray):
        return _convert(Image.fromarray(image))
    if isinstance(image, Image.Image):
        return _convert(image)
    try:
        with Image.open(image) as opened:
            opened.load()
            return _convert(opened)
    except FileNotFoundError:
        raise DataError(f"Image '{image}' does not exist.") from None
    except UnidentifiedImageError:
        raise DataError(f"Image '{image}' is not a picture in a known format.") from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"Image '{image}' does not decode: {error}.") from None


def _convert(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    if "A" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        values = values * 255.0 if values.size and float(np.nanmax(values)) <= 1.0 else values
        return np.clip(np.nan_to_num(values), 0, 255).astype(np.uint8)
    if values.dtype.itemsize == 2 or (values.size and int(values.max()) > 255):
        values = np.right_shift(np.clip(values.astype(np.int64), 0, 65535), 8)
    return np.asarray(np.clip(values, 0, 255), dtype=np.uint8)
