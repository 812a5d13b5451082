"""SetFit: contrastive tuning of a sentence encoder on pairs, then logistic regression on its embeddings. Run
by an interpreter that has ``setfit``, and by nothing else, as ``setfit_pairs.py GIVEN OUT``.

Its defaults (batches of 16 pairs, as many alike as not, 2e-5), all rows for the head, and as many steps on
pairs drawn from all rows as its ``max_steps`` allows to end in time: each part is timed on a few rows first.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments
from setfit.sampler import ContrastiveDataset
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

FEW_ROWS, FEW_STEPS = 600, 8
# Sampling lays all pairs of its rows out before it draws: timed on rows of which that takes a moment, and
# dearer by this much where they outgrow the processor's cache (10,000 rows: 5 s, and 2 GiB for that time).
PAIR_ROWS, DEARER = 3000, 2.5
BATCH = 16
# Of what is left for steps: a machine that slows down should not cut the last of a decaying rate off.
SHARE = 0.92


@dataclass
class Costs:
    """Seconds of a step, of a pair of rows laid out for sampling, and of a row embedded and fitted."""

    step: float
    pair: float
    row: float

    def steps(self, rows: int, left: float) -> int:
        """How many fit into the seconds left, and one at least."""
        fixed = DEARER * self.pair * rows**2 / 2 + 1.3 * self.row * rows
        return max(1, int(SHARE * (left - fixed) / self.step))


class Clock(TrainerCallback):
    """Times steps, and stops a training when its time is over."""

    def __init__(self, left: Callable[[], float] = lambda: 1.0) -> None:
        self.left = left
        self.times: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Once a step."""
        self.times.append(time.perf_counter())
        control.should_training_stop = control.should_training_stop or self.left() <= 0


def tune(
    model: SetFitModel, texts: list[str], labels: list[int], steps: int, seed: int, clock: Clock
) -> None:
    """The encoder's part of the training."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=folder, batch_size=BATCH, max_steps=steps, seed=seed, report_to="none",
                save_strategy="no", logging_strategy="no", show_progress_bar=False,
            ),
            train_dataset=Dataset.from_dict({"text": texts, "label": labels}),
            callbacks=[clock],
        )  # fmt: skip
        for each in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(each)
        trainer.train_embeddings(texts, labels, args=trainer.args)


def rehearse(given: dict[str, Any], texts: list[str], labels: list[int]) -> Costs:
    """What each part costs here, from a few rows of a model that is thrown away."""
    drawn = np.random.default_rng(0).permutation(len(texts))[:FEW_ROWS]
    few, answers = [texts[at] for at in drawn], [labels[at] for at in drawn]
    laid_out = min(PAIR_ROWS, len(texts))
    began = time.perf_counter()
    ContrastiveDataset(texts[:laid_out], labels[:laid_out], False, max_pairs=BATCH)
    pair = (time.perf_counter() - began) / (laid_out**2 / 2)
    model, clock = SetFitModel.from_pretrained(given["path"]), Clock()
    tune(model, few, answers, FEW_STEPS, given["seed"], clock)
    began = time.perf_counter()
    model.fit(few, answers, num_epochs=1, show_progress_bar=False)
    row = (time.perf_counter() - began) / len(few)
    # The median: the first steps are slower than those that follow.
    return Costs(float(np.median(np.diff(clock.times))), pair, row)


def answered(given: dict[str, Any]) -> dict[str, Any]:
    """Trains within the budget, and answers the test inputs."""
    texts, labels = (
        [*first, *second]
        for first, second in zip(given["splits"]["train"], given["splits"]["validation"], strict=True)
    )
    costs = rehearse(given, texts, labels)

    def left() -> float:
        return float(given["budget"] - (time.time() - given["started"]))

    steps = costs.steps(len(texts), left())
    model, head = SetFitModel.from_pretrained(given["path"]), 1.3 * costs.row * len(texts)
    clock = Clock(lambda: left() - head)
    # In float32: in bfloat16 all texts came to the same embedding (accuracy .188 on trec6 after 1,359 steps).
    tune(model, texts, labels, steps, given["seed"], clock)
    model.fit(texts, labels, num_epochs=1, show_progress_bar=False)
    seconds = given["budget"] - left()
    answers = model.predict(given["test"], use_labels=False, show_progress_bar=False)
    taken = f"{len(clock.times)} of {steps} steps planned, {BATCH * len(clock.times)} pairs"
    return {
        "answers": [int(answer) for answer in answers],
        "seconds": seconds,
        "note": f"{taken}, float32",
    }


def main() -> None:
    question, answer = sys.argv[1:]
    torch.set_num_threads(os.cpu_count() or 1)
    Path(answer).write_text(json.dumps(answered(json.loads(Path(question).read_text()))))


if __name__ == "__main__":
    main()
