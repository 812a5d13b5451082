"""The numbers that describe an input: one definition for the reference of a model and for what is served,
which are held against each other. What a model made of an input is not here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from luthier.tasks.base import Task
from luthier.tasks.examples import open_image
from luthier.tasks.labels import row_numbers

LENGTH, UNKNOWN = "length", "unknown"
BRIGHTNESS, WIDTH, HEIGHT = "brightness", "width", "height"
SAMPLED = 16
"""Side in pixels of what a picture's brightness is taken from."""


def of_tokens(ids: np.ndarray, processor: Any) -> dict[str, float]:
    """Statistics of a text as the model reads it.

    Args:
        ids: (length,) token ids, special tokens included, cut to what the model reads.
        processor: The `luthier.models.processor.TextProcessor` that made them.

    Returns:
        ``length`` in tokens, and the share of ``unknown`` tokens among those that are not special; 0 where
        the tokenizer knows every text.
    """
    tokenizer = processor.tokenizer
    unknown = getattr(tokenizer, "unk_token_id", None)
    count = 0 if unknown is None else int((np.asarray(ids) == unknown).sum())
    own = len(ids) - tokenizer.num_special_tokens_to_add()
    return {LENGTH: float(len(ids)), UNKNOWN: count / max(own, 1)}


def of_image(image: Any) -> dict[str, float]:
    """Statistics of a picture as it came, upright and in RGB.

    Args:
        image: A PIL image.

    Returns:
        The mean ``brightness`` from 0 to 255, ``width`` and ``height`` in pixels.
    """
    small = np.asarray(image.convert("L").resize((SAMPLED, SAMPLED)))
    return {BRIGHTNESS: float(small.mean()), WIDTH: float(image.width), HEIGHT: float(image.height)}


def of_rows(
    task: Task, frame: pd.DataFrame, processor: Any, *, max_length: int | None = None, root: str = "."
) -> dict[str, np.ndarray]:
    """Statistics of the inputs of a table, by name, (n,) each.

    Args:
        task: Says what an input is.
        frame: Rows with the task's input column.
        processor: Of the model; the first network's of an ensemble.
        max_length: Tokens that the model was trained to read.
        root: Folder that relative file names in the frame start at.

    Raises:
        DataError: A picture is missing or does not decode.
    """
    if task.input_kind == "image":
        cells = zip(frame[task.input], row_numbers(frame), strict=True)
        rows = [of_image(open_image(cell, root, row)) for cell, row in cells]
    else:
        examples: Any = task.encode(frame, processor, max_length=max_length, root=root)
        rows = [of_tokens(examples.ids[at], processor) for at in range(len(examples))]
    names = rows[0].keys() if rows else ()
    return {name: np.array([row[name] for row in rows], dtype=np.float32) for name in names}
