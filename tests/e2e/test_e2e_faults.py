"""The command line killed, interrupted and resumed, in processes of its own."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import made

pytestmark = pytest.mark.e2e
Tiny = Callable[[str], Path]
LUTHIER = [sys.executable, "-m", "luthier.cli.main"]
# What must not depend on whether the run was disturbed; seconds and memory may.
LASTING = [
    "number",
    "status",
    "score",
    "loss",
    "best_epoch",
    "epochs",
    "seed",
    "learning_rate",
    "adaptation",
    "reason",
    "repeats",
]
SPACE = """
learning_rate: {low: 1e-3, high: 1e-2, log: true}
adaptation: [full, last_k]
last_k: 1
epochs: 6
batch_size: 4
"""


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*LUTHIER, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=300)
    return output


def trials(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "trials.csv")[LASTING]


@pytest.fixture(scope="module")
def job(tiny_model: Tiny, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    folder = tmp_path_factory.mktemp("job")
    made.sentences(160).to_csv(folder / "data.csv", index=False)
    (folder / "space.yaml").write_text(SPACE)
    return [
        "tune", folder / "data.csv", "--model", tiny_model("bert"), "--space", folder / "space.yaml",
        "--budget", "30m", "--trials", 5, "--repeats", 2, "--threads", 1, "--stack", 1,
        "--baseline", "majority",
    ]  # fmt: skip


def test_killed_anywhere_it_ends_as_if_nothing_had_happened(job: list[object], tmp_path: Path) -> None:
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    began = time.monotonic()
    assert "test accuracy" in wait(start(*job, "--out", calm))
    whole = time.monotonic() - began

    rng = random.Random(3)
    process = start(*job, "--out", killed)
    while not (killed / "run.json").exists() and process.poll() is None:
        time.sleep(0.02)
    kills = 0
    for _ in range(3):
        time.sleep(rng.uniform(0.05, 0.5) * whole)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        process = start("resume", killed)
    output = wait(process)
    assert kills, "it was never killed, so nothing was tested"
    # It may have been killed between its last write and its end.
    assert process.returncode == 0 or "is finished" in output, output
    pd.testing.assert_frame_equal(trials(calm), trials(killed), check_exact=True)
    told = [json.loads((run / "evaluation.json").read_text())["selection"] for run in (calm, killed)]
    assert told[0] == told[1] and told[0]["trials"] == len(trials(calm))
    manifests = [json.loads((run / "run.json").read_text()) for run in (calm, killed)]
    assert manifests[0]["best"] == manifests[1]["best"]
    assert manifests[0]["score"] == manifests[1]["score"]
    assert manifests[1]["status"] == "finished"


def test_stopped_by_ctrl_c_it_leaves_a_usable_model(job: list[object], tmp_path: Path) -> None:
    run = tmp_path / "run"
    endless = [argument if argument != 5 else 10_000 for argument in job]
    process = start(*endless, "--out", run)
    assert process.stdout is not None
    for line in process.stdout:
        if "trial 0" in line and "completed" in line:
            break
    os.kill(process.pid, signal.SIGINT)
    output = wait(process)
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted", output
    answer = json.loads(wait(start("predict", run, "a good cat")))
    assert answer["label"] in {"yes", "no"}


def test_the_budget_is_kept(job: list[object], tmp_path: Path) -> None:
    endless = [argument if argument != 5 else 10_000 for argument in job]
    endless[endless.index("--budget") + 1] = "20s"
    assert "test accuracy" in wait(start(*endless, "--out", tmp_path / "run"))
    spent = json.loads((tmp_path / "run" / "run.json").read_text())["spent"]
    # Twenty seconds are few beside what closing a run takes on a busy machine; longer runs are held to 5%.
    assert spent < 26
