"""Processors that need no model, and a small table for each task."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image


class CharacterProcessor:
    """Every three characters of a word are a token; 1 and 2 are the ends; a zero-width space is none."""

    pad_id = 0

    def __init__(self, max_length: int = 64) -> None:
        self.max_length = max_length
        self.tokenizer = SimpleNamespace(unk_token="?")

    def _pieces(self, word: str) -> list[int]:
        word = word.replace("\u200b", "")
        return [3 + sum(map(ord, word[i : i + 3])) % 997 for i in range(0, len(word), 3)]

    def _join(self, words: list[str], limit: int) -> tuple[np.ndarray, np.ndarray]:
        pairs = [(piece, index) for index, word in enumerate(words) for piece in self._pieces(word)][
            : limit - 2
        ]
        ids = [1, *(piece for piece, _ in pairs), 2]
        return np.array(ids, dtype=np.int32), np.array(
            [-1, *(index for _, index in pairs), -1], dtype=np.int32
        )

    def encode(self, texts: list[str], max_length: int | None = None) -> list[np.ndarray]:
        return self.encode_words([text.split() for text in texts], max_length)[0]

    def lengths(self, texts: list[str]) -> np.ndarray:
        return np.array([len(self._join(text.split(), 10**9)[0]) for text in texts])

    def encode_words(
        self, words: list[list[str]], max_length: int | None = None
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        limit = min(max_length or self.max_length, self.max_length)
        rows = [self._join(row, limit) for row in words]
        return [ids for ids, _ in rows], [index for _, index in rows]


class SquareProcessor:
    """Resizes to a square; normalises to -1..1."""

    image_size = 8

    def encode(self, images: list[Any], image_size: int | None = None) -> np.ndarray:
        side = (image_size or self.image_size,) * 2
        return np.stack([np.asarray(image.resize(side)).transpose(2, 0, 1) for image in images])

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.float() / 127.5 - 1


def text_frame() -> pd.DataFrame:
    words = {
        "sport": "the team won a match",
        "food": "bread with warm soup",
        "music": "a song played on strings",
    }
    rows = [(f"{text} number {i}", name) for i in range(6) for name, text in words.items()]
    return pd.DataFrame(rows, columns=["text", "label"])


def token_frame() -> pd.DataFrame:
    rows = [
        (["Anna", "went", "to", "Rome"], ["B-person", "O", "O", "B-place"]),
        (["nobody", "went"], ["O", "O"]),
        (["Saint", "Anna", "of", "Rome", "sat"], ["B-person", "I-person", "O", "B-place", "O"]),
        (["New", "York", "\u200b", "sleeps"], ["B-place", "I-place", "O", "O"]),
        (["internationalisation", "Anna"], ["O", "B-person"]),
    ]
    return pd.DataFrame(rows * 3, columns=["tokens", "tags"])


def multi_frame() -> pd.DataFrame:
    rows = [
        ("soup at the match", ["food", "sport"]),
        ("bread", ["food"]),
        ("a song", ["music"]),
        ("the team", ["sport"]),
        ("nothing at all", []),
    ]
    return pd.DataFrame(rows * 3, columns=["text", "labels"])


def regression_frame() -> pd.DataFrame:
    rows = [
        (" ".join(["good"] * i + ["plain"] * (5 - i)) + f" item {j}", i * 1.5 + 0.25)
        for j in range(4)
        for i in range(5)
    ]
    return pd.DataFrame(rows, columns=["review", "score"])


def image_frame(folder: Path) -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    for i in range(12):
        name, base = (("dark", 40), ("light", 200))[i % 2]
        pixels = np.clip(rng.normal(base, 20, (12, 10, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        rows.append((f"{i}.png", name))
    return pd.DataFrame(rows, columns=["image", "label"])
