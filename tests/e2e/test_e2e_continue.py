"""`luthier tune --from` from the command line: killed, resumed and shown."""

from __future__ import annotations

import json
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
SPACE = "{learning_rate: 3e-3, adaptation: last_k, last_k: 1, epochs: 6, batch_size: 4}\n"
LASTING = ["number", "status", "score", "loss", "best_epoch", "seed", "model", "head_init", "learning_rate"]
SAME = [
    "--budget", "30m", "--trials", 3, "--repeats", 1, "--folds", 0, "--strategy", "random", "--threads", 1,
    "--stack", 1, "--ensemble", "none", "--baseline", "majority",
]  # fmt: skip


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*LUTHIER, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=600)
    return output


def test_killed_and_resumed_it_ends_as_if_nothing_had_happened(
    tiny_model: Tiny, tmp_path: Path, command_line: Callable[..., tuple[int, str, str]]
) -> None:
    made.sentences(100).to_csv("data.csv", index=False)
    new = made.sentences(50, seed=4)
    new.loc[::4, "label"] = "maybe"
    new.to_csv("new.csv", index=False)
    Path("space.yaml").write_text(SPACE)
    code, _, error = command_line(
        "tune", "data.csv", "--model", tiny_model("bert"), "--space", "space.yaml", "--out", "first", *SAME
    )
    assert code == 0, error

    job = ["tune", "--from", "first", "--add", "new.csv", *SAME]
    code, said, error = command_line(*job, "--out", "calm")
    assert code == 0, error
    assert "continues: data" in said and "old test rows" in said

    process = start(*job, "--out", "killed")
    while not (Path("killed") / "study.sqlite").exists() and process.poll() is None:
        time.sleep(0.02)
    while process.poll() is None and not list(Path("killed/checkpoints").glob("*")):
        time.sleep(0.02)
    assert process.poll() is None, wait(process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # What was added is kept with the run: its file may go.
    Path("new.csv").unlink()
    code, said, error = command_line("resume", "killed")
    assert code == 0, error

    calm, killed = (pd.read_csv(Path(run) / "trials.csv")[LASTING] for run in ("calm", "killed"))
    pd.testing.assert_frame_equal(calm, killed, check_exact=True)
    told = [
        json.loads((Path(run) / "evaluation.json").read_text())["continued"] for run in ("calm", "killed")
    ]
    assert told[0] == told[1] and told[0]["labels"] == ["maybe"]
    assert "luthier tune --from first --add new.csv " in (Path("calm") / "model" / "README.md").read_text()

    code, said, _ = command_line("show", "killed")
    assert code == 0 and "continues: data" in said
    code, said, _ = command_line("runs", "--root", ".")
    assert code == 0 and "continues" in said
    code, said, _ = command_line("runs", "--root", ".", "--json")
    assert {Path(run["folder"]).name: run["from"] for run in json.loads(said)} == {
        "first": None, "calm": "data", "killed": "data",
    }  # fmt: skip


def test_what_cannot_be_continued_is_one_error_and_nothing_is_left(
    command_line: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    made.sentences(20).to_csv("new.csv", index=False)
    (tmp_path / "half").mkdir()
    manifest = {"settings": {"data": "new.csv"}, "status": "running", "directory": str(tmp_path)}
    (tmp_path / "half" / "run.json").write_text(json.dumps(manifest))
    cases = [
        (["--from", "nowhere", "--add", "new.csv"], "'nowhere'"),
        (["--from", "half", "--add", "new.csv"], "luthier resume half"),
        (["--add", "new.csv"], "--from"),
        (["new.csv", "--from", "half"], "--add"),
        ([], "luthier tune DATA"),
    ]
    for options, words in cases:
        code, _, error = command_line("tune", *options, "--out", "out")
        assert code == 2 and error.count("error:") == 1 and words in error, error
        assert not Path("out").exists()
