"""What the engine's benchmark trains: jobs with recipes drawn from a seed, their data, the engine's own runs.

TRIALS, EPOCHS and ROWS (of training data) make a job smaller, to see that it works; nothing is recorded then.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from luthier.engine.checkpoint import Checkpoints
from luthier.engine.engine import Engine
from luthier.engine.inputs import Inputs, Split
from luthier.models.network import Network, build
from luthier.models.source import Source
from luthier.recipe import Recipe
from luthier.run.inspect import search_splits
from luthier.run.prepare import prepare
from luthier.run.settings import Settings
from luthier.trial import Order

SHARED = Path(os.environ.get("SHARED", Path(__file__).parents[1].parent / "shared"))
LIMITS = {name: int(os.environ[name]) for name in ("TRIALS", "EPOCHS", "ROWS") if os.environ.get(name)}

DEVICE = "cpu"
SEED = 0
# Settings of every recipe. Without dropout the sides differ in the order of their batches alone, so that
# their losses can be held against each other; in single precision all compute the same.
COMMON: dict[str, Any] = {
    "precision": "fp32",
    "dropout": 0.0,
    "head_dropout": 0.0,
    "label_smoothing": 0.0,
    "weight_decay": 0.0,
    "schedule": "linear",
    "warmup": 0.1,
    "batch_size": 32,
    "clip_norm": 1.0,
}
# Where every epoch costs the same on both sides one says as much as ten.
PROBE_EPOCHS, LAST_EPOCHS, LORA_EPOCHS, FULL_EPOCHS, IMAGE_FULL_EPOCHS = 10, 2, 1, 1, 1
# Of the model's 224: at full size the peer alone would train for hours in each of these jobs.
IMAGE_SIZE = 128
PROBE: dict[str, Any] = {"adaptation": "probe", "head": "linear"}
LORA: dict[str, Any] = {"adaptation": "lora", "lora_targets": "all", "lora_rank": 8}


def say(message: str) -> None:
    """Progress, out of the way of the table."""
    print(message, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Job:
    """Trials of one model on one dataset, alike but for their learning rates and seeds.

    Attributes:
        data: Folder of the dataset.
        kind: How the trials adapt the model.
        trials: How many there are.
        epochs: Of each.
        rates: Lowest and highest learning rate; they are drawn log-uniformly.
        settings: Of their recipes, beside the common ones.
        bar: How many times faster than the peer the engine should be, or None.
        model: As recipes name it.
    """

    data: str
    kind: str
    trials: int
    epochs: int
    rates: tuple[float, float]
    settings: dict[str, Any]
    bar: float | None = None
    model: str = "minilm"

    @property
    def name(self) -> str:
        """In the table."""
        return f"{self.data} {self.kind}-{self.trials}"

    def orders(self) -> list[Order]:
        """What engine and peers are to train."""
        low, high = np.log(self.rates)
        rates = np.exp(np.random.default_rng(SEED).uniform(low, high, self.trials))
        epochs = min(self.epochs, LIMITS.get("EPOCHS", self.epochs))
        recipes = [
            Recipe(model=self.model, learning_rate=float(rate), epochs=epochs, **COMMON, **self.settings)
            for rate in rates[: LIMITS.get("TRIALS")]
        ]
        return [Order(trial, recipe, epochs, seed=trial) for trial, recipe in enumerate(recipes)]


def text(kind: str, trials: int, epochs: int, rates: tuple[float, float], bar: float, **settings: Any) -> Job:
    return Job("trec6", kind, trials, epochs, rates, settings, bar)


def image(
    kind: str, trials: int, epochs: int, rates: tuple[float, float], bar: float | None, **settings: Any
) -> Job:
    model = str(SHARED / "models" / "mobilenet_v2_1.0_224")
    return Job("cifar10", kind, trials, epochs, rates, {"image_size": IMAGE_SIZE, **settings}, bar, model)


_JOBS = [
    text("probe", 64, PROBE_EPOCHS, (1e-3, 3e-2), 300, pooling="mean", **PROBE),
    text("last1", 16, LAST_EPOCHS, (3e-5, 1e-3), 6, adaptation="last_k", last_k=1),
    text("last2", 16, LAST_EPOCHS, (3e-5, 5e-4), 3.5, adaptation="last_k", last_k=2),
    text("lora", 8, LORA_EPOCHS, (1e-4, 2e-3), 2, **LORA),
    text("full", 4, FULL_EPOCHS, (2e-5, 2e-4), 1.8, adaptation="full"),
    image("probe", 64, PROBE_EPOCHS, (1e-3, 3e-2), 100, **PROBE),
    image("last2", 16, LAST_EPOCHS, (1e-4, 3e-3), 4, adaptation="last_k", last_k=2),
    image("full", 4, IMAGE_FULL_EPOCHS, (1e-4, 2e-3), None, adaptation="full"),
]
JOBS = {job.name.replace(" ", "-"): job for job in _JOBS}


@dataclass(frozen=True)
class Work:
    """A job with its data encoded and its weights read: all that is done before any clock starts.

    Attributes:
        job: What it is of.
        inputs: The encoded splits.
        source: The model.
        orders: What is to be trained.
    """

    job: Job
    inputs: Inputs
    source: Source
    orders: list[Order] = field(repr=False)

    @property
    def recipe(self) -> Recipe:
        """One of the recipes, for what they have in common."""
        return self.orders[0].recipe

    def split(self, name: str) -> Split:
        """``train`` or ``validation``."""
        return self.inputs.split(name, self.source, self.recipe)

    def network(self, order: Order) -> Network:
        """A trial's network as it starts."""
        task = self.inputs.task
        return build(
            self.source, order.recipe, level=task.level, num_outputs=task.num_outputs, seed=order.seed
        )

    def run(self, cache: Path, **options: Any) -> tuple[float, dict[int, float]]:
        """The engine's side, all trials handed over at once.

        Args:
            cache: Folder of cached features: an empty one, or one that an earlier run filled.
            options: More of the engine.

        Returns:
            Seconds, and the validation loss after the last epoch by trial.
        """
        os.environ["LUTHIER_CACHE"] = str(cache)
        losses: dict[int, float] = {}
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            engine = Engine(
                self.inputs, {self.job.model: self.source}, Checkpoints(Path(folder)), DEVICE, **options
            )
            for report in engine.run(self.orders):
                if report.status == "running":
                    losses[report.trial] = report.metrics["loss"]
                elif report.status != "completed":
                    sys.exit(f"{self.job.name}: trial {report.trial} {report.status}: {report.reason}")
            return time.perf_counter() - started, losses


def load(job: Job) -> Work:
    """Reads and encodes a job's data as a run would, and reads its model."""
    prepared = prepare(Settings(data=str(SHARED / "data" / job.data), model=[job.model]))
    frames = search_splits(prepared.dataset)
    if rows := LIMITS.get("ROWS"):
        frames = {
            name: frame.sample(min(rows, len(frame)), random_state=SEED).reset_index(drop=True)
            for name, frame in frames.items()
        }
    inputs = Inputs(prepared.task, frames, prepared.dataset.root)
    work = Work(job, inputs, prepared.sources[job.model], job.orders())
    sizes = ", ".join(f"{len(work.split(name).examples):,} {name}" for name in frames)
    work.network(work.orders[0])
    say(f"{job.name}: {len(work.orders)} trials of {work.recipe.epochs} epochs on {sizes} rows")
    return work
