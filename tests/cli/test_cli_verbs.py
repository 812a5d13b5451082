"""What tune, resume, evaluate and the verbs that look ask of the run functions, and what they print of it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import jsonschema
import pytest
import typer
import yaml
from cli_fakes import EVALUATION, FakeResult, invoke

from luthier.cli.main import app
from luthier.cli.output import next_commands
from luthier.evaluate.selection import Selection
from luthier.run.settings import Settings
from luthier.search import registry

# -- tune and resume ---------------------------------------------------------------------------------------

EVERY = {
    "task": "text-classification", "target": "kind", "group": "author", "split_column": "part",
    "model": ["a", "b"], "budget": "5m", "trials": 4, "repeats": 2, "folds": 0, "holdouts": 3,
    "strategy": "grid", "space": "space.yaml", "out": "runs/x", "name": "x",
    "seed": 3, "validation": 0.1, "test": 0.3,
    "objectives": ["score", "latency"], "constraints": ["latency < 20 ms", "size < 1 GB"],
    "baselines": ["majority", "probe"], "keep": 2, "ensemble": "greedy", "store": "sqlite:///s.sqlite",
    "from_": "runs/before", "add": ["new.csv", "more.csv"],
    "slices": ["source", "year"], "device": "cpu", "threads": 2, "stack": 4,
}  # fmt: skip

# Settings that are given one by one.
SINGULAR = {
    "from_": "from",
    "baselines": "baseline",
    "objectives": "objective",
    "constraints": "constraint",
    "slices": "slice",
}


def test_every_setting_has_an_option_and_arrives(api):
    arguments = []
    for name, value in EVERY.items():
        option = "--" + SINGULAR.get(name, name).replace("_", "-")
        for item in value if isinstance(value, list) else [value]:
            arguments += [option, item]
    invoke("tune", "d.csv", *arguments, "--column", "input=title", "--column", "input=body", "--drop-leaks")
    settings = api.tuned[0][0]
    assert settings == Settings.parse(
        {"data": "d.csv", **EVERY, "columns": {"input": ["title", "body"]}, "drop_leaks": True}
    )
    assert set(Settings.model_fields) == {"data", "columns", "drop_leaks", *EVERY}


def test_the_help_names_every_strategy():
    (said,) = [
        one.help for one in typer.main.get_command(app).commands["tune"].params if one.name == "strategy"
    ]
    assert set(registry._BUILT_IN) <= set(re.findall(r"\w+", said))


def test_options_left_out_stay_the_defaults(api):
    invoke("tune", "d.csv")
    assert api.tuned[0][0] == Settings.parse({"data": "d.csv"})


def test_options_override_a_settings_file(api, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("data: d.csv\nbudget: 2h\nseed: 5\ndrop_leaks: true\n")
    invoke("tune", path, "--budget=5m", "--keep-leaks")
    assert api.tuned[0][0] == Settings.parse(
        {"data": "d.csv", "budget": "5m", "seed": 5, "drop_leaks": False}
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--budget", "soon"], "'soon'"),
        (["--column", "kind"], "role=name"),
        (["--column", "=kind"], "role=name"),
        (["--device", "tpu"], "'tpu'"),
        (["--baseline", "luck"], "luck"),
        (["--test", "1.5"], "1.5"),
        (["--constraint", "latency < soon"], "'latency < soon'"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_runs(api, arguments, words):
    assert words in invoke("tune", "d.csv", *arguments, code=2).stderr
    assert not api.tuned


def test_the_end_shows_test_result_baselines_files_and_next_commands(api):
    shown = invoke("tune", "d.csv").stdout
    assert "test accuracy 0.951 (95% interval 0.930 to 0.970), 1,234 examples" in shown
    assert "majority [class]" in shown and "+0.751 (0.700 to 0.800)" in shown and "from scratch" in shown
    assert "chosen: minilm, full" in shown and "trials: 7, 1 failed in 1m01s" in shown
    assert "report.html" in shown and "trials.csv" not in shown
    assert f"luthier predict '{api.folder}' INPUT" in shown and "--budget +10m" in shown


def test_where_more_than_scores_counts_the_front_is_shown(api, monkeypatch):
    row = {"score": 0.95, "latency_ms": 4.123456, "memory_mb": 210.0, "size_mb": 90.8559, "model": "minilm"}
    rows = [{"number": 4, **row}, {"number": 11, **row, "score": 0.9, "latency_ms": 2.0}]
    summary = api.result.summary()
    monkeypatch.setattr(FakeResult, "summary", lambda self: {**summary, "pareto": rows})
    shown = invoke("show", "run").stdout
    assert "on the front" in shown
    assert re.search(r"trial +score +latency, ms +memory, MB +size, MB +model", shown)
    assert re.search(r"4 +0\.950 +4\.123 +210 +90\.86 +minilm\n +11 +0\.900 +2 ", shown)
    monkeypatch.setattr(FakeResult, "summary", lambda self: summary)
    assert "on the front" not in invoke("show", "run").stdout


def test_the_end_shows_what_choosing_did_to_the_score(api):
    told = Selection(0.97, 0.955, (0.94, 0.968), trials=40, left_out=2)
    api.result.evaluation = dataclasses.replace(EVALUATION, selection=told)
    assert (
        "Validation accuracy 0.970; expected after choosing the best of 40 trials, 2 left out 0.955 "
        "(95% interval 0.940 to 0.968); test accuracy 0.951."
    ) in invoke("tune", "d.csv").stdout


def test_next_commands_can_be_typed_where_the_program_is_not_on_the_path(api, monkeypatch, tmp_path):
    program = tmp_path / "env" / "luthier"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(program)])
    monkeypatch.setenv("PATH", "/nowhere")
    assert next_commands(Path("runs/x"))[0] == "env/luthier predict runs/x INPUT"
    monkeypatch.setenv("PATH", str(program.parent))
    assert next_commands(Path("runs/x"))[0] == "luthier predict runs/x INPUT"


def test_quiet_runs_without_progress(api):
    invoke("tune", "d.csv", "--quiet")
    invoke("tune", "d.csv")
    assert api.tuned[0][1] is None and api.tuned[1][1] is not None


def test_resume_hands_on_its_budget(api):
    invoke("resume", api.folder, "--budget", "+10m")
    invoke("resume", api.folder)
    assert api.resumed == [(str(api.folder), "+10m"), (str(api.folder), None)]
    assert "'+soon'" in invoke("resume", api.folder, "--budget", "+soon", code=2).stderr.replace(
        "'soon'", "'+soon'"
    )
    assert len(api.resumed) == 2


# -- evaluate ----------------------------------------------------------------------------------------------


def test_evaluate_prints_every_metric_with_its_interval(api):
    done = invoke("evaluate", "run", "d.csv")
    assert api.result.asked == ["d.csv"]
    assert "0.930 to 0.970" in done.stdout and "macro_f1" in done.stdout
    values = json.loads(invoke("evaluate", "run", "d.csv", "--json").stdout)
    assert values["accuracy"] == {"value": 0.9512, "low": 0.93, "high": 0.97}
    assert values["macro_f1"]["value"] is None


# -- looking -----------------------------------------------------------------------------------------------


def test_show_prints_the_run_and_its_json(api):
    assert "test accuracy 0.951" in invoke("show", "run").stdout
    summary = json.loads(invoke("show", "run", "--json").stdout)
    assert summary["trials"] == 7 and summary["score"] is None


def test_show_writes_an_optuna_study_and_says_how_to_see_it(api):
    done = invoke("show", "run", "--optuna", "s.db", "--json")
    assert api.result.asked == ["s.db"]
    assert json.loads(done.stdout)["trials"] == 7
    assert "optuna-dashboard sqlite:///s.db" in done.stderr


def test_runs_lists_the_newest_first(api):
    def run(name, created, **more):
        common = {"status": "finished", "task": "t", "metric": "accuracy", "trials": 3, "spent": 61.2}
        return {
            "name": name,
            "folder": Path("runs") / name,
            "score": 0.91234,
            "created": created,
            **common,
            **more,
        }

    found = [
        run("old", "2026-01-01T10:00:00"),
        run("new", "2026-02-01T10:00:00", score=None, status="running"),
    ]
    api.folder_module.list_runs = lambda root: found
    lines = invoke("runs", "--root", "elsewhere").stdout.splitlines()
    assert (
        "new" in lines[1] and "running" in lines[1] and "0.912 accuracy" in lines[2] and "1m01s" in lines[2]
    )
    assert [row["name"] for row in json.loads(invoke("runs", "--json").stdout)] == ["new", "old"]
    api.folder_module.list_runs = lambda root: []
    assert invoke("runs").stdout == "No runs under runs.\n"


def test_models_are_ranked(api):
    asked = []
    rows = [{"model": "minilm", "parameters": 22713216, "logme": 0.4321, "probe": math.nan, "seconds": 3.21}]
    api.inspect_module.rank = lambda settings: asked.append(settings) or rows
    done = invoke("models", "d.csv", "-m", "minilm", "-m", "other")
    assert asked[0].model == ["minilm", "other"]
    assert "22,713,216" in done.stdout and "0.432" in done.stdout and "3.2" in done.stdout
    assert json.loads(invoke("models", "d.csv", "--json").stdout)[0]["probe"] is None


@dataclass
class FakeFinding:
    severity: str
    code: str
    message: str
    rows: list
    split: str | None


@dataclass
class FakeChecked:
    task: str
    columns: dict
    rows: dict
    findings: list
    notes: list = field(default_factory=lambda: ["the target is c"])


@pytest.mark.parametrize(("severity", "code"), [("warning", 0), ("error", 2)])
def test_check_says_what_it_found_and_fails_on_errors(api, severity, code):
    finding = FakeFinding(
        severity, "conflict", "Equal texts have different labels", list(range(2, 14)), "train"
    )
    checked = FakeChecked(
        "text-classification", {"input": ["a", "b"], "target": "c"}, {"train": 1200}, [finding]
    )
    api.inspect_module.check = lambda settings: checked
    shown = invoke("check", "d.csv", code=code).stdout
    assert "task: text-classification" in shown and "input = a, b" in shown and "1,200 train" in shown
    assert "note: the target is c" in shown and f"{severity}: Equal texts have different labels" in shown
    assert (
        json.loads(invoke("check", "d.csv", "--json", code=code).stdout)["findings"][0]["code"] == "conflict"
    )


def test_check_says_so_when_all_is_well(api):
    api.inspect_module.check = lambda settings: FakeChecked("t", {}, {}, [])
    assert "nothing found" in invoke("check", "d.csv").stdout


def test_schema_is_a_schema_of_settings_files(tmp_path):
    schema = json.loads(invoke("schema").stdout)
    jsonschema.validate(yaml.safe_load("data: d.csv\nbudget: 900\nmodel: minilm"), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"modle": "x"}, schema)
