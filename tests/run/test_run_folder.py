from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from luthier.errors import RunError
from luthier.run.folder import RunFolder, list_runs, write_text


def test_a_new_folder_is_made(tmp_path: Path) -> None:
    folder = RunFolder.new(str(tmp_path / "a" / "b"), "x", needed=1)
    assert folder.path.is_dir()
    assert list(folder.path.iterdir()) == []


def test_the_name_makes_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = RunFolder.new(None, "../my data", needed=1)
    assert folder.path.parent == Path("runs")
    assert folder.path.name.startswith("my-data-")


def test_what_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(RunError, match="is a file"):
        RunFolder.new(str(file), "x", needed=1)
    with pytest.raises(RunError, match="Cannot write"):
        RunFolder.new(str(file / "below"), "x", needed=1)
    with pytest.raises(RunError, match="not empty"):
        RunFolder.new(str(tmp_path), "x", needed=1)
    assert file.read_text() == ""


def test_a_full_disk_is_refused_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5 * 2**20))
    with pytest.raises(RunError, match="5 MB free; this run may need 9 MB"):
        RunFolder.new(str(tmp_path / "new"), "x", needed=9 * 2**20)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"settings": '])
def test_what_is_no_run_is_said(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match="run"):
        RunFolder(tmp_path).read_manifest()


def test_text_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    write_text(target, "old")

    def full(self: Path, *args: object, **also: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(RunError, match="No space left"):
        write_text(target, "new")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_any_text_is_written_as_it_is_but_lone_surrogates(tmp_path: Path) -> None:
    write_text(tmp_path / "file", 'row,input\r\n1,"two\nlines, \ud800ä"\n')
    assert (tmp_path / "file").read_bytes() == 'row,input\r\n1,"two\nlines, ?ä"\n'.encode()


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    for name, created in (("a", "2026-01-01T00:00:00"), ("b", "2026-02-01T00:00:00")):
        (tmp_path / name).mkdir()
        values = {"settings": {}, "name": name, "status": "finished", "created": created}
        (tmp_path / name / "run.json").write_text(json.dumps(values))
    (tmp_path / "other").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    assert [row["name"] for row in list_runs(tmp_path)] == ["b", "a"]
    with pytest.raises(RunError, match="no folder"):
        list_runs(tmp_path / "none")
