"""One class for each image."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd

from luthier.tasks import classical
from luthier.tasks.base import Columns, Modality
from luthier.tasks.classification import SingleLabel, claim_classes
from luthier.tasks.columns import Hints, check_hints, find_target, image_input
from luthier.tasks.examples import ImageExamples, encode_images, open_image
from luthier.tasks.labels import row_numbers

_SAMPLED = 16
"""Side in pixels of what an image's brightness is taken from."""


class ImageClassification(SingleLabel):
    """One class for each image; the input column holds file names, PIL images or encoded bytes."""

    name: ClassVar[str] = "image-classification"
    modality: ClassVar[Modality] = "image"
    input_kind = "image"
    pipeline_tag: ClassVar[str] = "image-classification"
    auto_class: ClassVar[str] = "AutoModelForImageClassification"

    @classmethod
    def claim(cls, frame: pd.DataFrame, modality: Modality, hints: Hints) -> Columns | None:
        """A column of images, and a target of few distinct values."""
        if not check_hints(frame, hints):
            return None
        image = image_input(frame, hints)
        if image is None or isinstance(hints.get("target"), list):
            return None
        if modality != "image" and (image not in frame.columns or image_input(frame, {}) != image):
            return None
        target = find_target(frame, hints, {image}, ("text", "integer"))
        if target is None or (claimed := claim_classes(frame, target)) is None:
            return None
        why = f"{image!r} holds images; {claimed[1]}"
        return Columns({"input": image, "target": target.name}, claimed[0] + 0.1, why)

    def encode(
        self, frame: pd.DataFrame, processor: Any, *, max_length: int | None = None,
        image_size: int | None = None, root: str = ".",
    ) -> ImageExamples:  # fmt: skip
        """Decoded, resized and cropped images.

        Raises:
            DataError: An image is missing or does not decode.
        """
        cells = list(frame[self.input])
        return encode_images(cells, root, self.classes(frame), processor, image_size, row_numbers(frame))

    def show(self, frame: pd.DataFrame) -> list[str]:
        """File names; for embedded images the row's number."""
        names = [cell.get("path") if isinstance(cell, dict) else cell for cell in frame[self.input]]
        rows = row_numbers(frame)
        return [
            name if isinstance(name, str) else f"image of row {row}"
            for name, row in zip(names, rows, strict=True)
        ]

    def measure(self, frame: pd.DataFrame, root: str = ".") -> tuple[str, np.ndarray] | None:
        """The mean brightness, from 0 to 255."""
        bright = [
            np.asarray(open_image(cell, root, row).convert("L").resize((_SAMPLED, _SAMPLED))).mean()
            for cell, row in zip(frame[self.input], row_numbers(frame), strict=True)
        ]
        return "brightness", np.asarray(bright, dtype=np.float64)

    def classical(
        self, train: pd.DataFrame, test: pd.DataFrame, *, seed: int, root: str = "."
    ) -> tuple[str, list[np.ndarray]] | None:
        """Logistic regression on the pixels of images shrunk to 32 x 32."""
        classes = self.classes(train)
        rows = np.flatnonzero(classes >= 0)
        rows = rows[classical.choose(len(rows), seed)]
        if not len(rows) or not len(test):
            return None
        pixels = self._pixels(train.iloc[rows], root)
        outputs = classical.pixel_classes(
            pixels, classes[rows], self._pixels(test, root), self.num_outputs, seed=seed
        )
        return None if outputs is None else ("pixels + logistic regression", outputs)

    def _pixels(self, frame: pd.DataFrame, root: str) -> np.ndarray:
        size = (classical.SIDE, classical.SIDE)
        images = [
            open_image(cell, root, row).resize(size)
            for cell, row in zip(frame[self.input], row_numbers(frame), strict=True)
        ]
        return np.stack([np.asarray(image, dtype=np.float32).ravel() for image in images])
