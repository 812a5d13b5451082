"""Monitoring from the command line: a run's reference, observations of its real predictor, a look, labels,
and another look."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import made
from luthier.deploy.export import manifest
from luthier.monitor import statistics
from luthier.monitor.observation import Observation
from luthier.monitor.recorder import open_recorder
from luthier.monitor.reference import read
from luthier.run.result import Result

pytestmark = pytest.mark.e2e
SPACE = "adaptation: [probe]\nlearning_rate: {low: 1e-3, high: 1e-2, log: true}\nepochs: 1\nbatch_size: 16\n"


def serve(count: int) -> dict[str, str]:
    """Answers ``count`` texts with the run's model and records them; the true labels by id."""
    predictor = Result.load("run").predictor
    frame = made.sentences(count, seed=5)
    outputs = predictor.outputs(frame)
    answers = predictor.task.decode(outputs, frame)
    saved = predictor.saved
    numbers = statistics.of_rows(predictor.task, frame, saved.processor, max_length=saved.recipe.max_length)
    recorder = open_recorder("run/records.sqlite", model="run", keep_inputs=True)
    recorder.record(
        [
            Observation(
                f"a{at}", time.time(), "1", outputs[at], answers[at],
                {name: float(values[at]) for name, values in numbers.items()},
                input=frame[predictor.task.input].iloc[at],
            )
            for at in range(count)
        ]
    )  # fmt: skip
    recorder.close(60)
    assert recorder.dropped == 0
    target = predictor.task.target
    return {f"a{at}": str(frame[target].iloc[at]) for at in range(count)}


def test_a_run_is_recorded_labelled_and_looked_at(
    command_line: Callable[..., tuple[int, str, str]], tiny_model: Callable[[str], Path]
) -> None:
    made.sentences(240).to_csv("data.csv", index=False)
    Path("space.yaml").write_text(SPACE)
    code, _, error = command_line(
        "tune", "data.csv", "--model", tiny_model("bert"), "--budget", "5m", "--trials", 1, "--repeats", 1,
        "--threads", 1, "--strategy", "random", "--space", "space.yaml", "--baseline", "majority",
        "--ensemble", "none", "--out", "run",
    )  # fmt: skip
    assert code == 0, error
    kept = read(Path("run/reference"))
    predictions = pd.read_csv("run/predictions.csv")
    counts = predictions["label"].astype(str).value_counts()
    assert kept.about["n"] == len(predictions)
    assert dict(zip(kept.reference.classes, kept.reference.counts, strict=True)) == {
        name: counts.get(name, 0) for name in kept.reference.classes
    }
    assert kept.reference.right.mean() == pytest.approx(kept.about["metrics"]["accuracy"])
    assert kept.reference.features is not None and len(kept.reference.features) == len(predictions)
    assert {"length", "unknown"} == set(kept.reference.statistics)

    code, _, error = command_line("monitor", "run")
    assert code == 2 and "--record" in error

    truth = serve(120)
    code, out, error = command_line("monitor", "run", "--json", "--page", "page.html", "--window", 100)
    assert code in (0, 3), error
    looked = json.loads(out)
    assert (looked["recorded"], looked["labelled"], looked["version"]) == (120, 0, "1")
    assert (code == 3) == looked["alarm"]
    page = Path("page.html").read_text()
    assert "Luthier monitor" in page and 'http-equiv="Content-Security-Policy"' in page

    answers = pd.Series(truth).rename_axis("id").rename("label").reset_index()
    target = kept.task.target
    answers.rename(columns={"label": target}).to_json("labels.jsonl", orient="records", lines=True)
    code, out, error = command_line("labels", "run", "labels.jsonl")
    assert code == 0 and out.startswith("120 new, 0 replaced"), error
    code, out, error = command_line("monitor", "run", "--json", "--window", 100)
    looked = json.loads(out)
    assert looked["labelled"] == 120 and looked["counted"]["n"] == 100
    newest = [f"a{at}" for at in range(20, 120)]
    said = Result.load("run").predict(made.sentences(120, seed=5))
    right = [said[int(one[1:])]["label"] == truth[one] for one in newest]
    assert looked["counted"]["value"] == pytest.approx(sum(right) / 100)

    # Text output, and an export that takes the reference along.
    code, out, error = command_line("monitor", "run", "--window", 100)
    assert code in (0, 3) and "by labels" in out, error
    code, _, error = command_line("export", "run", "--to", "exported")
    assert code == 0, error
    assert read(Path("exported/reference")).about == kept.about
    assert "reference/reference.json" in manifest.read(Path("exported"))["files"]
