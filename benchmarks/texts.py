"""Real texts for monitoring: a classifier of sentiment whose requests turn into questions.

Made streams are in `streams`; what is asked of them in `monitor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from luthier.monitor.judge import Judge
from luthier.monitor.judgement import Reference, Requests, Settings
from table import row

TRAINED, HELD_OUT, BEFORE, AFTER = 400, 400, 300, 300
LOOK = 50
BATCH = 32


def sst2_to_trec6(data: Path) -> list[dict[str, Any]]:
    """When the change is found, and what is said of accuracy on texts that have no sentiment.

    Args:
        data: The folder that has ``sst2`` and ``trec6``.

    Returns:
        No row where the data is missing, and why on the standard output.
    """
    if not (data / "sst2").is_dir() or not (data / "trec6").is_dir():
        print(f"sst2-to-trec6 is left out: {data} has no sst2 or trec6; SHARED says where else they are")
        return []
    frame = pd.read_csv(data / "sst2" / "train.csv").sample(TRAINED + HELD_OUT + BEFORE, random_state=0)
    questions = pd.read_csv(data / "trec6" / "test.csv").sample(AFTER, random_state=0)["text"].tolist()
    names, truths = np.unique(frame["label"], return_inverse=True)
    features, lengths = embedded([*frame["text"], *questions])
    outputs = probe(features[:TRAINED], truths[:TRAINED], features)
    held, asked = slice(TRAINED, TRAINED + HELD_OUT), slice(TRAINED + HELD_OUT, None)
    answered, right = outputs[held].argmax(axis=1), outputs[held].argmax(axis=1) == truths[held]
    confusion = np.zeros((2, 2), dtype=np.int64)
    np.add.at(confusion, (truths[held], answered), 1)
    reference = Reference(
        "class",
        tuple(map(str, names)),
        outputs[held],
        np.bincount(answered, minlength=2),
        1 / np.exp(outputs[held] - outputs[held].max(axis=1, keepdims=True)).sum(axis=1),
        right,
        np.arange(HELD_OUT),
        confusion,
        features=features[held],
        statistics={"length": lengths[held]},
    )
    requests = Requests(
        [str(i) for i in range(BEFORE + AFTER)],
        np.arange(BEFORE + AFTER, dtype=np.float64),
        outputs[asked],
        features[asked],
        {"length": lengths[asked]},
    )
    return _told(reference, requests)


def _told(reference: Reference, requests: Requests) -> list[dict[str, Any]]:
    judge = Judge(reference, Settings(short=100, long=300))
    ends = range(BEFORE, BEFORE + AFTER + 1, LOOK)
    looks = [judge.judge(requests.at(np.arange(end)), new=LOOK) for end in ends]
    found = [end - BEFORE for end, look in zip(ends, looks, strict=True) if look.drifted]
    harm = [end - BEFORE for end, look in zip(ends, looks, strict=True) if look.harm]
    last, usual = looks[-1].estimate, looks[0]
    assert last is not None
    assert usual.estimate is not None
    onset = looks[-1].onset
    began = "" if onset is None else f"; begins {onset.began - BEFORE:+.0f} requests from the change"
    alarm = f"harm after {min(harm)} requests" if harm else "no harm"
    return [
        row("sst2-to-trec6: the change is found after", float(min(found, default=np.inf)), "requests",
            spread=f"drift before it: {'yes' if usual.drifted else 'no'}; by "
            f"{looks[-1].explanation.statistic}{began}", bar="<= 100",
            met=bool(found) and min(found) <= 100 and not usual.drifted),
        row("sst2-to-trec6: accuracy said of questions, which have no right answer", 100 * last.value, "%",
            peer=f"tested {100 * last.tested:.1f}%, said before the change {100 * usual.estimate.value:.1f}%",
            spread=f"interval {100 * last.interval[0]:.0f} to {100 * last.interval[1]:.0f}%; {alarm}"),
    ]  # fmt: skip


def embedded(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(n, 384) mean word vectors of the packaged MiniLM, and (n,) lengths in tokens."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    from luthier.models.source import find

    path = find("minilm", "text").path
    tokenizer, network = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
    order = np.argsort([len(text) for text in texts], kind="stable")
    vectors, lengths = np.empty((len(texts), network.config.hidden_size)), np.empty(len(texts))
    with torch.inference_mode():
        for start in range(0, len(texts), BATCH):
            at = order[start : start + BATCH]
            batch = tokenizer([texts[i] for i in at], padding=True, truncation=True, return_tensors="pt")
            mask = batch["attention_mask"][..., None]
            states = network(**batch).last_hidden_state
            vectors[at] = ((states * mask).sum(dim=1) / mask.sum(dim=1)).numpy()
            lengths[at] = mask.sum(dim=(1, 2)).numpy()
    return vectors, lengths


def probe(features: np.ndarray, classes: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """(n, 2) logits of a linear probe."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500)).fit(features, classes)
    margin = fitted.decision_function(asked)
    return np.stack([-margin / 2, margin / 2], axis=1)
