"""What `serve` and `soak` have served, and what they ask: a fine-tuned MiniLM that is made once, and texts
of the lengths that people write. How it is served and measured is not said here."""

from __future__ import annotations

import csv
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

DEMO = Path(__file__).parents[1] / "demo" / "intents"
SETTINGS = {"adaptation": "probe", "learning_rate": 3e-3, "epochs": 10, "batch_size": 64}
"""Of the run that makes the model. What it costs to serve does not depend on how it was trained."""
TEXTS = 512
# Mostly a line or two; one message in eight is a letter, as tickets and reviews are.
GOES_ON, LETTERS, LETTER = 0.35, 1 / 8, (4, 12)


def model() -> Path:
    """A run of MiniLM on demo/intents; made when first needed, and kept under BENCH_CACHE or in
    ``luthier-bench`` in the user's cache folder."""
    import luthier

    caches = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    place = Path(os.environ.get("BENCH_CACHE") or caches / "luthier-bench") / "served-1"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            luthier.tune(
                str(DEMO), model="minilm", space=SETTINGS, budget="20m", trials=1, repeats=1,
                strategy="random", baselines=["majority"], out=Path(folder) / "run", name="served",
            )  # fmt: skip
            (Path(folder) / "run").rename(place)
    return place


def exported(run: Path) -> Path:
    """A run with an ONNX export of it beside it, where `luthier serve` looks for one."""
    import luthier

    place = run.with_name(f"{run.name}-exported")
    if not place.exists():
        with tempfile.TemporaryDirectory(dir=run.parent) as folder:
            shutil.copytree(run, Path(folder) / "run")
            luthier.export(run, Path(folder) / "run" / "onnx", format="onnx")
            (Path(folder) / "run").rename(place)
    return place


def texts(count: int = TEXTS, seed: int = 0) -> list[str]:
    """Messages of one sentence up to a dozen, drawn from the test rows of demo/intents."""
    with (DEMO / "test.csv").open(newline="") as file:
        sentences = [row["text"] for row in csv.DictReader(file)]
    rng = random.Random(seed)
    return [" ".join(rng.choices(sentences, k=_length(rng))) for _ in range(count)]


def _length(rng: random.Random) -> int:
    if rng.random() < LETTERS:
        return rng.randint(*LETTER)
    length = 1
    while rng.random() < GOES_ON:
        length += 1
    return length


def say(message: str) -> None:
    """Progress, out of the way of the table."""
    print(message, file=sys.stderr, flush=True)
