"""What `luthier predict` takes for a text, a file or a folder, and where its answers go."""

from __future__ import annotations

import json
import types
from pathlib import Path

import pandas as pd
import pytest
from cli_fakes import invoke


def test_a_text_is_predicted_and_shown_as_it_was_given(api):
    done = invoke("predict", "run", "Ünïcode is fine")
    assert api.loaded == ["run"] and api.result.asked == [["Ünïcode is fine"]]
    assert json.loads(done.stdout) == {"input": "Ünïcode is fine", "label": "é0", "scores": {"a": 0.5}}
    assert "é0" in done.stdout


def test_lines_of_standard_input(api):
    done = invoke("predict", "run", "-", input="one\r\n\ntwo")
    assert api.result.asked == [["one", "", "two"]] and len(done.stdout.splitlines()) == 3


def test_lines_of_a_text_file(api, tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("one\ntwo\n")
    invoke("predict", "run", path)
    assert api.result.asked == [["one", "two"]]


def test_a_folder_of_images_in_order(api, tmp_path):
    for name in ("b.png", "a.JPG", "sub/c.jpeg", "notes.md"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"")
    invoke("predict", "run", tmp_path / "images")
    assert [Path(item).name for item in api.result.asked[0]] == ["a.JPG", "b.png", "c.jpeg"]


def test_a_table_goes_in_as_its_rows(api, monkeypatch, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("text\na\nb\n")
    frame = pd.DataFrame({"text": ["a", "b"], "__row__": [2, 3]})
    dataset = types.SimpleNamespace(splits={"train": frame})
    monkeypatch.setattr("luthier.data.read", lambda source: dataset, raising=False)
    done = invoke("predict", "run", path)
    pd.testing.assert_frame_equal(api.result.asked[0], frame)
    assert [json.loads(line)["row"] for line in done.stdout.splitlines()] == [2, 3]


@pytest.mark.parametrize("name", ["absent.csv", "absent.png", "deep/absent.txt"])
def test_what_looks_like_a_file_but_is_none_is_not_a_text(api, name):
    assert f"There is no file '{name}'" in invoke("predict", "run", name, code=2).stderr


def test_a_very_long_text_is_still_a_text(api):
    invoke("predict", "run", "word " * 2000)
    assert len(api.result.asked) == 1


def test_nothing_to_predict_for_is_an_error(api, tmp_path):
    (tmp_path / "x.txt").write_text("")
    assert "nothing to predict" in invoke("predict", "run", tmp_path / "x.txt", code=2).stderr
    assert "standard input" in invoke("predict", "run", "-", input="", code=2).stderr
    (tmp_path / "x.bin").write_bytes(b"\0")
    assert "Cannot tell what" in invoke("predict", "run", tmp_path / "x.bin", code=2).stderr
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in invoke("predict", "run", tmp_path / "bad.txt", code=2).stderr
    assert not api.loaded


def test_predictions_go_to_a_file(api, tmp_path):
    invoke("predict", "run", "hi", "--output", tmp_path / "p.csv")
    frame = pd.read_csv(tmp_path / "p.csv")
    assert frame.to_dict("records") == [{"input": "hi", "label": "é0", "scores": '{"a": 0.5}'}]
    invoke("predict", "run", "hi", "--output", tmp_path / "p.jsonl")
    assert json.loads((tmp_path / "p.jsonl").read_text())["label"] == "é0"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["p.csv", "p.jsonl"]


def test_a_wrong_output_is_refused_before_the_model_is_loaded(api, tmp_path):
    assert (
        "must end in .csv or .jsonl"
        in invoke("predict", "run", "hi", "-o", tmp_path / "p.xlsx", code=2).stderr
    )
    assert (
        "missing or read-only"
        in invoke("predict", "run", "hi", "-o", tmp_path / "no" / "p.csv", code=2).stderr
    )
    assert not api.loaded


def test_a_failed_write_leaves_nothing_behind(api, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "luthier.cli.predict._write_lines",
        lambda answers, file: (_ for _ in ()).throw(OSError(28, "No space left")),
    )
    done = invoke("predict", "run", "hi", "-o", tmp_path / "p.jsonl", code=2)
    assert "No space left" in done.stderr
    assert not [path for path in tmp_path.iterdir() if path.is_file()]
