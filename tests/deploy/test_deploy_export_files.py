"""Graph files that would run code, unpickle or read elsewhere are refused before they are loaded."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from luthier import plugins
from luthier.deploy.export import conformance, graph, program, registry
from luthier.deploy.export.base import ExportTarget
from luthier.errors import ModelError, SettingError


@pytest.fixture(scope="module")
def archive(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program's archive as the target writes it."""
    case = conformance.Case(
        registry.get("torch"), finished("distilbert").folder, tmp_path_factory.mktemp("a")
    )
    return conformance.carry_out(case).folder / program.FILE


class Bomb:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.trace}",)


Records = dict[str, bytes]


def rewritten(source: Path, target: Path, change: Callable[[Records, Path], None]) -> Path:
    """A copy of an archive in which something was changed, given the records by name without the root."""
    with zipfile.ZipFile(source) as before:
        root = before.namelist()[0].partition("/")[0]
        records = {name.partition("/")[2]: before.read(name) for name in before.namelist()}
    change(records, target.parent / "trace")
    with zipfile.ZipFile(target, "w") as after:
        for name, content in records.items():
            after.writestr(f"{root}/{name}", content)
    return target


def pickled(trace: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(Bomb(trace), buffer)
    return buffer.getvalue()


def example_inputs(records: Records, trace: Path) -> None:
    records["data/sample_inputs/model.pt"] = pickled(trace)


def _config(records: Records, kind: str, entry: dict[str, Any]) -> None:
    name = f"data/{kind}/model_{kind}_config.json"
    config = json.loads(records[name])
    first = next(iter(config["config"]), "extra")
    config["config"][first] = {**config["config"].get(first, {}), **entry}
    records[name] = json.dumps(config).encode()


def pickled_weight(records: Records, trace: Path) -> None:
    records["data/weights/weight_0"] = pickled(trace)
    _config(records, "weights", {"path_name": "weight_0", "use_pickle": True})


def pickled_object(records: Records, trace: Path) -> None:
    records["data/constants/opaque_obj_0"] = pickle.dumps(Bomb(trace))
    _config(records, "constants", {"path_name": "opaque_obj_0", "use_pickle": True})


def hidden_object(records: Records, trace: Path) -> None:
    _config(records, "constants", {"path_name": "custom_obj_0", "use_pickle": False})


def legacy_weights(records: Records, trace: Path) -> None:
    records["data/weights/model.pt"] = pickled(trace)


def compiled(records: Records, trace: Path) -> None:
    records["data/aotinductor/model/model.so"] = b"\x7fELF"


def expression(records: Records, trace: Path) -> None:
    code = f"__import__('os').system('touch {trace}')"
    text = records["models/model.json"].decode()
    symbol = next(part for part in text.split('"') if part.startswith("Symbol('s"))
    records["models/model.json"] = text.replace(symbol, code.replace("'", "\\u0027")).encode()


def operator(records: Records, trace: Path) -> None:
    text = records["models/model.json"].decode()
    records["models/model.json"] = text.replace("torch.ops.aten.linear.default", "torch.hub.load").encode()


def _model(records: Records, change: Callable[[dict[str, Any]], None]) -> None:
    model = json.loads(records["models/model.json"])
    change(model)
    records["models/model.json"] = json.dumps(model).encode()


def guards(records: Records, trace: Path) -> None:
    _model(records, lambda model: model.update(guards_code=[f"__import__('os').system('touch {trace}')"]))


def tree(records: Records, trace: Path) -> None:
    def change(model: dict[str, Any]) -> None:
        calls = model["graph_module"]["module_call_graph"]
        calls[0]["signature"]["in_spec"] = '[1, {"__enum__": true, "fqn": "antigravity:x", "name": "y"}]'

    _model(records, change)


def second_model(records: Records, trace: Path) -> None:
    records["models/other.json"] = records["models/model.json"]


def no_graph(records: Records, trace: Path) -> None:
    del records["models/model.json"]


CHANGES = [
    example_inputs, pickled_weight, pickled_object, hidden_object, legacy_weights, compiled, expression,
    operator, guards, tree, second_model, no_graph,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_an_archive_that_could_run_code_is_refused(
    archive: Path, tmp_path: Path, change: Callable[[Records, Path], None]
) -> None:
    program.inspect(rewritten(archive, tmp_path / "same.pt2", lambda records, trace: None))
    bad = rewritten(archive, tmp_path / "bad.pt2", change)
    with pytest.raises(ModelError, match=r"refused|damaged"):
        program.inspect(bad)
    assert not (tmp_path / "trace").exists()


def test_the_danger_is_real(archive: Path, tmp_path: Path) -> None:
    """Without looking first, torch runs what an archive brings along; should it stop to, the look can go."""
    bad = rewritten(archive, tmp_path / "bad.pt2", example_inputs)
    with contextlib.suppress(Exception):  # it fails in the end, but by then the code ran
        torch.export.load(bad)
    assert (tmp_path / "trace").exists()


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06" + 18 * b"\0"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt2").write_bytes(content)
    with pytest.raises(ModelError, match="is not a torch"):
        program.inspect(tmp_path / "x.pt2")


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("Symbol('s43', positive=True, integer=True)", True),
        ("Mul(Integer(48), Symbol('s53', positive=True, integer=True))", True),
        ("Max(1, s0 + 2*s1)", True),
        ("Float('0.5', precision=53)", True),
        ("__import__('os')", False),
        ("Symbol('x').func", False),
        ("Symbol('s0').__class__", False),
        ("Symbol('os')", False),
        ("eval('1')", False),
        ("s0 if s1 else s2", False),
        ("[s0]", False),
        ("lambda: s0", False),
    ],
)
def test_expressions_are_arithmetic_on_sizes(text: str, good: bool) -> None:
    assert program._is_expression(text) is good


def external(folder: Path, location: str, *, nested: bool = False) -> Path:
    """A model with a weight in another file; nested: in a branch of an If."""
    tensor = onnx.numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 2])
    if nested:
        constant = onnx.helper.make_node("Constant", [], ["y"], value=tensor)
        branch = onnx.helper.make_graph([constant], "branch", [], [y])
        on = onnx.numpy_helper.from_array(np.array(True), "on")
        node = onnx.helper.make_node("If", ["on"], ["y"], then_branch=branch, else_branch=branch)
        made = onnx.helper.make_graph([node], "g", [], [y], [on])
    else:
        made = onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", ["w"], ["y"])], "g", [], [y], [tensor]
        )
    path = folder / "model.onnx"
    path.write_bytes(onnx.helper.make_model(made).SerializeToString())
    return path


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    "location", ["../w.data", "/etc/hostname", "sub/w.data", "..", "a\\w.data", "absent", "link"]
)
def test_weights_outside_of_the_folder_are_refused(tmp_path: Path, location: str, nested: bool) -> None:
    folder = tmp_path / "m"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path / "w.data", folder / "sub" / "w.data", folder / "w.data"):
        place.write_bytes(np.ones((2, 2), np.float32).tobytes())
    (folder / "link").symlink_to(tmp_path / "w.data")
    graph.inspect(external(folder, "w.data", nested=nested))
    with pytest.raises(ModelError, match="no file in its own folder"):
        graph.inspect(external(folder, location, nested=nested))


def test_what_is_no_onnx_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\xff\xff not a model")
    with pytest.raises(ModelError, match="not an ONNX model"):
        graph.inspect(tmp_path / "model.onnx")


def test_large_weights_lie_beside_the_graph(
    finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "EMBEDDED", 1000)
    case = conformance.Case(registry.get("onnx"), finished("vit").folder, tmp_path)
    trial = conformance.carry_out(case)
    assert (trial.folder / "model.onnx.data").stat().st_size > 10_000
    conformance.opens_wherever_it_is_put(trial)


def test_another_packages_format(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("rot13", "deploy_models:Finished", registry.GROUP)]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    assert registry.names() == ["safetensors", "onnx", "torch", "rot13"]
    with pytest.raises(SettingError, match="not a ExportTarget"):
        registry.get("rot13")
    with pytest.raises(SettingError, match="goes together"):
        registry.resolve("onnx", "bf16", True)
    assert all(issubclass(type(registry.get(name)), ExportTarget) for name in registry.names()[:3])
