"""Small made data sets whose answers can be learnt in seconds."""

from __future__ import annotations

from pathlib import Path

import models_tiny
import numpy as np
import pandas as pd
from PIL import Image

# Words that the tiny models know, without the ones that say the answer.
WORDS = models_tiny.WORDS[:15]


def sentences(rows: int, seed: int = 0) -> pd.DataFrame:
    """Texts whose label is said by one word among others."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for row in range(rows):
        words = list(rng.choice(WORDS, int(rng.integers(3, 11))))
        words.insert(int(rng.integers(len(words))), "good" if row % 2 else "bad")
        texts.append(" ".join(words))
        labels.append("yes" if row % 2 else "no")
    return pd.DataFrame({"text": texts, "label": labels})


def ratings(rows: int, seed: int = 0) -> pd.DataFrame:
    """Texts with a number that grows with how often they say good."""
    frame = sentences(rows, seed)
    rng = np.random.default_rng(seed + 1)
    goods = rng.integers(0, 4, rows)
    frame["text"] = [
        text.replace("bad", "") + " good" * int(n) for text, n in zip(frame["text"], goods, strict=True)
    ]
    frame["rating"] = goods + rng.normal(0, 0.1, rows)
    return frame.drop(columns="label")


def topics(rows: int, seed: int = 0) -> pd.DataFrame:
    """Texts with any number of labels, joined by semicolons."""
    frame = sentences(rows, seed)
    named = [
        ";".join(w for w in ("cat", "dog", "bird") if w in text.split()) or "other" for text in frame["text"]
    ]
    return pd.DataFrame({"text": frame["text"], "labels": named})


def conll(path: Path, rows: int, seed: int = 0) -> None:
    """Sentences in which animals are entities, one word a line."""
    lines = []
    for text in sentences(rows, seed)["text"]:
        lines += [f"{word}\t{'B-animal' if word in {'cat', 'dog', 'bird'} else 'O'}" for word in text.split()]
        lines.append("")
    path.write_text("\n".join(lines) + "\n")


def pictures(folder: Path, rows: int, seed: int = 0) -> None:
    """Noisy images by class, bright ones and dark ones, in train/ and test/."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", rows), ("test", max(4, rows // 4))):
        for row in range(count):
            label, level = ("bright", 190) if row % 2 else ("dark", 60)
            pixels = np.clip(rng.normal(level, 20, (24, 24, 3)), 0, 255).astype(np.uint8)
            target = folder / split / label / f"{row}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(target)
