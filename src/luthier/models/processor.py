"""From rows to numbers as a model was trained on them: its tokenizer, or its image processor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import pre_tokenizers
from transformers import CONFIG_MAPPING, AutoImageProcessor, AutoTokenizer

from luthier.errors import ModelError, SettingError
from luthier.models.pixels import as_rgb
from luthier.models.source import Source

# These number positions from padding_idx + 1 on, so two of the table's rows are never a token's.
OFFSET_POSITIONS = {"roberta", "xlm-roberta", "camembert", "mpnet"}
VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model", "spiece.*")
SHORTEST = 4
"""A maximum length below this leaves no room for a text between its special tokens."""


class TextProcessor:
    """A fast tokenizer with the model's true limit.

    Attributes:
        max_length: Tokens the model can read, special ones included.
        pad_id: What shorter texts are padded with.
    """

    def __init__(self, path: Path, config: dict[str, Any], name: str) -> None:
        self._path, self._name = path, name
        self.tokenizer = self._load()
        self.max_length = _limit(self.tokenizer, config)
        self.pad_id = int(self.tokenizer.pad_token_id or 0)
        self._words: Any = None

    def encode(self, texts: list[str], max_length: int | None = None) -> list[np.ndarray]:
        """Token ids of each text, special tokens included, cut to a length but not padded.

        Args:
            texts: Any strings; an empty one gives the special tokens alone.
            max_length: Tokens kept; None, or more than the model can read, means all it can.

        Returns:
            One int32 array (length,) for each text.
        """
        limit = self._clamp(max_length)
        ids = self.tokenizer(
            list(texts),
            truncation=True,
            max_length=limit,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        return [np.asarray(row, dtype=np.int32) for row in ids]

    def encode_words(
        self, words: list[list[str]], max_length: int | None = None
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Token ids of texts that are already split into words, and the word each token comes from.

        A word may give no token at all (an empty string), or be beyond the maximum length; it is then in no
        array.

        Args:
            words: The words of each text.
            max_length: As for `encode`.

        Returns:
            For each text, int32 ids (length,) and int32 word indices (length,), -1 for special tokens.
        """
        limit = self._clamp(max_length)
        encoded = self.words_tokenizer(
            [list(row) for row in words],
            is_split_into_words=True,
            truncation=True,
            max_length=limit,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        ids = [np.asarray(row, dtype=np.int32) for row in encoded["input_ids"]]
        index = [
            np.asarray([-1 if word is None else word for word in encoded.word_ids(i)], dtype=np.int32)
            for i in range(len(ids))
        ]
        return ids, index

    def lengths(self, texts: list[str]) -> np.ndarray:
        """(n,) tokens of each text, special ones included, if nothing were cut."""
        rows = self.tokenizer(
            list(texts),
            truncation=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        return np.asarray([len(row) for row in rows], dtype=np.int64)

    @property
    def words_tokenizer(self) -> Any:
        """The tokenizer for texts split into words: byte-level ones must put a space before each word."""
        if self._words is None:
            spaced = "ByteLevel" in str(self.tokenizer.backend_tokenizer.pre_tokenizer)
            self._words = _put_spaces(self._load(add_prefix_space=True)) if spaced else self.tokenizer
        return self._words

    def save(self, directory: Path, max_length: int | None = None, *, words: bool = False) -> None:
        """Writes the tokenizer so that ``AutoTokenizer`` loads it and cuts at the trained length.

        Args:
            directory: An existing folder.
            max_length: Length the model was trained with; None for its limit.
            words: Whether it will read texts split into words.
        """
        tokenizer = self.words_tokenizer if words else self.tokenizer
        previous = tokenizer.model_max_length
        tokenizer.model_max_length = self._clamp(max_length)
        try:
            tokenizer.save_pretrained(directory)
        finally:
            tokenizer.model_max_length = previous

    def _clamp(self, max_length: int | None) -> int:
        if max_length is not None and max_length < SHORTEST:
            raise SettingError(f"max_length cannot be {max_length}: at least {SHORTEST} tokens are needed.")
        return self.max_length if max_length is None else min(max_length, self.max_length)

    def _load(self, **options: Any) -> Any:
        # Without any of its files, transformers makes a tokenizer that knows no words.
        if not any(next(self._path.glob(pattern), None) for pattern in VOCABULARIES):
            raise ModelError(
                f"The tokenizer of {self._name!r} cannot be loaded: no {VOCABULARIES[0]} is there."
            )
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                self._path, local_files_only=True, trust_remote_code=False, **options
            )
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
            raise ModelError(
                f"The tokenizer of {self._name!r} cannot be loaded: {_first_line(error)}",
                "The folder must hold tokenizer.json (or the vocabulary) and tokenizer_config.json.",
            ) from None
        if not tokenizer.is_fast:
            raise ModelError(
                f"Model {self._name!r} has only a slow tokenizer.", "A tokenizer.json is needed."
            )
        # Some are published with a length and padding of their own use baked in.
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
        return tokenizer


class ImageProcessor:
    """A transformers image processor in two halves: resize and crop to bytes once, normalise each batch.

    Attributes:
        image_size: Side in pixels of the images the model was trained on.
    """

    def __init__(self, path: Path, name: str) -> None:
        try:
            self._processor = AutoImageProcessor.from_pretrained(path, backend="pil", local_files_only=True)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
            raise ModelError(
                f"The image processor of {name!r} cannot be loaded: {_first_line(error)}",
                "The folder must hold preprocessor_config.json.",
            ) from None
        self._name = name
        self._square()
        self.image_size = self._side({})
        options = self._processor
        self._scale = float(options.rescale_factor) if options.do_rescale else 1.0
        normalises = bool(options.do_normalize)
        self._mean = torch.tensor(options.image_mean if normalises else [0.0] * 3, dtype=torch.float32).view(
            3, 1, 1
        )
        self._std = torch.tensor(options.image_std if normalises else [1.0] * 3, dtype=torch.float32).view(
            3, 1, 1
        )

    def encode(
        self, images: Sequence[str | Path | Image.Image | np.ndarray], image_size: int | None = None
    ) -> np.ndarray:
        """Resizes and crops as the model's own processor does.

        Args:
            images: Files, pictures, or arrays (height, width[, channels]).
            image_size: Side of the result; None for the model's own. Resize and crop keep their proportion.

        Returns:
            uint8 (n, 3, height, width).

        Raises:
            DataError: A file does not decode; names it.
        """
        overrides = self._sizes(image_size)
        if not len(images):
            side = image_size or self.image_size
            return np.empty((0, 3, side, side), dtype=np.uint8)
        return np.concatenate([self._pixels(as_rgb(image), overrides) for image in images])

    def normalise(self, batch: torch.Tensor) -> torch.Tensor:
        """uint8 (n, 3, h, w) to float32, equal to the ``pixel_values`` of the transformers processor."""
        mean, std = self._mean.to(batch.device), self._std.to(batch.device)
        return (batch.to(torch.float32) * self._scale - mean) / std

    def save(self, directory: Path, image_size: int | None = None) -> None:
        """Writes the processor, with the trained size, so that ``AutoImageProcessor`` loads it."""
        previous = {
            key: getattr(self._processor, key)
            for key in ("size", "crop_size")
            if hasattr(self._processor, key)
        }
        try:
            for key, value in self._sizes(image_size).items():
                setattr(self._processor, key, value)
            self._processor.save_pretrained(directory)
        finally:
            for key, value in previous.items():
                setattr(self._processor, key, value)

    def _pixels(self, image: Image.Image, overrides: dict[str, Any]) -> np.ndarray:
        pixels = self._processor(
            [image], do_rescale=False, do_normalize=False, return_tensors="np", **overrides
        )["pixel_values"]
        return np.asarray(pixels, dtype=np.uint8)

    def _sizes(self, image_size: int | None) -> dict[str, Any]:
        if image_size is None or image_size == self.image_size:
            return {}
        ratio = image_size / self.image_size
        sizes: dict[str, Any] = {}
        for key in ("size", "crop_size"):
            value = getattr(self._processor, key, None)
            if value is not None:
                sizes[key] = {
                    k: max(1, round(v * ratio)) for k, v in dict(value).items() if isinstance(v, int | float)
                }
        return sizes

    def _side(self, overrides: dict[str, Any]) -> int:
        return int(self._pixels(Image.new("RGB", (48, 32)), overrides).shape[-2])

    def _square(self) -> None:
        """Some processors keep the picture's shape; batches need one, so the middle is cut out of it."""
        wide = self._pixels(Image.new("RGB", (48, 32)), {}).shape
        if wide != self._pixels(Image.new("RGB", (32, 48)), {}).shape:
            side = min(wide[-2:])
            self._processor.do_center_crop = True
            self._processor.crop_size = {"height": side, "width": side}


Processor = TextProcessor | ImageProcessor


def load(source: Source, modality: str) -> Processor:
    """The tokenizer or image processor of a model.

    Raises:
        ModelError: It is missing or cannot be loaded safely.
    """
    return open_folder(source.path, modality, source.config, source.name)


def open_folder(path: Path, modality: str, config: dict[str, Any], name: str) -> Processor:
    """As `load`, from a folder that need not be a pre-trained model's."""
    return TextProcessor(path, config, name) if modality == "text" else ImageProcessor(path, name)


def _limit(tokenizer: Any, config: dict[str, Any]) -> int:
    model_type = str(config.get("model_type"))
    defaults = CONFIG_MAPPING[model_type]()
    positions = int(config.get("max_position_embeddings") or defaults.max_position_embeddings)
    if model_type in OFFSET_POSITIONS:
        positions -= 2
    return min(positions, int(min(tokenizer.model_max_length, 10**9)))


def _put_spaces(tokenizer: Any) -> Any:
    """Has the byte-level step put a space before each word, also in classes that ignore the option."""
    step: Any = tokenizer.backend_tokenizer.pre_tokenizer
    nested = isinstance(step, pre_tokenizers.Sequence)
    for part in list(step) if nested else [step]:
        if isinstance(part, pre_tokenizers.ByteLevel):
            part.add_prefix_space = True
    tokenizer.backend_tokenizer.pre_tokenizer = step
    return tokenizer


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
