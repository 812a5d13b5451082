"""Ensembles from the command line: asked for, chosen, refused, killed half-way, predicted with."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import transformers

import made
from luthier.ensemble import saved
from luthier.errors import RunError
from luthier.monitor.reference import read
from luthier.run.combine import Combiner
from luthier.run.result import Result

pytestmark = pytest.mark.e2e
Tiny = Callable[[str], Path]
Luthier = Callable[..., tuple[int, str, str]]
SPACE = (
    "adaptation: [probe, full]\nlearning_rate: {low: 1e-3, high: 1e-2, log: true}\nepochs: 2\nbatch_size: 8\n"
)


@pytest.fixture
def luthier(command_line: Luthier) -> Luthier:
    """The command line in a folder with data and a space."""
    made.ratings(160).to_csv("data.csv", index=False)
    Path("space.yaml").write_text(SPACE)
    return command_line


def tune(model: Path, *options: object) -> list[object]:
    return [
        "tune", "data.csv", "--target", "rating", "--model", model, "--budget", "10m", "--threads", 1,
        "--trials", 4, "--repeats", 1, "--strategy", "random", "--space", "space.yaml",
        "--baseline", "majority", "--out", "run",
        *options,
    ]  # fmt: skip


def test_an_ensemble_is_made_shipped_and_used(luthier: Luthier, tiny_model: Tiny) -> None:
    code, out, error = luthier(*tune(tiny_model("bert"), "--ensemble", "greedy"))
    assert code == 0, error
    assert re.search(r"ensemble: greedy, \d networks, \d+\.\d times the time", out)
    manifest = json.loads(Path("run/run.json").read_text())
    shipped = manifest["ensemble"]
    weights = [weight for _, weight in shipped["parts"]]
    assert shipped["name"] == "greedy" and len(weights) > 1 and sum(weights) == pytest.approx(1)
    best = manifest["best"]["trial"]

    # The best single model lies beside it, and every network of it loads without Luthier.
    places = [Path("run/single"), *sorted(Path("run/model/parts").iterdir())]
    assert len(places) == len(weights) + 1
    for place in places:
        transformers.AutoModelForSequenceClassification.from_pretrained(place)

    # Its reference has the features of its first network.
    kept = read(Path("run/reference"))
    assert kept.reference.features is not None and kept.reference.kind == "number"

    # The test split is told of both, from the same rows.
    result = Result.load("run")
    (row,) = result.evaluation.combined
    assert row.chosen and row.test == pytest.approx(result.evaluation.value)
    assert best in [trial for trial, _ in row.parts] and row.cost >= 1
    assert row.test_interval[0] <= row.test_gain <= row.test_interval[1]
    assert result.evaluation.selection is not None
    assert result.evaluation.selection.validation == pytest.approx(row.validation)

    # What predicts is what was evaluated.
    test = pd.read_csv("run/predictions.csv")
    test[["input"]].rename(columns={"input": "text"}).to_csv("inputs.csv", index=False)
    code, out, error = luthier("predict", "run", "inputs.csv")
    assert code == 0, error
    answers = [json.loads(line)["value"] for line in out.splitlines()]
    np.testing.assert_allclose(answers, test["value"], rtol=1e-4)
    test.rename(columns={"input": "text", "truth": "rating"})[["text", "rating"]].to_csv(
        "again.csv", index=False
    )
    code, out, error = luthier("evaluate", "run", "again.csv", "--json")
    assert code == 0 and json.loads(out)["rmse"]["value"] == pytest.approx(row.test, rel=1e-3)

    code, out, _ = luthier("show", "run")
    assert code == 0 and "single" in out and "ensemble: greedy" in out
    code, out, _ = luthier("show", "run", "--json")
    assert json.loads(out)["ensemble"]["name"] == "greedy"
    assert 'the ensemble "greedy"' in Path("run/model/README.md").read_text()
    copy = result.save("copy")
    assert saved.is_ensemble(copy) and len(saved.load(copy).parts) == len(weights)


def test_auto_ships_what_gains_and_tells_of_the_rest(luthier: Luthier, tiny_model: Tiny) -> None:
    code, out, error = luthier(*tune(tiny_model("bert"), "--ensemble", "auto"))
    assert code == 0, error
    combined = Result.load("run").evaluation.combined
    assert {row.name for row in combined} <= {"greedy", "stacking", "greedy-soup"} and combined
    assert all(np.isfinite([row.gain, row.test, row.test_gain]).all() for row in combined)
    chosen = [row for row in combined if row.chosen]
    assert (
        saved.is_ensemble("run/model") == bool(chosen) == Path("run/single").exists() == ("ensemble:" in out)
    )


def test_one_that_was_killed_while_combining_goes_on(
    luthier: Luthier, tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    combine = Combiner.combine

    def dies(self: Combiner, best: object) -> None:
        combine(self, best)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(Combiner, "combine", dies)
    code, _, _ = luthier(*tune(tiny_model("bert"), "--ensemble", "greedy"))
    assert code != 0 and not Path("run/model").exists()
    monkeypatch.setattr(Combiner, "combine", combine)
    code, out, error = luthier("resume", "run")
    assert code == 0, error
    assert "ensemble: greedy" in out and saved.is_ensemble("run/model")
    assert len(Result.load("run").trials) == 4


def test_where_networks_are_limited_only_single_ones_are_shipped(luthier: Luthier, tiny_model: Tiny) -> None:
    code, out, error = luthier(
        *tune(tiny_model("bert"), "--ensemble", "greedy", "--constraint", "latency < 1000 s")
    )
    assert code == 0, error
    assert "Several networks would each add to latency" in out + error
    assert (
        json.loads(Path("run/run.json").read_text())["ensemble"] is None and not Path("run/single").exists()
    )
    assert not saved.is_ensemble("run/model") and Result.load("run").evaluation.combined == []


def test_none_is_none(luthier: Luthier, tiny_model: Tiny) -> None:
    code, out, error = luthier(*tune(tiny_model("bert"), "--ensemble", "none", "--trials", 2))
    assert code == 0, error
    assert "ensemble" not in out and Result.load("run").evaluation.combined == []


def test_a_name_that_is_none_is_one_clear_error(luthier: Luthier, tiny_model: Tiny) -> None:
    code, _, error = luthier(*tune(tiny_model("bert"), "--ensemble", "gredy"))
    assert code == 2 and error.count("error:") == 1 and "Traceback" not in error
    assert "'gredy' is unknown" in error and "Did you mean 'greedy'" in error
    assert all(name in error for name in ("none", "auto", "stacking"))
    assert not Path("run").exists()


def test_what_cannot_be_made_or_saved_leaves_the_single_model(
    luthier: Luthier, tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RunError("The disk is full.")

    monkeypatch.setattr("luthier.run.ship.ensembles.save", fails)
    code, out, error = luthier(*tune(tiny_model("bert"), "--ensemble", "greedy"))
    assert code == 0 and "cannot be saved, so the model is the best single one" in out + error
    assert not saved.is_ensemble("run/model") and not Path("run/single").exists()
    result = Result.load("run")
    assert result.manifest["ensemble"] is None and not any(row.chosen for row in result.evaluation.combined)
    assert result.predict(["a good cat"])

    monkeypatch.setattr("luthier.ensemble.greedy.select", fails)
    code, out, error = luthier(*tune(tiny_model("bert"), "--ensemble", "greedy", "--out", "other"))
    assert code == 0 and "'greedy' came to nothing: The disk is full" in out + error
    assert Result.load("other").evaluation.combined == []
