from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from luthier.data.leaks import seen_before
from luthier.evaluate.leaks import Leaked, without
from luthier.tasks.base import Columns
from luthier.tasks.text_classification import TextClassification


def test_the_metric_without_rows_that_training_saw() -> None:
    frame = pd.DataFrame({"text": ["t"] * 40, "label": ["no", "yes"] * 20})
    task = TextClassification(Columns({"input": "text", "target": "label"}))
    task.fit(frame)
    targets = task.targets(frame)
    outputs = [np.eye(2)[1 - int(t) if 20 <= i < 30 else int(t)] for i, t in enumerate(targets)]
    leaked = np.arange(40) < 20
    found = without(task, outputs, targets, leaked)
    assert found is not None and (found.rows, found.n, found.value) == (20, 20, 0.5)
    assert found.interval[0] < 0.5 < found.interval[1]
    assert Leaked.from_json(json.loads(json.dumps(found.to_json()))) == found
    grouped = without(task, outputs, targets, leaked, groups=np.arange(40) // 10)
    assert grouped is not None and grouped.interval[0] < found.interval[0] < found.interval[1]
    assert without(task, outputs, targets, leaked & False) is None
    nothing = without(task, outputs, targets, leaked | True)
    assert nothing is not None and nothing.n == 0 and np.isnan(nothing.value)


def test_equal_and_nearly_equal_texts_are_seen() -> None:
    train = pd.DataFrame({"text": ["The quick brown fox jumps over the lazy dog today.", "Another one here"]})
    test = pd.DataFrame(
        {
            "text": [
                "the quick brown fox, jumps over the lazy dog today",
                "The quick brown fox jumps over the lazy dog todays!",
                "Something else altogether, with other words",
                "",
            ]
        }
    )
    assert seen_before(train, test, "text", "text", Path()).tolist() == [True, True, False, False]


def test_images_of_the_same_bytes_are_seen(tmp_path: Path) -> None:
    for name, level in (("a.png", 10), ("b.png", 90), ("c.png", 10)):
        Image.fromarray(np.full((8, 8, 3), level, dtype=np.uint8)).save(tmp_path / name)
    assert (tmp_path / "a.png").stat().st_size == (tmp_path / "b.png").stat().st_size
    train = pd.DataFrame({"image": ["a.png"]})
    test = pd.DataFrame({"image": ["b.png", "c.png"]})
    assert seen_before(train, test, "image", "image", tmp_path).tolist() == [False, True]
