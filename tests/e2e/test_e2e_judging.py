"""A run whose data is flawed in known ways, and what is said of it; and further data that is worse still."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

import luthier
import made
from luthier.cli.main import main
from luthier.errors import SettingError
from luthier.evaluate.calibration import calibrate, fit_temperature

Tiny = Callable[[str], Path]

COPIED = 12


@pytest.fixture(scope="module")
def flawed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Splits in which training and test share rows, and training has labels that are wrong."""
    folder = tmp_path_factory.mktemp("flawed")
    train, test = made.sentences(240, 1), made.sentences(100, 3)
    rng = np.random.default_rng(0)
    wrong = rng.choice(np.arange(COPIED, 240), 12, replace=False)
    train.loc[wrong, "label"] = train.loc[wrong, "label"].map({"yes": "no", "no": "yes"})
    test.iloc[:COPIED, :2] = train.iloc[:COPIED, :2].to_numpy()
    for frame, name in ((train, "train"), (made.sentences(100, 2), "validation"), (test, "test")):
        frame["author"] = np.arange(len(frame)) // 5 + 1000 * len(name)
        frame["source"] = ["app", "web"] * (len(frame) // 2)
        frame.to_csv(folder / f"{name}.csv", index=False)
    (folder / "wrong.json").write_text(json.dumps([int(row) for row in wrong]))
    return folder


@pytest.fixture(scope="module")
def run(flawed: Path, tiny_model: Tiny, tmp_path_factory: pytest.TempPathFactory) -> luthier.Result:
    (flawed / "wrong.json").rename(flawed.parent / "wrong.json")
    space = {"adaptation": "full", "learning_rate": [3e-3, 5e-3], "epochs": 4, "batch_size": 16}
    return luthier.tune(
        str(flawed), model=str(tiny_model("bert")), out=tmp_path_factory.mktemp("judged") / "run",
        budget="10m", trials=2, repeats=1, strategy="random", space=space, threads=1, group="author",
        slices="source", baselines=["majority", "probe", "neighbours"],
    )  # fmt: skip


def test_its_parts_are_judged(run: luthier.Result, capsys: pytest.CaptureFixture[str]) -> None:
    told = run.evaluation
    assert told.groups == 20
    assert told.leaked is not None and (told.leaked.rows, told.leaked.n) == (COPIED, 100 - COPIED)
    assert {"class", "length", "source"} == {part.kind for part in told.slices}
    assert [baseline.kind for baseline in told.baselines] == ["majority", "probe", "neighbours"]
    assert told.baselines[2].note.startswith("k = ")
    assert all(baseline.p is None for baseline in told.baselines)  # authors are no independent rows
    assert "baseline" in told.worth and told.spent > 0
    with pytest.raises(SystemExit) as exit:
        main(["show", str(run.folder)])
    shown = capsys.readouterr().out
    assert exit.value.code == 0
    assert told.worth in shown and "calibration: expected error" in shown and "suspects.csv" in shown
    assert f"{COPIED} test rows stand there too" in shown


def test_wrong_labels_are_among_the_suspects(run: luthier.Result, flawed: Path) -> None:
    table = pd.read_csv(run.folder / "suspects.csv")
    # Rows are the lines of the file, of which the first is the header.
    wrong = {row + 2 for row in json.loads((flawed.parent / "wrong.json").read_text())}
    found = run.evaluation.suspects
    assert found is not None and set(found.found) == {"test", "validation", "train"}
    assert len(table) == sum(found.found.values())
    said = set(table.loc[table["split"] == "train", "row"])
    assert len(said & wrong) >= 6, "found half of the mistakes at least"


def test_the_temperature_ships_with_the_model(run: luthier.Result, flawed: Path) -> None:
    """Plain transformers gives probabilities that are divided by it, as kept outputs say it should be."""
    from luthier.engine.kept import KeptOutputs

    trial = run.manifest["best"]["trial"]
    kept = KeptOutputs(run.folder / "outputs").load(trial)
    assert kept is not None
    validation = pd.read_csv(flawed / "validation.csv")
    task = run.predictor.task
    expected = fit_temperature(task, kept, task.targets(validation))
    assert run.predictor.temperature == pytest.approx(expected) != 1.0
    folder = run.folder / "model"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        logits = model(**tokenizer(list(validation["text"]), padding=True, return_tensors="pt")).logits
    # What is kept was said in half precision where that is quicker.
    np.testing.assert_allclose(logits.numpy(), np.stack(kept) / expected, atol=0.03)
    test = pd.read_csv(flawed / "test.csv")
    told = run.evaluation.calibration
    again = calibrate(
        task, run.predictor.outputs(test), task.targets(test), temperature=expected, groups=test["author"]
    )
    assert told is not None and again is not None
    assert (told.error, told.before) == pytest.approx((again.error, again.before), abs=1e-4)
    assert f"{expected:.2f}" in (folder / "README.md").read_text()


@pytest.fixture
def judge(
    run: luthier.Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs ``luthier evaluate`` on a table, or on bytes, and gives its exit code and all that it says."""

    def ask(data: Any, *options: str) -> tuple[int, str]:
        path = tmp_path / "more.csv"
        if isinstance(data, bytes):
            path.write_bytes(data)
        else:
            data.to_csv(path, index=False)
        with pytest.raises(SystemExit) as exit:
            main(["evaluate", str(run.folder), str(path), *options])
        said = capsys.readouterr()
        assert "Traceback" not in said.err and said.err.count("error:") == (exit.value.code == 2)
        return int(exit.value.code or 0), said.out + said.err

    return ask


Judge = Callable[..., tuple[int, str]]


def test_good_further_data(judge: Judge, run: luthier.Result) -> None:
    code, said = judge(made.sentences(60, 9))
    assert code == 0 and "60 examples" in said and "accuracy" in said and "calibration:" in said
    frame = made.sentences(60, 9).assign(author=np.arange(60) // 6, page=np.arange(60))
    code, said = judge(frame, "--slice", "page", "--json")
    values = json.loads(said)
    assert values["groups"] == 10 and values["n"] == 60
    assert {"class", "length", "page"} == {part["kind"] for part in values["slices"]}
    wide, narrow = run.evaluate(frame), run.evaluate(frame.drop(columns="author"))
    assert wide.groups == 10 and narrow.groups is None


def test_a_slice_of_no_column(judge: Judge, flawed: Path, tiny_model: Tiny, tmp_path: Path) -> None:
    code, said = judge(made.sentences(10), "--slice", "sauce")
    assert code == 2 and "'sauce'" in said and "text, label" in said
    with pytest.raises(SettingError, match="'sauce'") as error:
        luthier.tune(str(flawed), model=str(tiny_model("bert")), out=tmp_path / "run", slices=["sauce"])
    assert "source" in str(error.value.hint) and not (tmp_path / "run").exists()


def test_labels_that_training_never_saw(judge: Judge) -> None:
    frame = made.sentences(40, 9)
    frame.loc[:9, "label"] = "perhaps"
    code, said = judge(frame)
    assert code == 0 and "10 rows have one that training never saw" in said
    code, said = judge(frame.assign(label="perhaps"))
    assert code == 2 and "'perhaps'" in said and "'no', 'yes'" in said


def test_no_labels(judge: Judge) -> None:
    code, said = judge(made.sentences(5).drop(columns="label"))
    assert code == 2 and "'label'" in said and "Its columns: text" in said
    code, said = judge(made.sentences(5).assign(label=None))
    assert code == 2 and "no labelled rows" in said


def test_other_columns(judge: Judge) -> None:
    code, said = judge(pd.DataFrame({"title": ["a"], "kind": ["yes"]}))
    assert code == 2 and "'text'" in said and "title, kind" in said


def test_one_row_has_a_value_and_no_interval(judge: Judge, run: luthier.Result) -> None:
    code, said = judge(made.sentences(1))
    assert code == 0 and "1 example" in said and "unknown" in said and "nan" not in said.lower()
    told = run.evaluate(made.sentences(1))
    assert all(np.isnan(interval).all() for interval in told.intervals.values())
    assert json.dumps(told.to_json(), allow_nan=False)


def test_a_class_that_is_missing(judge: Judge, run: luthier.Result) -> None:
    frame = made.sentences(40, 9)
    only = frame[frame["label"] == "yes"]
    code, said = judge(only)
    assert code == 0 and "20 examples" in said
    assert [part.name for part in run.evaluate(only).slices if part.kind == "class"] == ["yes"]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"text,label\n"])
def test_an_empty_file(judge: Judge, content: bytes) -> None:
    code, said = judge(content)
    assert code == 2 and "more.csv" in said
