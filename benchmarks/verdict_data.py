"""What runs with a known trouble are made of: tiny networks with random weights, and rows with or without the
trouble. The runs themselves are in `verdict_cases`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

INTENTS = Path(__file__).parent.parent / "demo" / "intents"
SYLLABLES = ("ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru", "sa", "te")
WORDS = [first + second for first in SYLLABLES for second in SYLLABLES]
"""The made language; a class owns `OWN` of its words, and all classes share the rest."""
OWN = 10


def tiny(folder: Path) -> Path:
    """A two-layer BERT of random weights whose tokens are the made words, written as its publishers would."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: at for at, word in enumerate([*special, *WORDS, *(f"code{at}" for at in range(8))])}
    pieces = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    pieces.pre_tokenizer = pre_tokenizers.Whitespace()
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=pieces, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=48,
    ).save_pretrained(folder)  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        config = BertConfig(
            vocab_size=len(vocabulary), hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=96, max_position_embeddings=48, pad_token_id=0, initializer_range=0.1,
        )  # fmt: skip
        BertModel(config).save_pretrained(folder)
    return folder


def tiny_image(folder: Path) -> Path:
    """A small ConvNeXt of random weights, with its image processor."""
    import torch
    from transformers import ConvNextConfig, ConvNextModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        config = ConvNextConfig(num_stages=2, hidden_sizes=[16, 32], depths=[1, 2], initializer_range=0.1)
        ConvNextModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32},
                "crop_pct": 0.875,
                "do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
                "resample": 2, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25],
            }
        )
    )  # fmt: skip
    return folder


# -- data ----------------------------------------------------------------------------------------------------


def topics(
    rows: int, seed: int, *, classes: int = 3, signal: float = 0.45, weights: Any = None
) -> pd.DataFrame:
    """Texts of 8 to 14 made words, each a word of the text's class with probability ``signal``."""
    rng = np.random.default_rng([seed, rows])
    common = WORDS[classes * OWN :]
    labels = rng.choice(classes, rows, p=weights)
    texts = []
    for label in labels:
        own = WORDS[label * OWN : (label + 1) * OWN]
        length = int(rng.integers(8, 15))
        texts.append(
            " ".join(str(rng.choice(own if rng.random() < signal else common)) for _ in range(length))
        )
    return pd.DataFrame({"text": texts, "label": [f"topic{label}" for label in labels]})


def intents(rows: int, seed: int) -> pd.DataFrame:
    """Some of the demo's questions, by topic."""
    frame = pd.concat([pd.read_csv(INTENTS / f"{name}.csv") for name in ("train", "test")], ignore_index=True)
    return frame.sample(rows, random_state=seed).reset_index(drop=True)


def ratings(rows: int, seed: int) -> pd.DataFrame:
    """Texts with a number that grows with how many words of the first topic they have."""
    frame = topics(rows, seed, classes=2, signal=0.35)
    rng = np.random.default_rng([seed, 1])
    first = set(WORDS[:OWN])
    counts = np.array([sum(word in first for word in text.split()) for text in frame["text"]])
    return pd.DataFrame({"text": frame["text"], "rating": counts + rng.normal(0, 0.3, rows)})


def noisy(frame: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """The same rows with a share of the labels replaced by another one."""
    rng = np.random.default_rng([seed, 2])
    names = sorted(frame["label"].unique())
    labels = frame["label"].to_numpy(dtype=object).copy()
    for row in np.flatnonzero(rng.random(len(frame)) < share):
        labels[row] = rng.choice([name for name in names if name != labels[row]])
    return frame.assign(label=labels)


def shuffled(frame: pd.DataFrame, column: str, seed: int) -> pd.DataFrame:
    """The same rows with another row's answer each."""
    answers = frame[column].sample(frac=1, random_state=seed).to_numpy()
    return frame.assign(**{column: answers})


def leaking(folder: Path, frame: pd.DataFrame, share: float, *, near: bool = False) -> Path:
    """Train and test files, with a share of the test rows taken from training; word for word, or nearly."""
    folder.mkdir(parents=True, exist_ok=True)
    cut = int(0.75 * len(frame))
    train, test = frame[:cut], frame[cut:].copy().reset_index(drop=True)
    taken = train[: int(share * len(test))].copy()
    if near:
        taken["text"] = taken["text"] + " " + WORDS[-1]
    test = pd.concat([taken, test[len(taken) :]], ignore_index=True)
    train.to_csv(folder / "train.csv", index=False)
    test.to_csv(folder / "test.csv", index=False)
    return folder


def coded(frame: pd.DataFrame) -> pd.DataFrame:
    """The same rows with a code in each text that says its label."""
    codes = {name: f"code{at}" for at, name in enumerate(sorted(frame["label"].unique()))}
    texts = [f"{text} {codes[label]}" for text, label in zip(frame["text"], frame["label"], strict=True)]
    return frame.assign(text=texts)


def pictures(
    folder: Path, rows: int, seed: int, *, contrast: float, sides: tuple[int, int] = (32, 32)
) -> Path:
    """Noisy images of two classes, by whether red or blue is stronger by ``contrast``; 0 shows neither."""
    from PIL import Image

    rng = np.random.default_rng([seed, 3])
    for row in range(rows):
        side, sign = sides[row % 2], 1 if row % 2 else -1
        tint = np.array([sign * contrast, 0.0, -sign * contrast]) / 2 + rng.normal(0, 10, 3)
        pixels = 128 + rng.normal(0, 30) + tint + rng.normal(0, 30, (side, side, 3))
        target = folder / ("blue", "red")[row % 2] / f"{row}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(target)
    return folder


def several(rows: int, seed: int) -> pd.DataFrame:
    """Texts with any number of topics, joined by semicolons."""
    rng = np.random.default_rng([seed, 4])
    texts, labels = [], []
    for _ in range(rows):
        present = [at for at in range(3) if rng.random() < 0.45]
        words = [str(word) for at in present for word in rng.choice(WORDS[at * OWN : (at + 1) * OWN], 4)]
        words += [str(word) for word in rng.choice(WORDS[3 * OWN :], 5)]
        texts.append(" ".join(rng.permutation(words)))
        labels.append(";".join(f"topic{at}" for at in present) or "none")
    return pd.DataFrame({"text": texts, "labels": labels})
