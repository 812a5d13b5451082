"""The sides of `race.py`, each run as a process: ``racers.py SIDE DATASET SECONDS OUT``.

A side writes its curve, [seconds since its process was started, best validation accuracy so far] whenever
that rises, and its answers on the test split. Answering is not in its time.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STARTED = float(os.environ["STARTED"])
SHARED = Path(os.environ.get("SHARED", Path(__file__).parents[1].parent / "shared"))
SEED = 0


class Curve:
    """The best validation accuracy so far, by the time at which it was known."""

    def __init__(self) -> None:
        self.points: list[list[float]] = []

    def add(self, score: float) -> None:
        """Takes note of a score."""
        if not self.points or score > self.points[-1][1]:
            self.points.append([time.time() - STARTED, score])


def luthier(data: str, seconds: float) -> dict[str, Any]:
    """The whole command, but in this process, so that it can be watched."""
    import pandas as pd

    from luthier.run.progress import Silent
    from luthier.run.settings import Settings
    from luthier.run.tune import tune

    curve = Curve()

    class Watch(Silent):
        def report(self, report: Any, metric: str) -> None:
            if report.status == "running" and report.score == report.score:
                curve.add(report.score)

        def note(self, message: str) -> None:
            print(f"  {time.time() - STARTED:6.1f} s  {message}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        overrides = {
            "model": "minilm", "budget": f"{seconds}s", "seed": SEED, "out": str(out), "baselines": ["probe"],
            **({"strategy": os.environ["STRATEGY"]} if "STRATEGY" in os.environ else {}),
        }  # fmt: skip
        settings = Settings.gather(str(SHARED / "data" / data), overrides)
        tune(settings, progress=Watch(), spent=time.time() - STARTED)
        took = time.time() - STARTED
        if keep := os.environ.get("KEEP"):
            import shutil

            shutil.copytree(out, Path(keep) / data, dirs_exist_ok=True)
        predictions = pd.read_csv(out / "predictions.csv", dtype=str, keep_default_na=False)
        trials = len(pd.read_csv(out / "trials.csv"))
    predictions = predictions.sort_values("row", key=lambda rows: rows.astype(int))
    return {
        "curve": curve.points, "trials": trials, "seconds": took,
        "answers": list(predictions["label"]), "truth": list(predictions["truth"]),
    }  # fmt: skip


def prepared(data: str) -> dict[str, Any]:
    """The same splits, as lists of texts and labels; and the model's folder."""
    from luthier.run.prepare import prepare
    from luthier.run.settings import Settings

    found = prepare(Settings(data=str(SHARED / "data" / data), model=["minilm"], seed=SEED))
    task, splits = found.task, {}
    for name, frame in found.dataset.splits.items():
        ordered = frame.sort_values("__row__") if name == "test" else frame
        splits[name] = (
            list(ordered[task.columns.roles["input"]]),
            list(ordered[task.columns.roles["target"]]),
        )
    (source,) = found.sources.values()
    return {"splits": splits, "labels": list(task.label_names), "path": str(source.path)}


def optuna(data: str, seconds: float) -> dict[str, Any]:
    """TPE over the ranges of our own default space for full fine-tuning, pruned by the median, a `Trainer` a
    trial: what its own documentation of hyperparameter search shows, with fair ranges, padding to the longest
    in a batch, and no saving.
    """
    import numpy as np
    import optuna
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    torch.set_num_threads(os.cpu_count() or 1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    given, curve = prepared(data), Curve()
    labels = {name: at for at, name in enumerate(given["labels"])}
    tokenizer = AutoTokenizer.from_pretrained(given["path"])

    def encoded(name: str) -> list[dict[str, Any]]:
        texts, answers = given["splits"][name]
        ids = tokenizer(texts, truncation=True)["input_ids"]
        return [
            {"input_ids": each, "labels": labels[answer]} for each, answer in zip(ids, answers, strict=True)
        ]

    train, validation, test = encoded("train"), encoded("validation"), encoded("test")
    epochs = min(max(round(20_000 / len(train)), 3), 12)
    kept: dict[str, Any] = {"score": -1.0, "state": None}

    class Watch(TrainerCallback):
        def __init__(self, trial: optuna.Trial, model: torch.nn.Module) -> None:
            self.trial, self.model = trial, model
            self.scores: list[float] = []

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **rest: Any) -> None:
            score = metrics["eval_accuracy"]
            curve.add(score)
            self.scores.append(score)
            if score > kept["score"]:
                kept["score"] = score
                kept["state"] = {name: value.clone() for name, value in self.model.state_dict().items()}
            self.trial.report(score, round(state.epoch))
            if self.trial.should_prune():
                raise optuna.TrialPruned
            if time.time() - STARTED > seconds:
                control.should_training_stop = True

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            if time.time() - STARTED > seconds:
                raise TimeoutError

    def trainer(model: torch.nn.Module, folder: str, **settings: Any) -> Trainer:
        arguments = TrainingArguments(
            output_dir=folder, use_cpu=True, report_to="none", save_strategy="no", logging_strategy="no",
            eval_strategy="epoch", per_device_eval_batch_size=64, disable_tqdm=True,
            dataloader_pin_memory=False, optim="adamw_torch_fused", **settings,
        )  # fmt: skip
        found = Trainer(
            model, arguments, train_dataset=train, eval_dataset=validation,
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda each: {"accuracy": (each.predictions.argmax(-1) == each.label_ids).mean()},
        )  # fmt: skip
        found.remove_callback(PrinterCallback)
        return found

    def new() -> torch.nn.Module:
        return AutoModelForSequenceClassification.from_pretrained(
            given["path"], num_labels=len(labels), dtype=torch.float32
        )

    def objective(trial: optuna.Trial) -> float:
        torch.manual_seed(SEED + trial.number)
        model = new()
        before = kept["score"]
        with tempfile.TemporaryDirectory() as folder:
            each = trainer(
                model, folder, seed=SEED + trial.number,
                learning_rate=trial.suggest_float("learning_rate", 2.5e-5, 4e-4, log=True),
                per_device_train_batch_size=trial.suggest_categorical("batch_size", [16, 32, 64]),
                num_train_epochs=trial.suggest_int(
                    "epochs", max(2, round(0.6 * epochs)), round(1.75 * epochs)
                ),
                weight_decay=trial.suggest_float("weight_decay", 0.0, 0.1),
                label_smoothing_factor=trial.suggest_float("label_smoothing", 0.0, 0.1),
                warmup_steps=trial.suggest_float("warmup", 0.0, 0.2),
            )  # fmt: skip
            watch = Watch(trial, model)
            each.add_callback(watch)
            try:
                each.train()
            except TimeoutError:
                study.stop()
        return max(watch.scores, default=before)

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=SEED))
    study.optimize(objective, timeout=seconds - (time.time() - STARTED))
    took = time.time() - STARTED
    final = new()
    final.load_state_dict(kept["state"])
    with tempfile.TemporaryDirectory() as folder:
        answers = trainer(final, folder).predict(test).predictions.argmax(-1)
    names = np.array(given["labels"])
    return {
        "curve": curve.points, "trials": len(study.trials), "seconds": took,
        "answers": list(names[answers]), "truth": given["splits"]["test"][1],
    }  # fmt: skip


def embeddings(data: str, seconds: float) -> dict[str, Any]:
    """Logistic regression on mean-pooled embeddings, C chosen on validation."""
    import torch
    from sklearn.linear_model import LogisticRegression
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(os.cpu_count() or 1)
    given, curve = prepared(data), Curve()
    tokenizer = AutoTokenizer.from_pretrained(given["path"])
    body = AutoModel.from_pretrained(given["path"], dtype=torch.float32).eval()

    @torch.no_grad()
    def embedded(texts: list[str]) -> Any:
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        found = torch.zeros(len(texts), body.config.hidden_size)
        for first in range(0, len(order), 64):
            rows = order[first : first + 64]
            batch = tokenizer([texts[at] for at in rows], padding=True, truncation=True, return_tensors="pt")
            states, mask = body(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
            found[rows] = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)
        return found.numpy()

    features = {name: embedded(texts) for name, (texts, _) in given["splits"].items()}
    chosen: tuple[float, Any] = (-1.0, None)
    powers = (0.1, 1.0, 10.0, 100.0, 1000.0)
    for penalty in powers:
        model = LogisticRegression(C=penalty, max_iter=2000)
        model.fit(features["train"], given["splits"]["train"][1])
        score = float(model.score(features["validation"], given["splits"]["validation"][1]))
        curve.add(score)
        if score > chosen[0]:
            chosen = score, model
    took = time.time() - STARTED
    return {
        "curve": curve.points, "trials": len(powers), "seconds": took,
        "answers": list(chosen[1].predict(features["test"])), "truth": given["splits"]["test"][1],
    }  # fmt: skip


def main() -> None:
    side, data, seconds, out = sys.argv[1:]
    found = {"luthier": luthier, "optuna": optuna, "embeddings": embeddings}[side](data, float(seconds))
    found["answers"] = [str(answer) for answer in found["answers"]]
    found["truth"] = [str(answer) for answer in found["truth"]]
    Path(out).write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
