"""Random changes of training images, by numbers that the caller's generator gives."""

from __future__ import annotations

import numpy as np
import torch

from luthier.engine.batches import generator

# Random numbers that an image's change is made from: whether it is mirrored, how far down and right it moves.
DRAWS = 3


def augment(pixels: torch.Tensor, kind: str, rng: np.random.Generator) -> torch.Tensor:
    """Mirrors half of the images.

    With ``flip_shift`` each is also moved by up to an eighth, repeating the border.

    Args:
        pixels: (batch, channels, height, width).
        kind: ``flip`` or ``flip_shift``.
        rng: Gives each image as many numbers whatever the kind, so that both kinds mirror the same ones.

    Returns:
        Changed images, shaped like ``pixels``, which stay as they are.
    """
    return change(pixels, kind, rng.random((len(pixels), DRAWS)))


def view(images: int, number: int) -> np.ndarray:
    """(images, `DRAWS`) numbers for `change` that make one fixed view of each image.

    An image's row depends on its place and the view's number alone, not on how many images there are.
    """
    return generator(number, 5).random((images, DRAWS))


def change(pixels: torch.Tensor, kind: str, drawn: np.ndarray) -> torch.Tensor:
    """As `augment`, by numbers that are drawn already.

    Args:
        pixels: (batch, channels, height, width).
        kind: ``flip`` or ``flip_shift``.
        drawn: (batch, `DRAWS`) in [0, 1).
    """
    if kind not in ("flip", "flip_shift"):
        raise ValueError(f"No way to augment images is called {kind!r}.")
    mirrored = torch.from_numpy(drawn[:, 0] < 0.5).to(pixels.device)
    pixels = torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)
    if kind == "flip":
        return pixels
    height, width = pixels.shape[-2:]
    down, right = max(1, height // 8), max(1, width // 8)
    padded = torch.nn.functional.pad(pixels, (right, right, down, down), mode="replicate")
    tops = (drawn[:, 1] * (2 * down + 1)).astype(np.int64).tolist()
    lefts = (drawn[:, 2] * (2 * right + 1)).astype(np.int64).tolist()
    moved = [image[:, t : t + height, x : x + width] for image, t, x in zip(padded, tops, lefts, strict=True)]
    return torch.stack(moved)
