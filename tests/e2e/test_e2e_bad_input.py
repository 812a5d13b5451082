"""Each thing a user can get wrong: one clear error, exit code 2, before training, and nothing left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import made
from luthier.cli.main import main

pytestmark = pytest.mark.e2e
Tiny = Callable[[str], Path]


@pytest.fixture
def refuse(
    tmp_path: Path, tiny_model: Tiny, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Runs `luthier tune` as a user would, and gives the error it ends with."""

    def run(data: object, *options: object, model: Path | None = None) -> str:
        out = tmp_path / "out"
        arguments = [
            "tune",
            data,
            "--model",
            model or tiny_model("bert"),
            "--budget",
            "1m",
            "--out",
            out,
            *options,
        ]
        monkeypatch.setattr("sys.argv", ["luthier", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            main()
        error = capsys.readouterr().err
        assert exit.value.code == 2, error
        assert error.count("error:") == 1
        assert "Traceback" not in error
        assert not out.exists() or not any(out.iterdir()), "something was left behind"
        return error

    return run


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.csv"
    made.sentences(60).to_csv(path, index=False)
    return path


def table(path: Path, **columns: object) -> Path:
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def test_no_file(refuse: Callable[..., str], tmp_path: Path) -> None:
    assert "nowhere.csv" in refuse(tmp_path / "nowhere.csv")


def test_an_unreadable_file(refuse: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "noise.csv"
    path.write_bytes(bytes(range(256)) * 50)
    assert "noise.csv" in refuse(path)


def test_an_empty_file(refuse: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    assert "empty.csv" in refuse(tmp_path / "empty.csv")


def test_no_such_column(refuse: Callable[..., str], good: Path) -> None:
    error = refuse(good, "--target", "lable")
    assert "'lable'" in error and "label" in error


def test_labels_all_missing(refuse: Callable[..., str], tmp_path: Path) -> None:
    error = refuse(
        table(tmp_path / "d.csv", text=["a b", "c d", "e f"], label=[None] * 3), "--target", "label"
    )
    assert "label" in error


def test_one_class(refuse: Callable[..., str], tmp_path: Path) -> None:
    error = refuse(
        table(tmp_path / "d.csv", text=[f"text {i} here" for i in range(20)], label=["x"] * 20),
        "--target",
        "label",
    )
    assert "class" in error


def test_a_budget_of_soon(refuse: Callable[..., str], good: Path) -> None:
    assert "'soon'" in refuse(good, "--budget", "soon")


def test_a_grid_over_an_unknown_setting(refuse: Callable[..., str], good: Path, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("lerning_rate: [1e-4, 1e-3]\n")
    error = refuse(good, "--space", tmp_path / "space.yaml", "--strategy", "grid")
    assert "lerning_rate" in error and "learning_rate" in error


def test_a_grid_over_a_range(refuse: Callable[..., str], good: Path, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("learning_rate: {low: 1e-4, high: 1e-3, log: true}\n")
    assert "learning_rate" in refuse(good, "--space", tmp_path / "space.yaml", "--strategy", "grid")


def test_an_unknown_strategy(refuse: Callable[..., str], good: Path) -> None:
    assert "random" in refuse(good, "--strategy", "magic")


def test_an_unknown_task(refuse: Callable[..., str], good: Path) -> None:
    assert "text-classification" in refuse(good, "--task", "poetry")


def test_a_folder_without_weights(
    refuse: Callable[..., str], good: Path, tiny_model: Tiny, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(tiny_model("bert") / "config.json", bare)
    assert "model.safetensors" in refuse(good, model=bare)


def test_a_pickle_checkpoint(
    refuse: Callable[..., str], good: Path, tiny_model: Tiny, tmp_path: Path
) -> None:
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    shutil.copy(tiny_model("bert") / "config.json", pickled)
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert "pickle" in refuse(good, model=pickled)


def test_corrupted_weights(refuse: Callable[..., str], good: Path, tiny_model: Tiny, tmp_path: Path) -> None:
    broken = shutil.copytree(tiny_model("bert"), tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "model.safetensors" in refuse(good, model=broken)


def test_a_model_of_the_wrong_kind(refuse: Callable[..., str], good: Path, tiny_model: Tiny) -> None:
    assert "image" in refuse(good, model=tiny_model("vit"))


def test_remote_code(refuse: Callable[..., str], good: Path, tiny_model: Tiny, tmp_path: Path) -> None:
    custom = shutil.copytree(tiny_model("bert"), tmp_path / "custom")
    config = json.loads((custom / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoModel": "modeling_mine.Mine"}}
    (custom / "config.json").write_text(json.dumps(config))
    assert "code" in refuse(good, model=custom)


def test_an_output_folder_that_cannot_be_made(refuse: Callable[..., str], good: Path) -> None:
    assert "Cannot write" in refuse(good, "--out", good / "below")


def test_a_full_disk(refuse: Callable[..., str], good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "luthier.run.folder.shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})
    )
    assert "free" in refuse(good)


def test_every_image_broken(refuse: Callable[..., str], tiny_model: Tiny, tmp_path: Path) -> None:
    made.pictures(tmp_path / "pictures", 8)
    for image in (tmp_path / "pictures").rglob("*.png"):
        image.write_bytes(b"no picture")
    refuse(tmp_path / "pictures", model=tiny_model("vit"))


def test_single_bad_rows_are_named_and_left_out(
    tiny_model: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = made.sentences(60)
    frame.loc[3, "text"] = ""
    frame.loc[7, "label"] = None
    frame.to_csv(tmp_path / "d.csv", index=False)
    arguments = [
        "tune",
        tmp_path / "d.csv",
        "--model",
        tiny_model("bert"),
        "--trials",
        1,
        "--out",
        tmp_path / "run",
    ]
    arguments += ["--target", "label", "--baseline", "majority", "--threads", 1]
    monkeypatch.setattr("sys.argv", ["luthier", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit:
        main()
    said = capsys.readouterr()
    assert not exit.value.code, said.err
    assert "rows 5" in said.out and "rows 9" in said.out
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"


def test_a_broken_image_among_good_ones_is_left_out(
    tiny_model: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made.pictures(tmp_path / "pictures", 24)
    (tmp_path / "pictures" / "train" / "dark" / "4.png").write_bytes(b"no picture")
    arguments = [
        "tune",
        tmp_path / "pictures",
        "--model",
        tiny_model("vit"),
        "--trials",
        1,
        "--out",
        tmp_path / "run",
    ]
    arguments += ["--baseline", "majority", "--threads", 1]
    monkeypatch.setattr("sys.argv", ["luthier", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit:
        main()
    said = capsys.readouterr()
    assert not exit.value.code, said.err
    assert "4.png" in said.out
