"""Splits encoded for one model, from which padded batches are drawn. No padding is stored."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from luthier.errors import DataError, ModelError
from luthier.models.pixels import as_rgb
from luthier.tasks.base import Batch
from luthier.tasks.labels import MISSING, is_missing

# Images decoded at a time: bounds the memory that a large split needs beside its final array.
_CHUNK = 256


class TextProcessor(Protocol):
    """What a text task asks of a model's preprocessing."""

    pad_id: int
    max_length: int
    tokenizer: Any

    def encode(self, texts: list[str], max_length: int | None = None) -> list[np.ndarray]:
        """Token ids of each text, special tokens included, cut to ``max_length`` or the model's limit."""
        ...

    def lengths(self, texts: list[str]) -> np.ndarray:
        """(n,) tokens of each text if nothing were cut."""
        ...

    def encode_words(
        self, words: list[list[str]], max_length: int | None = None
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Token ids of each list of words, and the word that each token is of (-1 for special tokens)."""
        ...


class ImageProcessor(Protocol):
    """What an image task asks of a model's preprocessing."""

    def encode(self, images: list[Any], image_size: int | None = None) -> np.ndarray:
        """(n, 3, height, width) uint8, resized and cropped, from file paths or PIL images."""
        ...

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """float32 values as the model wants them, from uint8 pixels."""
        ...


class Ragged:
    """Arrays of different lengths, end to end in one.

    Args:
        rows: One 1-D array each.
        dtype: Of all of them.
    """

    def __init__(self, rows: Sequence[np.ndarray], dtype: type[np.integer[Any]]) -> None:
        self.lengths = np.array([len(row) for row in rows], dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)])
        self.values = np.concatenate(
            [np.asarray(row, dtype=dtype) for row in rows] or [np.empty(0, dtype=dtype)]
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.starts[index] : self.starts[index + 1]]

    def padded(self, indices: np.ndarray, fill: int) -> np.ndarray:
        """(len(indices), longest among them) int64, filled up at the right."""
        lengths = self.lengths[indices]
        places = np.arange(max(1, int(lengths.max(initial=0))))
        inside = places < lengths[:, None]
        out = np.full(inside.shape, fill, dtype=np.int64)
        out[inside] = self.values[(self.starts[indices][:, None] + places)[inside]]
        return out

    def take(self, indices: np.ndarray) -> Ragged:
        """Some of the rows."""
        return Ragged([self[index] for index in indices], self.values.dtype.type)


class TextExamples:
    """Encoded texts with one target each.

    Args:
        ids: Token ids of each text, special tokens included.
        targets: (n,) int64 classes or float32 values, or (n, labels) float32.
        pad_id: Token that batches are padded with.
        truncated: (n,) whether each text was cut.
    """

    _fingerprint = ""

    def __init__(
        self, ids: Sequence[np.ndarray] | Ragged, targets: np.ndarray, pad_id: int, truncated: np.ndarray
    ) -> None:
        self.ids = ids if isinstance(ids, Ragged) else Ragged(ids, np.int32)
        self.targets = targets
        self.pad_id = pad_id
        self.cut = np.asarray(truncated, dtype=bool)
        self.lengths = self.ids.lengths
        self.truncated = int(self.cut.sum())

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, indices: np.ndarray) -> Batch:
        """``input_ids`` and ``attention_mask`` (batch, longest length), int64."""
        return Batch(_text_inputs(self.ids, indices, self.pad_id), self.targets_of(indices), indices)

    def targets_of(self, indices: np.ndarray) -> torch.Tensor:
        """(batch,) or (batch, labels)."""
        return torch.from_numpy(self.targets[indices])

    def fingerprint(self) -> str:
        """Of the token ids."""
        self._fingerprint = self._fingerprint or _text_digest(self.ids, self.pad_id)
        return self._fingerprint

    def take(self, indices: np.ndarray) -> TextExamples:
        """Some of the examples, in that order."""
        return TextExamples(self.ids.take(indices), self.targets[indices], self.pad_id, self.cut[indices])


class TokenExamples:
    """Encoded lists of words with one target a word.

    A word's target stands at its first sub-token. There it is a class index or -1 (no loss, though the word
    gets an output); elsewhere it is -100.

    Args:
        ids: Token ids of each example, special tokens included.
        word_index: The word that each token belongs to, -1 for special tokens.
        targets: The encoded tags of each example's words (also of those that were cut away).
        pad_id: Token that batches are padded with.
    """

    _fingerprint = ""

    def __init__(
        self,
        ids: Sequence[np.ndarray],
        word_index: Sequence[np.ndarray],
        targets: Sequence[np.ndarray],
        pad_id: int,
    ) -> None:
        self.ids = Ragged(ids, np.int32)
        self.pad_id = pad_id
        self.lengths = self.ids.lengths
        rows = [_at_first_token(words, tags) for words, tags in zip(word_index, targets, strict=True)]
        self.token_targets = Ragged(rows, np.int32)
        kept = [int(words.max(initial=-1)) + 1 for words in word_index]
        self.cut = np.array([k < len(tags) for k, tags in zip(kept, targets, strict=True)], dtype=bool)
        self.truncated = int(self.cut.sum())

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, indices: np.ndarray) -> Batch:
        """``input_ids``, ``attention_mask`` and targets, each (batch, longest length), int64."""
        return Batch(_text_inputs(self.ids, indices, self.pad_id), self.targets_of(indices), indices)

    def targets_of(self, indices: np.ndarray) -> torch.Tensor:
        """(batch, longest length) int64, -100 where no word begins and beyond an example's end."""
        return torch.from_numpy(self.token_targets.padded(indices, MISSING))

    def fingerprint(self) -> str:
        """Of the token ids; which of them begin words is the targets' affair."""
        self._fingerprint = self._fingerprint or _text_digest(self.ids, self.pad_id)
        return self._fingerprint

    def take(self, indices: np.ndarray) -> TokenExamples:
        """Some of the examples, in that order."""
        part = object.__new__(TokenExamples)
        part.ids, part.pad_id = self.ids.take(indices), self.pad_id
        part.lengths, part.token_targets = part.ids.lengths, self.token_targets.take(indices)
        part.cut = self.cut[indices]
        part.truncated = int(part.cut.sum())
        return part


class ImageExamples:
    """Decoded images as bytes; batches are normalised floats.

    Args:
        pixels: (n, 3, height, width) uint8.
        targets: (n,) int64 classes.
        processor: Normalises batches.
    """

    truncated = 0
    _fingerprint = ""

    def __init__(self, pixels: np.ndarray, targets: np.ndarray, processor: ImageProcessor) -> None:
        self.pixels = pixels
        self.targets = targets
        self.processor = processor
        self.lengths = np.ones(len(pixels), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, indices: np.ndarray) -> Batch:
        """``pixel_values`` (batch, 3, height, width), float32, normalised."""
        pixels = self.processor.normalise(torch.from_numpy(self.pixels[indices]))
        return Batch({"pixel_values": pixels}, self.targets_of(indices), indices)

    def targets_of(self, indices: np.ndarray) -> torch.Tensor:
        """(batch,) int64."""
        return torch.from_numpy(self.targets[indices])

    def fingerprint(self) -> str:
        """Of the pixels, and of what their normalisation makes of every possible byte."""
        if not self._fingerprint:
            ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(1, 3, 1, 1)
            self._fingerprint = _digest("image", self.pixels, self.processor.normalise(ramp).numpy())
        return self._fingerprint

    def take(self, indices: np.ndarray) -> ImageExamples:
        """Some of the examples, in that order."""
        return ImageExamples(self.pixels[indices], self.targets[indices], self.processor)


def encode_texts(
    texts: list[str], targets: np.ndarray, processor: TextProcessor, max_length: int | None
) -> TextExamples:
    """Texts as examples. A text that fills the limit is counted in full, to know whether it was cut."""
    ids = processor.encode(texts, max_length)
    limit = processor.max_length if max_length is None else min(max_length, processor.max_length)
    full = np.flatnonzero(np.array([len(row) >= limit for row in ids], dtype=bool))
    cut = np.zeros(len(texts), dtype=bool)
    if len(full):
        cut[full] = processor.lengths([texts[index] for index in full]) > limit
    return TextExamples(ids, targets, processor.pad_id, cut)


def encode_words(
    words: list[list[str]], targets: list[np.ndarray], processor: TextProcessor, max_length: int | None
) -> TokenExamples:
    """Words as examples.

    A word that the tokenizer makes nothing of (a lone zero-width space) becomes an unknown word, so that
    every word that is not cut away gets an output.
    """
    ids, index = (list(rows) for rows in processor.encode_words(words, max_length))
    limit = processor.max_length if max_length is None else min(max_length, processor.max_length)
    for stand_in in (getattr(processor.tokenizer, "unk_token", None) or "?", "?", None):
        empty = [i for i in range(len(words)) if _has_gap(index[i], len(words[i]), room=len(ids[i]) < limit)]
        if not empty:
            break
        if stand_in is None:
            raise ModelError("The tokenizer makes no token of '?': it cannot be used for tagging.")
        mended = [_fill_gaps(words[row], processor, stand_in) for row in empty]
        for row, new_ids, new_index in zip(empty, *processor.encode_words(mended, max_length), strict=True):
            ids[row], index[row] = new_ids, new_index
    return TokenExamples(ids, index, targets, processor.pad_id)


def _has_gap(index: np.ndarray, count: int, *, room: bool) -> bool:
    """Whether one of ``count`` words has no token although the example was not cut there."""
    found = np.unique(index[index >= 0])
    expected = count if room else int(found.max(initial=-1)) + 1
    return len(found) != expected


def _fill_gaps(words: list[str], processor: TextProcessor, stand_in: str) -> list[str]:
    _, index = processor.encode_words([[word] for word in words])
    return [word if (found >= 0).any() else stand_in for word, found in zip(words, index, strict=True)]


def encode_images(
    cells: Sequence[Any], root: str, targets: np.ndarray, processor: ImageProcessor, image_size: int | None,
    rows: Sequence[int],
) -> ImageExamples:  # fmt: skip
    """Images as examples.

    Args:
        cells: File names relative to ``root``, PIL images, or dicts with ``bytes`` or ``path`` (the form of
            `datasets`).
        root: Folder of relative names.
        targets: (n,) int64.
        processor: Decodes, resizes, crops.
        image_size: Side in pixels, or None for the model's own.
        rows: Row numbers in the source, for messages.

    Raises:
        DataError: An image is missing or does not decode; names it and its row.
    """
    pixels: np.ndarray | None = None
    for start in range(0, len(cells), _CHUNK):
        part = [open_image(cells[i], root, rows[i]) for i in range(start, min(start + _CHUNK, len(cells)))]
        encoded = processor.encode(part, image_size)
        if pixels is None:
            pixels = np.empty((len(cells), *encoded.shape[1:]), dtype=np.uint8)
        pixels[start : start + len(part)] = encoded
    return ImageExamples(np.empty((0, 3, 1, 1), np.uint8) if pixels is None else pixels, targets, processor)


def open_image(cell: Any, root: str, row: int) -> Image.Image:
    """One image, upright and in RGB.

    Raises:
        DataError: It is missing or does not decode; names its row.
    """
    source: Any = cell
    if isinstance(cell, dict):
        source = cell.get("bytes") or cell.get("path")
    if is_missing(source):
        raise DataError(f"Row {row} has no image.", "Remove the row.")
    try:
        if isinstance(source, bytes):
            source = Image.open(io.BytesIO(source))
        elif isinstance(source, str | Path):
            source = Path(root) / source
        return as_rgb(source)
    except DataError as error:
        raise DataError(f"Row {row}: {error.message}", "Mend or remove the row.") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"Row {row}: its image does not decode ({error}).", "Remove the row.") from None


def _text_inputs(ids: Ragged, indices: np.ndarray, pad_id: int) -> dict[str, torch.Tensor]:
    padded = ids.padded(indices, pad_id)
    mask = np.arange(padded.shape[1]) < ids.lengths[indices][:, None]
    return {"input_ids": torch.from_numpy(padded), "attention_mask": torch.from_numpy(mask.astype(np.int64))}


def _text_digest(ids: Ragged, pad_id: int) -> str:
    # The padding is masked, but some architectures number positions by what is no padding.
    return _digest("text", ids.lengths, ids.values, np.array(pad_id))


def _digest(kind: str, *arrays: np.ndarray) -> str:
    """Hex digest of arrays with their types and shapes, so that none runs into the next."""
    total = hashlib.blake2b(kind.encode(), digest_size=20)
    for array in arrays:
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def _at_first_token(word_index: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """(tokens,) the word's tag at its first token (-1 where that says nothing), -100 elsewhere."""
    word_index = np.asarray(word_index)
    first = (word_index >= 0) & (np.diff(word_index, prepend=-1) != 0)
    out = np.full(len(word_index), MISSING, dtype=np.int32)
    out[first] = np.maximum(np.asarray(tags, dtype=np.int32)[word_index[first]], -1)
    return out
