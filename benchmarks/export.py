"""Exports against the models they are from: how far logits differ, what int8 costs, how fast they are.

Each model is fine-tuned in a short run, then exported in every format in float32 and as ONNX in int8, through
the same check as `luthier export`. Speeds are of one batch on as many threads as torch takes, the sides in
turn; a ratio is torch's float32 seconds over the export's, its spread that of single rounds.

Real weights are MiniLM (a BERT) and MobileNetV2; the other kinds are the tests' tiny ones with random
weights, which can say that the graphs are right, and nothing of speed, so that none is recorded. ROW picks
models. Data and the image model lie in ../shared beside the checkout, or where SHARED says; `make
bench-export` puts the tests' own models within reach.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import models_tiny
import torch

import luthier
import made
import table
from jobs import SHARED, say
from luthier.deploy.export import check
from luthier.deploy.export import sample as samples
from luthier.deploy.export.base import Inputs, Logits
from luthier.deploy.export.export import Export
from luthier.deploy.runtime import Exported
from luthier.models.saved import load

ROUNDS = 9
CALLS = 5
"""Of each side in each round, of which the median counts."""
REST = 0.3
"""Seconds before them."""
BATCH = 32
BAR = 1e-4
FORMATS = ("safetensors", "onnx", "torch")
TINY: dict[str, Any] = {"learning_rate": 3e-3, "epochs": 4, "batch_size": 16}


@dataclass(frozen=True)
class Subject:
    """A model to be exported.

    Attributes:
        kind: Its architecture; of random weights and a tiny size unless ``weights`` says otherwise.
        space: The recipe of its run.
        weights: What real weights it has, in words.
        model: What these are called.
        data: Its data set, where it has real weights.
    """

    kind: str
    space: dict[str, Any] = field(default_factory=lambda: TINY)
    weights: str = ""
    model: str = ""
    data: str = ""

    def run(self, folder: Path) -> Path:
        """A finished run of it."""
        model, data = self.model, str(SHARED / "data" / self.data)
        if not self.weights:
            model, data = str(models_tiny.write(self.kind, folder / "base")), str(folder / "data")
            (folder / "data").mkdir()
            if self.kind in models_tiny.IMAGE:
                made.pictures(folder / "data", 400)
            else:
                made.sentences(600).to_csv(folder / "data" / "train.csv", index=False)
                made.sentences(200, seed=1).to_csv(folder / "data" / "test.csv", index=False)
        options: dict[str, Any] = {"trials": 1, "repeats": 1, "strategy": "random", "baselines": ["majority"]}
        luthier.tune(
            data, model=model, space=self.space, budget="20m", out=folder / "run", name=self.kind, **options
        )
        return folder / "run"


LAST = {"adaptation": "last_k", "last_k": 2, "learning_rate": 3e-4, "epochs": 3, "batch_size": 32}
LORA = {"adaptation": "lora", "lora_rank": 8, "learning_rate": 1e-3, "epochs": 1, "batch_size": 32}
PROBE = {"adaptation": "probe", "learning_rate": 3e-3, "epochs": 20, "batch_size": 64}
MOBILENET = str(SHARED / "models" / "mobilenet_v2_1.0_224")
SUBJECTS = {
    "bert": Subject("bert", LAST, "all-MiniLM-L6-v2 on trec6", "minilm", "trec6"),
    "lora": Subject("bert", LORA, "all-MiniLM-L6-v2 with LoRA on trec6", "minilm", "trec6"),
    "distilbert": Subject("distilbert"),
    "modernbert": Subject("modernbert"),
    "vit": Subject("vit"),
    "convnext": Subject("convnext"),
    "mobilenet_v2": Subject("mobilenet_v2", PROBE, "MobileNetV2 on cifar10", MOBILENET, "cifar10"),
}


def measure(name: str, subject: Subject, folder: Path) -> list[dict[str, Any]]:
    """Runs, exports and times one model."""
    run = subject.run(folder)
    what = subject.weights or "tiny, random weights"
    done = {}
    for form in FORMATS:
        done[form] = luthier.export(run, folder / form, format=form)
        say(f"  {name} {form}: {done[form].check.relative:.2g} of the largest logit")
    if name == "lora":
        done["apart"] = luthier.export(run, folder / "apart", merge=False)
    rows = [_difference(name, what, done)]
    with unlimited():
        int8 = luthier.export(run, folder / "int8", format="onnx", precision="int8")
    rows.append(_loss(name, what, int8))
    if subject.weights:
        rows += _speeds(name, what, run / "model", folder)
    return rows


@contextlib.contextmanager
def unlimited() -> Iterator[None]:
    """Without the limits that int8 is refused by: what it loses is to be seen there, too."""
    limit, point = check.LIMITS["int8"], check.POINT
    check.LIMITS["int8"] = check.POINT = math.inf
    try:
        yield
    finally:
        check.LIMITS["int8"], check.POINT = limit, point


def _difference(name: str, what: str, done: dict[str, Export]) -> dict[str, Any]:
    worst = max(done.values(), key=lambda each: each.check.relative)
    found = worst.check
    spread = "; ".join(f"{form} {each.check.relative:.1g}" for form, each in done.items())
    return table.row(
        f"{name}: fp32", found.relative, "of the largest logit", spread=spread,
        peer=f"the evaluated model ({what}), {found.rows} test rows and {found.made} made batches",
        bar=f"at most {BAR:.0e}", met=found.relative <= BAR,
    )  # fmt: skip


def _loss(name: str, what: str, done: Export) -> dict[str, Any]:
    change = done.check.change
    assert change is not None
    low, high = change.interval
    holds = low <= check.POINT and done.check.relative <= check.LIMITS["int8"]
    return table.row(
        f"{name}: int8 loss", 100 * change.fall, f"points of {change.metric}",
        peer=f"{change.before:.4f} in fp32 ({what}), {done.check.rows} test rows",
        spread=f"95% {100 * low:.2f} to {100 * high:.2f}; {change.flips:.1%} of answers differ",
        bar=f"at most {100 * check.POINT:g} beyond noise", met=holds,
    )  # fmt: skip


def _speeds(name: str, what: str, model: Path, folder: Path) -> list[dict[str, Any]]:
    """How fast ONNX is, in float32 and in int8, on batches of one and of many test rows."""
    network = load(model)
    sides: dict[str, Logits] = {"torch fp32": torch.inference_mode()(lambda inputs: network(**inputs))}
    opened = {"onnx fp32": Exported.load(folder / "onnx"), "onnx int8": Exported.load(folder / "int8")}
    sides |= {side: each.networks[0].logits for side, each in opened.items()}
    sample = samples.load(folder / "onnx" / samples.FILE)
    largest = max(sample.inputs[: len(sample.marks)], key=lambda each: len(next(iter(each.values()))))
    rows = []
    for size in (1, BATCH):
        part = {key: value[:size] for key, value in largest.items()}
        inputs = samples.ready(part, network.processor)
        seconds = _rounds(sides, inputs)
        plain = seconds.pop("torch fp32")
        for side, own in seconds.items():
            rows.append(_speed(f"{name}: {side}, batch {size}", own, plain, what))
    return rows


def _speed(name: str, own: list[float], plain: list[float], what: str) -> dict[str, Any]:
    ratios = sorted(one / other for one, other in zip(plain, own, strict=True))
    return table.row(
        name, 1000 * statistics.median(own), "ms a batch",
        peer=f"torch fp32 {1000 * statistics.median(plain):.1f} ms ({what})",
        ratio=statistics.median(ratios), spread=f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
    )  # fmt: skip


def _rounds(sides: dict[str, Logits], inputs: Inputs) -> dict[str, list[float]]:
    """Seconds of each side in each round, in turn, after one that does not count."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(ROUNDS + 1):
        for side, logits in sides.items():
            taken = _seconds(lambda logits=logits: logits(inputs))  # type: ignore[misc]
            if number:
                seconds[side].append(taken)
    return seconds


def _seconds(call: Callable[[], object]) -> float:
    """Median of a few calls, after one that does not count and a rest: threads of the side before wait for
    more to do on a core that this one needs.
    """
    time.sleep(REST)
    call()
    found = []
    for _ in range(CALLS):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def main() -> int:
    wanted = os.environ.get("ROW", "").split() or list(SUBJECTS)
    if unknown := [name for name in wanted if name not in SUBJECTS]:
        say(f"unknown: {', '.join(unknown)}; known: {', '.join(SUBJECTS)}")
        return 2
    rows = []
    for name in wanted:
        say(name)
        with tempfile.TemporaryDirectory() as scratch:
            rows += measure(name, SUBJECTS[name], Path(scratch))
        table.merge("export", rows)
    table.show(rows)
    return 0 if all(row["met"] is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
