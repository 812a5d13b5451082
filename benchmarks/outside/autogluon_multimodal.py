"""AutoGluon's multimodal predictor on texts: run by an interpreter that has ``autogluon.multimodal``, and by
nothing else, as ``autogluon_multimodal.py GIVEN OUT``.

Its defaults, but for the model, the rows to choose on, the time limit, and what it cannot know: that there is
no GPU. Images are left out, since it takes image models by timm's names alone, and ours is none of those.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

# Held back from its time limit: it loads its best checkpoint, and averages checkpoints, after that.
AFTER = 0.1
DECLARED: list[Any] = []
"""Operators, alive as long as the process: they go with what declared them."""


def declare_operators() -> None:
    """Lets torchvision be imported where its compiled operators do not load, as those of a build for CUDA
    beside a torch for CPUs do not. Texts need none of them; its import wants to know of two.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        declared = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        DECLARED.append(declared)


def table(rows: tuple[list[str], list[int]]) -> pd.DataFrame:
    """Inputs and labels as columns."""
    return pd.DataFrame({"text": rows[0], "label": rows[1]})


def bf16_gains() -> bool:
    """Whether a matrix product is faster in bfloat16 here, as the shortest of a few tries has it."""
    shortest = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = torch.randn(512, 384, dtype=dtype), torch.randn(384, 1536, dtype=dtype)
        times = []
        for _ in range(8):
            began = time.perf_counter()
            left @ right
            times.append(time.perf_counter() - began)
        shortest[dtype] = min(times)
    return shortest[torch.float32] > 1.15 * shortest[torch.bfloat16]


def answered(given: dict[str, Any], folder: str) -> dict[str, Any]:
    """Fits within the budget, and answers the test inputs."""
    from autogluon.multimodal import MultiModalPredictor

    precision = "bf16-mixed" if bf16_gains() else "32-true"
    # It refuses two classes as a multiclass problem.
    kind = "binary" if len(set(given["splits"]["train"][1])) == 2 else "multiclass"
    predictor = MultiModalPredictor(
        label="label", problem_type=kind, eval_metric="accuracy", path=f"{folder}/fit", verbosity=1
    )
    left = given["budget"] - (time.time() - given["started"]) - AFTER * given["budget"]
    predictor.fit(
        table(given["splits"]["train"]),
        tuning_data=table(given["splits"]["validation"]),
        time_limit=max(int(left), 1),
        column_types={"text": "text"},
        seed=given["seed"],
        hyperparameters={
            "model.names": ["hf_text"],
            "model.hf_text.checkpoint_name": given["path"],
            "env.num_gpus": 0,
            "env.precision": precision,
            # Its workers would each take one of the cores that the training needs.
            "env.num_workers": 0,
            "env.num_workers_inference": 0,
        },
    )
    seconds = time.time() - given["started"]
    answers = predictor.predict(pd.DataFrame({"text": given["test"]}))
    return {"answers": [int(answer) for answer in answers], "seconds": seconds, "note": precision}


def main() -> None:
    question, answer = sys.argv[1:]
    given = json.loads(Path(question).read_text())
    torch.set_num_threads(os.cpu_count() or 1)
    declare_operators()
    with tempfile.TemporaryDirectory() as folder:
        found = answered(given, folder)
    Path(answer).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
