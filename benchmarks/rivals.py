"""What people do today on given splits, with a model's own weights: an Optuna study that drives transformers'
`Trainer`, and logistic regression on embeddings. Which data, and when a clock started, is `racers`' and
`contenders`' to say.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

POWERS = (0.1, 1.0, 10.0, 100.0, 1000.0)
# Steps that are timed before a study is planned, after one that is not.
REHEARSED = 5
SIDES = (128, 224)
"""Sides in pixels that an image study chooses from, as our default space does for a model of 224."""


@dataclass
class Given:
    """What a contender is given.

    Attributes:
        modality: Of the inputs: texts, or files of images.
        splits: Inputs and the numbers of their labels, by ``train`` and ``validation``.
        test: Inputs alone.
        num_labels: How many there are.
        path: The model's folder.
        seed: Of all that is random.
        started: When the contender's process was, in seconds since the epoch.
        budget: Seconds from then until the model must be ready.
    """

    modality: Literal["text", "image"]
    splits: dict[str, tuple[list[str], list[int]]]
    test: list[str]
    num_labels: int
    path: str
    seed: int
    started: float
    budget: float

    @classmethod
    def read(cls, path: str) -> Given:
        """What was written as JSON."""
        return cls(**json.loads(Path(path).read_text()))

    @property
    def passed(self) -> float:
        """Seconds since the start."""
        return time.time() - self.started

    @property
    def left(self) -> float:
        """Seconds until the end of the budget."""
        return self.budget - self.passed


class Curve:
    """The best validation accuracy so far, by the time at which it was known."""

    def __init__(self, started: float) -> None:
        self.started = started
        self.points: list[list[float]] = []

    def add(self, score: float) -> None:
        """Takes note of a score."""
        if not self.points or score > self.points[-1][1]:
            self.points.append([time.time() - self.started, score])


def usual_epochs(given: Given) -> tuple[int, int]:
    """The range of our own default space."""
    seen = 20_000 if given.modality == "text" else 12_000
    centre = min(max(round(seen / len(given.splits["train"][0])), 3), 12)
    return max(2, round(0.6 * centre)), round(1.75 * centre)


def epochs_that_fit(usual: tuple[int, int], epoch_seconds: float, budget: float) -> tuple[int, int]:
    """A range of epochs of which the longest trial takes no more than half the budget, and one at least.

    A study that was planned without a look at the clock would not end its first trial where epochs are slow.
    """
    most = max(1, min(usual[1], int(0.5 * budget / epoch_seconds)))
    return min(usual[0], most), most


class TrainerStudy:
    """TPE over the ranges of our own default space for full fine-tuning, pruned by the median, a `Trainer` a
    trial: what its own documentation of hyperparameter search shows, with fair ranges, padding to the longest
    in a batch, and no saving.

    Args:
        given: Data, model and budget.
        curve: Told of validation scores.
        bf16: Whether it trains in bfloat16.
    """

    def __init__(self, given: Given, curve: Curve, *, bf16: bool = False) -> None:
        import torch
        from transformers import AutoImageProcessor, AutoTokenizer

        torch.set_num_threads(os.cpu_count() or 1)
        self.given, self.curve, self.bf16 = given, curve, bf16
        if given.modality == "text":
            self.processor = AutoTokenizer.from_pretrained(given.path)
        else:
            self.processor = AutoImageProcessor.from_pretrained(given.path, backend="pil")
        self.best: tuple[float, Any, int | None] = (-1.0, None, None)

    def run(self, epochs: tuple[int, int]) -> dict[str, Any]:
        """Searches until the budget ends, and answers the test inputs.

        Args:
            epochs: The range that trials choose from.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        given = self.given
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=given.seed))
        study.optimize(lambda trial: self._objective(trial, study, epochs), timeout=given.left)
        took = given.passed
        return {
            "curve": self.curve.points, "trials": len(study.trials), "seconds": took,
            "answers": self._answers(),
            "note": f"{'bfloat16' if self.bf16 else 'float32'}, {epochs[0]} to {epochs[1]} epochs",
        }  # fmt: skip

    def epoch_seconds(self) -> float:
        """Of the usual batch size, from a few timed steps."""
        size = 32
        texts, labels = self.given.splits["train"]
        few = self._rows(texts[: (1 + REHEARSED) * size], labels, SIDES[0])
        ends: list[float] = []
        watch = _callback(on_step_end=lambda *_: ends.append(time.perf_counter()))
        with tempfile.TemporaryDirectory() as folder:
            settings = {"per_device_train_batch_size": size, "num_train_epochs": 1, "eval_strategy": "no"}
            trainer = self._trainer(self._new(), few, None, folder, **settings)
            trainer.add_callback(watch)
            trainer.train()
        return (ends[-1] - ends[0]) / (len(ends) - 1) * len(texts) / size

    def _objective(self, trial: Any, study: Any, epochs: tuple[int, int]) -> float:
        import torch

        given, before, scores = self.given, self.best[0], []
        text = given.modality == "text"
        rates = (2.5e-5, 4e-4) if text else (5e-5, 5e-3)
        torch.manual_seed(given.seed + trial.number)
        model = self._new()
        side = None if text else trial.suggest_categorical("side", SIDES)
        train, validation = (self._rows(*given.splits[name], side) for name in ("train", "validation"))

        def on_evaluate(state: Any, control: Any, metrics: dict[str, float]) -> None:
            score = metrics["eval_accuracy"]
            self.curve.add(score)
            scores.append(score)
            if score > self.best[0]:
                weights = {name: value.clone() for name, value in model.state_dict().items()}
                self.best = score, weights, side
            trial.report(score, round(state.epoch))
            if trial.should_prune():
                raise _pruned()
            if given.left < 0:
                control.should_training_stop = True

        def on_step_end(*_: Any) -> None:
            if given.left < 0:
                raise TimeoutError

        with tempfile.TemporaryDirectory() as folder:
            trainer = self._trainer(
                model, train, validation, folder, seed=given.seed + trial.number, eval_strategy="epoch",
                learning_rate=trial.suggest_float("learning_rate", *rates, log=True),
                per_device_train_batch_size=trial.suggest_categorical("batch_size", [16, 32, 64]),
                num_train_epochs=trial.suggest_int("epochs", *epochs),
                weight_decay=trial.suggest_float("weight_decay", 0.0, 0.1),
                label_smoothing_factor=trial.suggest_float("label_smoothing", 0.0, 0.1),
                warmup_steps=trial.suggest_float("warmup", 0.0, 0.2),
            )  # fmt: skip
            trainer.add_callback(_callback(on_evaluate=on_evaluate, on_step_end=on_step_end))
            try:
                trainer.train()
            except TimeoutError:
                study.stop()
        return max(scores, default=before)

    def _answers(self) -> list[int]:
        """Of the best weights on validation, to the test inputs; of a new head where none were judged."""
        _, weights, side = self.best
        model = self._new()
        if weights is not None:
            model.load_state_dict(weights)
        rows = self._rows(self.given.test, [0] * len(self.given.test), side)
        with tempfile.TemporaryDirectory() as folder:
            trainer = self._trainer(model, None, None, folder, eval_strategy="no")
            return [int(answer) for answer in trainer.predict(rows).predictions.argmax(-1)]

    def _rows(self, inputs: list[str], labels: list[int], side: int | None) -> Any:
        """A data set of what a `Trainer` reads; images are decoded as they are asked for."""
        if self.given.modality == "image":
            return Pictures(inputs, labels, self.processor, side or SIDES[-1])
        ids = self.processor(inputs, truncation=True)["input_ids"]
        return [{"input_ids": each, "labels": label} for each, label in zip(ids, labels, strict=False)]

    def _new(self) -> Any:
        import torch
        from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification

        text = self.given.modality == "text"
        kind = AutoModelForSequenceClassification if text else AutoModelForImageClassification
        return kind.from_pretrained(
            self.given.path, num_labels=self.given.num_labels, dtype=torch.float32,
            ignore_mismatched_sizes=True,
        )  # fmt: skip

    def _trainer(self, model: Any, train: Any, validation: Any, folder: str, **settings: Any) -> Any:
        from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments

        arguments = TrainingArguments(
            output_dir=folder, use_cpu=True, report_to="none", save_strategy="no", logging_strategy="no",
            per_device_eval_batch_size=64, disable_tqdm=True, dataloader_pin_memory=False,
            optim="adamw_torch_fused", bf16=self.bf16, **settings,
        )  # fmt: skip
        found = Trainer(
            model, arguments, train_dataset=train, eval_dataset=validation,
            data_collator=DataCollatorWithPadding(self.processor) if self.given.modality == "text" else None,
            compute_metrics=lambda each: {"accuracy": (each.predictions.argmax(-1) == each.label_ids).mean()},
        )  # fmt: skip
        found.remove_callback(PrinterCallback)
        return found


class Pictures:
    """Images by file, as a model's own processor makes them, at another side where one is given.

    The shorter side is an eighth longer than what is cut out of it, as the model's own sizes are.
    """

    def __init__(self, files: list[str], labels: list[int], processor: Any, side: int) -> None:
        self.files, self.labels, self.processor = files, labels, processor
        self.sizes = {"size": {"shortest_edge": side * 8 // 7}, "crop_size": {"height": side, "width": side}}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, at: int) -> dict[str, Any]:
        from PIL import Image

        with Image.open(self.files[at]) as image:
            pixels = self.processor(image.convert("RGB"), return_tensors="pt", **self.sizes)["pixel_values"]
        return {"pixel_values": pixels[0], "labels": self.labels[at]}


def embeddings(given: Given, curve: Curve, *, refit: bool) -> dict[str, Any]:
    """Logistic regression on embeddings, mean-pooled for texts and the network's own pooling for images, with
    C chosen on validation.

    Args:
        given: Data, model and budget.
        curve: Told of validation scores.
        refit: Whether the best is fitted again on the rows of training and validation together.
    """
    from sklearn.linear_model import LogisticRegression

    embedded = _embedder(given)
    (train, answers), (validation, truth) = (
        (embedded(inputs), labels) for inputs, labels in (given.splits["train"], given.splits["validation"])
    )
    fits: dict[float, tuple[float, Any]] = {}
    for power in POWERS:
        # The first is always fitted; another only where it would end in time, and a refit after it.
        began = time.time()
        model = LogisticRegression(C=power, max_iter=2000).fit(train, answers)
        fits[power] = float(model.score(validation, truth)), model
        curve.add(fits[power][0])
        if given.left < 4 * (time.time() - began):
            break
    power = max(fits, key=lambda each: fits[each][0])
    model = fits[power][1]
    if refit:
        model = LogisticRegression(C=power, max_iter=2000)
        model.fit(np.concatenate([train, validation]), [*answers, *truth])
    took = given.passed
    return {
        "curve": curve.points, "trials": len(fits), "seconds": took, "note": f"C {power:g} of {len(fits)}",
        "answers": [int(answer) for answer in model.predict(embedded(given.test))],
    }  # fmt: skip


def _embedder(given: Given) -> Callable[[list[str]], np.ndarray]:
    """A function from inputs to (n, width) embeddings."""
    import torch
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    torch.set_num_threads(os.cpu_count() or 1)
    body = AutoModel.from_pretrained(given.path, dtype=torch.float32).eval()

    @torch.no_grad()
    def texts(inputs: list[str]) -> np.ndarray:
        tokenizer = AutoTokenizer.from_pretrained(given.path)
        order = sorted(range(len(inputs)), key=lambda at: len(inputs[at]))
        found = torch.zeros(len(inputs), body.config.hidden_size)
        for first in range(0, len(order), 64):
            rows = order[first : first + 64]
            batch = tokenizer([inputs[at] for at in rows], padding=True, truncation=True, return_tensors="pt")
            states, mask = body(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
            found[rows] = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)
        return found.numpy()

    @torch.no_grad()
    def images(inputs: list[str]) -> np.ndarray:
        processor = AutoImageProcessor.from_pretrained(given.path, backend="pil")
        rows = Pictures(inputs, [0] * len(inputs), processor, SIDES[-1])
        found = []
        for first in range(0, len(rows), 32):
            last = min(first + 32, len(rows))
            batch = torch.stack([rows[at]["pixel_values"] for at in range(first, last)])
            pooled = body(pixel_values=batch).pooler_output
            found.append(torch.nn.functional.normalize(pooled.flatten(1), dim=1).numpy())
        return np.concatenate(found)

    return texts if given.modality == "text" else images


def _callback(**methods: Callable[..., None]) -> Any:
    """A `TrainerCallback` of functions: ``on_evaluate`` is given state, control and metrics."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **rest: Any) -> None:
            if "on_evaluate" in methods:
                methods["on_evaluate"](state, control, metrics)

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            if "on_step_end" in methods:
                methods["on_step_end"](state, control)

    return Watch()


def _pruned() -> Exception:
    import optuna

    return optuna.TrialPruned()
