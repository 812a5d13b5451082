"""What is monitored is found, labels are taken whole or refused, and a webhook hears of an alarm."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from luthier.cli.main import app
from luthier.deploy.opening import Proof
from luthier.deploy.packing import Candidate
from luthier.deploy.state import Role
from luthier.deploy.versions import Deployment
from luthier.errors import DataError, ModelError, RunError, SettingError
from luthier.monitor import reference
from luthier.monitor.history import Alarm, History
from luthier.monitor.observation import Observation
from luthier.monitor.records import Records, row_of
from luthier.report.monitored import lines
from luthier.run.labels import Labelled, label
from luthier.run.monitor import monitor, settings_of, watch
from luthier.run.watched import RECORDS, locate, opened
from luthier.tasks.base import Columns
from luthier.tasks.text_classification import TextClassification

CLASSES = ("bird", "cat", "dog")


def outputs_of(count: int, seed: int = 0, *, sure: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32) * sure


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with a reference, in which the model is as right as it is sure, and 400 observations."""
    task = TextClassification(Columns({"input": "text", "target": "label"}))
    task.fit(pd.DataFrame({"text": CLASSES, "label": CLASSES}))
    outputs, draw = outputs_of(800, 1), np.random.default_rng(0)
    shares = np.exp(outputs.astype(np.float64))
    shares /= shares.sum(axis=1, keepdims=True)
    frame = pd.DataFrame({"text": ["a"] * 800, "label": [CLASSES[draw.choice(3, p=row)] for row in shares]})
    found = reference.gather(task, list(outputs), task.targets(frame), frame)
    folder = tmp_path / "run"
    folder.mkdir()
    reference.write(folder / "reference", found, task, {"n": 800, "metric": "accuracy", "metrics": {}})
    record(folder, 400)
    return folder


def record(folder: Path, count: int, *, first: int = 0, version: str = "1", model: str = "run", **how):
    outputs = outputs_of(count, first + 7, **how)
    made = [
        Observation(f"r{first + at}", 1e9 + first + at, version, outputs[at], {}, input=f"text {at}")
        for at in range(count)
    ]
    with Records(folder / RECORDS) as records:
        records.add([row_of(model, one, keep_input=True) for one in made])


def answers(folder: Path) -> dict[str, str]:
    """What was answered, by id."""
    with Records(folder / RECORDS) as records:
        found = records.latest("run")
    return {one: CLASSES[int(np.argmax(o))] for one, o in zip(found.ids, found.outputs, strict=True)}


# -- finding -------------------------------------------------------------------------------------------------


def test_what_cannot_be_watched_is_said(run, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match="neither a folder 'nothing' nor a deployment"):
        locate("nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"no reference/(.|\n)*resume"):
        locate("empty")
    (run / "export.json").write_text("{}")
    with pytest.raises(SettingError, match="no records can lie"):
        locate(run)
    assert locate(run, url="elsewhere.db").url == "elsewhere.db"
    with pytest.raises(RunError, match="no records at"), opened(locate(run, url="elsewhere.db")):
        pass


def test_a_deployment_is_watched_by_its_version_in_charge(run, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    proof = Proof("model", "text-classification", CLASSES)
    for number, kept in ((1, None), (2, run / "reference")):
        model = tmp_path / f"model{number}"
        model.mkdir()
        (model / "weights").write_text(str(number))
        found = Candidate(model, "a test", reference=kept)
        Deployment("zoo").add(found, lambda place: proof, role=Role("full"), force=True)
    home = tmp_path / "deployments" / "zoo"
    record(home, 30, first=500, version="2")
    record(home, 30, first=600, version="1")
    place = locate("zoo")
    assert (place.version, Path(place.url).resolve()) == ("2", (home / RECORDS).resolve())
    with opened(place) as watched:
        assert watched.version == "2", "the one in charge, though another was seen last"
    monkeypatch.setenv("LUTHIER_REGISTRY", str(tmp_path / "other"))
    with pytest.raises(SettingError, match="neither a folder"):
        locate("zoo")
    assert locate("zoo", registry=str(home.parent)).version == "2"
    Deployment("zoo", home.parent).rollback()
    with pytest.raises(RunError, match=r"Version 1 of 'zoo' has no reference"):
        locate("zoo", registry=str(home.parent))
    with pytest.raises(SettingError, match="neither a folder"):
        locate("../zoo", registry=str(home))


@pytest.fixture
def zoo(run, tmp_path, monkeypatch) -> Deployment:
    """A deployment of versions 1 and 2, each with a reference, of which the second is a canary."""
    monkeypatch.chdir(tmp_path)
    proof = Proof("model", "text-classification", CLASSES)
    deployment = Deployment("zoo")
    for number, role in ((1, "full"), (2, "canary:10%"), (3, "shadow")):
        model = tmp_path / f"model{number}"
        model.mkdir()
        (model / "weights").write_text(str(number))
        found = Candidate(model, "a test", reference=run / "reference" if number < 3 else None)
        deployment.add(found, lambda place: proof, role=Role.parse(role), force=True)
    return deployment


def test_watching_a_deployment_looks_at_all_its_versions_in_use(zoo) -> None:
    record(zoo.folder, 60, first=500, version="1", model="zoo")
    steps = [
        lambda: record(zoo.folder, 70, first=600, version="2", model="zoo"),
        lambda: zoo.promote(2, Role("full"), force=True),
    ]
    reports = watch("zoo", every=1.0, sleep=lambda seconds: steps.pop(0)())
    found = [next(reports) for _ in range(4)]
    seen = [(report.looked.version, report.role, report.looked.recorded) for report in found]
    assert seen == [("1", "full", 60), ("1", "full", 60), ("2", "canary:10%", 70), ("2", "full", 70)]
    assert found[2].to_json()["role"] == "canary:10%" and "version 2 (canary:10%)" in "\n".join(
        lines(found[2])
    )


def test_a_version_is_held_against_the_reference_that_came_with_it(zoo) -> None:
    record(zoo.folder, 60, first=500, version="1", model="zoo")
    assert locate("zoo").reference == zoo.place(1) / "reference"
    assert locate("zoo", version="2").reference == zoo.place(2) / "reference"
    with pytest.raises(RunError, match=r"Version 3 of 'zoo' has no reference"):
        locate("zoo", version="3")
    zoo.promote(2, Role("full"), force=True)
    with pytest.raises(RunError, match="no observations of version '2'"):
        monitor("zoo")
    assert monitor("zoo", version="1").looked.recorded == 60
    # Labels are of requests, whoever is in charge now.
    assert label("zoo", pd.DataFrame({"id": ["r500"], "label": ["cat"]})).new == 1


def test_watching_waits_for_the_first_records(run, caplog) -> None:
    kept = (run / RECORDS).read_bytes()
    for file in run.glob(f"{RECORDS}*"):
        file.unlink()
    steps = [lambda: None, lambda: (run / RECORDS).write_bytes(kept)]
    reports = watch(run, every=1.0, sleep=lambda seconds: steps.pop(0)())
    assert next(reports).looked.recorded == 400 and not steps
    assert caplog.text.count("no records at") == 1
    with pytest.raises(SettingError, match="neither a folder"):
        next(watch("nothing", every=1.0))


def test_a_version_or_model_that_is_not_there(run) -> None:
    with (
        pytest.raises(RunError, match=r"no observations of version '9'(.|\n)*of: 1"),
        opened(locate(run), version="9"),
    ):
        pass
    record(run, 3, first=900, model="other")
    with pytest.raises(SettingError, match="several models"), opened(locate(run)):
        pass
    with opened(locate(run), model="run") as watched:
        assert watched.model == "run"
    (run / "reference" / "reference.json").write_text("{}")
    with pytest.raises(ModelError, match="damaged"), opened(locate(run)):
        pass


# -- labels --------------------------------------------------------------------------------------------------


def test_labels_from_a_table_are_kept_and_replaced(run, tmp_path) -> None:
    rows = pd.DataFrame({"id": ["r1", "r2", "gone", "r3"], "label": ["cat", "fish", "dog", None]})
    rows.to_csv(tmp_path / "labels.csv", index=False)
    done = label(run, tmp_path / "labels.csv")
    assert done == Labelled(new=2, replaced=0, same=0, unknown=1, empty=1, unseen=1, labels=("fish",))
    rows = pd.DataFrame({"id": ["r1", "r2", "r4"], "label": ["dog", "fish", "cat"]})
    rows.to_parquet(tmp_path / "labels.parquet")
    done = label(run, tmp_path / "labels.parquet")
    assert (done.new, done.replaced, done.same) == (1, 1, 1)
    with Records(run / RECORDS) as records:
        assert records.latest("run").labels == {"r1": "dog", "r2": "fish", "r4": "cat"}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"id": ["r1", "r2", "r1"], "label": ["cat", "dog", "dog"]}, "'r1' has two labels.* rows 1 and 3"),
        ({"id": ["x1", "x2"], "label": ["cat", "dog"]}, "None of the 2 ids"),
        ({"id": ["r1", "r2"], "label": ["fish", "horse"]}, "None of the labels .*'fish', 'horse'"),
        ({"id": ["r1", None], "label": ["cat", "dog"]}, "Row 2 .* no id"),
        ({"id": ["r1"], "truth": ["cat"]}, "no column 'label'"),
        ({"name": ["r1"], "label": ["cat"]}, "no column 'id'"),
    ],
)
def test_labels_that_are_refused_leave_nothing(run, rows, said) -> None:
    with pytest.raises(DataError, match=said):
        label(run, pd.DataFrame(rows))
    with Records(run / RECORDS) as records:
        assert records.latest("run").labels == {}


# -- looking -------------------------------------------------------------------------------------------------


def test_requests_like_the_test_rows_raise_no_alarm(run) -> None:
    report = monitor(run, course=True, window=200)
    assert not report.looked.harm and report.looked.recorded == 400 and report.looked.labelled == 0
    assert report.looked.judgement.estimate is not None
    assert [window.n for window in report.course] == [200, 200]
    assert sum(share.now for share in report.shares) == pytest.approx(1)
    assert [share.name for share in report.shares] == list(CLASSES)
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["alarm"] is False


def test_wrong_answers_raise_the_alarm_once_and_right_ones_end_it(run, monkeypatch) -> None:
    told: list[dict] = []
    monkeypatch.setattr("luthier.monitor.webhook.send", lambda url, value: told.append(value) or True)
    hook = "https://hooks.example/secret"
    reports = watch(run, every=1.0, window=200, hook=hook, sleep=lambda seconds: None)
    assert not next(reports).looked.harm
    said = answers(run)
    wrong = {one: next(name for name in CLASSES if name != answer) for one, answer in said.items()}
    label(run, pd.DataFrame({"id": list(wrong), "label": list(wrong.values())}))
    first, second = next(reports), next(reports)
    assert first.looked.harm and second.looked.harm
    assert first.looked.judgement.harm_by == "labels"
    label(run, pd.DataFrame({"id": list(said), "label": list(said.values())}))
    assert not next(reports).looked.harm
    assert [one["event"] for one in told] == ["alarm", "alarm_ended"]
    assert told[0]["alarm"] == "harm" and told[0]["name"] == str(run) and "input" not in json.dumps(told[0])
    assert set(told[0]) >= {"version", "time", "requests", "estimate", "explanation", "by"}


def test_the_exit_code_says_whether_the_alarm_is_on(run) -> None:
    command = ["monitor", str(run), "--window", "200"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0 and done.stdout.startswith("no harm: accuracy")
    wrong = {one: next(name for name in CLASSES if name != said) for one, said in answers(run).items()}
    table = run.parent / "labels.csv"
    pd.DataFrame({"id": list(wrong), "label": list(wrong.values())}).to_csv(table, index=False)
    done = CliRunner().invoke(app, ["labels", str(run), str(table)])
    assert done.exit_code == 0 and done.stdout == "400 new, 0 replaced, 0 as before\n"
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 3 and done.stdout.startswith("HARM: accuracy 0.0"), done.stdout
    assert "alarm: on since" in done.stdout
    done = CliRunner().invoke(app, [*command, "--every", "0"])
    assert done.exit_code == 2


def test_the_examples_behind_a_change_have_their_inputs(run) -> None:
    record(run, 400, first=1000, sure=0.1)
    report = monitor(run, window=200)
    assert report.looked.judgement.drifted
    assert report.examples and all(one.input.startswith("text ") for one in report.examples)
    assert all(one.answer.split()[0] in CLASSES for one in report.examples)


def test_an_alarm_that_nobody_heard_of_is_told_later(run, monkeypatch) -> None:
    said = answers(run)
    wrong = {one: next(name for name in CLASSES if name != answer) for one, answer in said.items()}
    label(run, pd.DataFrame({"id": list(wrong), "label": list(wrong.values())}))
    assert monitor(run, window=200).looked.turned == "on", "by a look without a webhook"
    heard: list[str] = []
    takes = [False, True]

    def send(url: str, value: dict) -> bool:
        heard.append(value["event"])
        return takes.pop(0) if takes else True

    monkeypatch.setattr("luthier.monitor.webhook.send", send)
    for _ in range(4):
        monitor(run, window=200, hook="https://hooks.example/x")
    assert heard == ["alarm", "alarm"], "the first time in vain, then once"
    label(run, pd.DataFrame({"id": list(said), "label": list(said.values())}))
    for _ in range(2):
        monitor(run, window=200, hook="https://hooks.example/x")
    assert heard == ["alarm", "alarm", "alarm_ended"]


def test_watching_outlives_records_that_are_lost_for_a_while(run, caplog) -> None:
    good = (run / RECORDS).read_bytes()
    reports = watch(run, every=1.0, window=200, sleep=lambda seconds: steps.pop(0)())
    steps = [lambda: (run / RECORDS).unlink(), lambda: None, lambda: (run / RECORDS).write_bytes(good)]
    assert next(reports).looked.recorded == 400
    for leftover in run.glob(f"{RECORDS}-*"):
        leftover.unlink()
    assert next(reports).looked.recorded == 400
    assert steps == [] and caplog.text.count("Looking is tried again") == 1
    (run / RECORDS).unlink()
    with pytest.raises(RunError):
        monitor(run)


def test_alarms_of_other_versions_are_left_out(run) -> None:
    with Records(run / RECORDS) as records:
        History(records).begin_alarm("run", "0", "harm", {}, 1.0)
        History(records).begin_alarm("run", "1", "drift", {}, 1.0)
    alarms: list[Alarm] = monitor(run).alarms
    assert {alarm.version for alarm in alarms} == {"1"}


def test_a_window_too_small_is_refused() -> None:
    with pytest.raises(SettingError, match="window of 10"):
        settings_of(10)
    assert (settings_of(400).long, settings_of(400).short) == (400, 100)
