from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import deploy_models
import pytest
import serve_live
import torch
from torch import nn

from luthier.deploy.export.export import export
from luthier.deploy.serve import opening
from luthier.deploy.serve.base import Refused
from luthier.deploy.serve.opening import find
from luthier.errors import LuthierError, ModelError, RunError, SettingError


@pytest.fixture(scope="module")
def place(text_model: deploy_models.Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with an ONNX export of it beside it, and one of another model."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(text_model.folder, folder / "model")
    export(folder / "model", folder / "fast", target="onnx")
    shutil.copytree(folder / "fast", folder / "a-other")
    manifest = folder / "a-other" / "export.json"
    values = json.loads(manifest.read_text())
    values["networks"][0]["model"] = "0" * 64
    manifest.write_text(json.dumps(values))
    return folder


def test_an_export_of_this_model_is_found_beside_it(place: Path) -> None:
    found = find(place / "model")
    assert [(one.folder.name, one.backend) for one in found] == [("model", "torch"), ("fast", "onnx")]
    assert [one.backend for one in find(place / "model", "torch")] == ["torch"]
    assert [one.folder.name for one in find(place / "model", "onnx")] == ["fast"]
    assert [one.backend for one in find(place / "fast")] == ["onnx"]


def test_a_model_and_its_exports_say_the_same(place: Path, tmp_path: Path) -> None:
    texts = ["the cat sat", "a dog ran on the mat", ""]
    exports = [export(place / "model", tmp_path / name, target=name) for name in ("torch", "safetensors")]
    said = []
    for backend in [
        serve_live.opened(place / "model", "torch"),
        *(serve_live.opened(folder) for folder in (place / "fast", *(each.folder for each in exports))),
    ]:
        items = [one for one in backend.encode(texts) if not isinstance(one, Refused)]
        computed = backend.compute(items, features=True)
        assert computed.features is not None
        assert backend.compute(items).features is None
        said.append([*(output.tolist() for output in computed.outputs), *computed.features.tolist()])
    for other in said[1:]:
        assert said[0] == [pytest.approx(row, abs=1e-4) for row in other]


def test_a_batch_that_failed_leaves_no_features_to_the_next() -> None:
    class Failing(nn.Module):
        """Fails behind its head."""

        def __init__(self) -> None:
            super().__init__()
            self.head, self.fails = nn.Linear(4, 2), True

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            said: torch.Tensor = self.head(values)
            if self.fails:
                raise RuntimeError("made")
            return said

    network = Failing()
    run = opening._network(network, torch.device("cpu"), network.head)
    with pytest.raises(RuntimeError, match="made"):
        run({"values": torch.zeros(2, 4)}, True)
    network.fails = False
    _, features = run({"values": torch.ones(3, 4)}, True)
    assert features is not None and features.tolist() == [[1.0] * 4] * 3


def test_the_faster_is_taken_and_told(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="luthier.serve"):
        backend = serve_live.opened(place / "model")
    assert f"serving with {backend.name}" in caplog.text
    assert "torch" in caplog.text
    assert "onnx" in caplog.text


def test_who_has_no_export_is_told_of_them(
    text_model: deploy_models.Finished, caplog: pytest.LogCaptureFixture
) -> None:
    for backend, told in (("auto", True), ("torch", False)):
        caplog.clear()
        with caplog.at_level("INFO", logger="luthier.serve"):
            serve_live.opened(text_model.folder, backend)
        assert ("luthier export" in caplog.text) == told


def test_an_export_that_is_damaged_is_left_aside(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "model", tmp_path / "model")
    shutil.copytree(place / "fast", tmp_path / "fast")
    with (tmp_path / "fast" / "model.onnx").open("ab") as file:
        file.write(b"x")
    assert serve_live.opened(tmp_path / "model").name == "torch"


def test_what_cannot_be_served_is_said_at_once(tmp_path: Path, text_model: deploy_models.Finished) -> None:
    with pytest.raises(SettingError, match="no folder"):
        find(tmp_path / "nothing")
    with pytest.raises(ModelError, match="no finished model"):
        find(tmp_path)
    with pytest.raises(SettingError, match="no backend"):
        find(text_model.folder, "tensorflow")
    with pytest.raises(SettingError, match="No ONNX export"):
        find(text_model.folder, "onnx")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(RunError, match="no finished model yet"):
        find(tmp_path)
    broken = tmp_path / "export"
    broken.mkdir()
    (broken / "export.json").write_text("{")
    with pytest.raises(LuthierError, match="damaged"):
        find(broken)


def test_looking_imports_nothing_heavy() -> None:
    code = (
        "import sys, luthier.deploy.serve.opening, luthier.deploy.serve.settings, luthier.cli.serve;"
        "sys.exit(int(bool({'torch', 'uvicorn', 'starlette', 'pandas'} & set(sys.modules))))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
