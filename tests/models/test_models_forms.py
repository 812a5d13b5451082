"""Either form, its adapter and its snippet give the logits of the network that was saved."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import models_tiny
import pytest
import torch
import transformers
from models_tiny import LABELS, store, trained
from peft import AutoPeftModelForSequenceClassification, PeftModel
from safetensors.torch import load_file, save_file

from luthier.models import saved
from luthier.recipe import Recipe

# PEFT itself asks transformers by a name that goes away with its next major version.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

KINDS = [*models_tiny.TEXT, *models_tiny.IMAGE]
SAME_CLASSES = {"xlm-roberta", "camembert", "convnextv2"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", ["example", "token"])
def test_the_auto_class_repeats_the_logits(tiny: Any, tmp_path: Path, kind: str, level: str) -> None:
    if kind in models_tiny.IMAGE and level == "token":
        pytest.skip("images have no words")
    src, recipe = tiny(kind), Recipe(model=kind, adaptation="full", dropout=0.2, head_dropout=0.3)
    net = trained(src, recipe, level)
    form = store(src, net, recipe, tmp_path / "m", level)
    assert form.kind == "native"
    batch = models_tiny.inputs(kind)
    scope: dict[str, Any] = {}
    exec(form.snippet(tmp_path / "m"), scope)
    loader = getattr(transformers, form.auto_class)
    model, report = loader.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    with torch.no_grad():
        expected = net(**batch)
        torch.testing.assert_close(model.eval()(**batch).logits, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(scope["logits"](**batch), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(saved.load(tmp_path / "m")(**batch), expected, atol=1e-5, rtol=1e-5)
    assert model.config.id2label == dict(enumerate(LABELS)) and model.config.label2id["perhaps"] == 2
    assert model.config.architectures == [type(model).__name__]
    rates = {getattr(model.config, name) for name in net.family.dropouts}
    assert rates <= {0.2} and all(getattr(model.config, n) == 0.3 for n in net.family.head_dropouts)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("kind", sorted(set(KINDS) - SAME_CLASSES - {"mobilenet_v2"}))
def test_lora_is_merged_and_its_adapter_loads_in_peft(tiny: Any, tmp_path: Path, kind: str) -> None:
    src, recipe = tiny(kind), Recipe(model=kind, adaptation="lora", lora_rank=2)
    net = trained(src, recipe)
    form = store(src, net, recipe, tmp_path / "m")
    batch = models_tiny.inputs(kind)
    loader = getattr(transformers, form.auto_class)
    with torch.no_grad():
        expected = net(**batch)
        merged = loader.from_pretrained(tmp_path / "m").eval()
        torch.testing.assert_close(merged(**batch).logits, expected, atol=1e-5, rtol=1e-5)
        base = loader.from_pretrained(src.path, num_labels=3)
        adapted = PeftModel.from_pretrained(base, str(tmp_path / "m" / "adapter")).eval()
        torch.testing.assert_close(adapted(**batch).logits, expected, atol=1e-5, rtol=1e-5)
    config = json.loads((tmp_path / "m" / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == src.name and config["modules_to_save"]
    assert "lora_A" in str(list(load_file(tmp_path / "m" / "adapter" / "adapter_model.safetensors")))


def test_the_adapter_alone_finds_its_base(tiny: Any, tmp_path: Path) -> None:
    src, recipe = tiny("distilbert"), Recipe(model="distilbert", adaptation="lora", lora_rank=2)
    net = trained(src, recipe)
    form = store(src, net, recipe, tmp_path / "m")
    batch = models_tiny.inputs("distilbert")
    model = AutoPeftModelForSequenceClassification.from_pretrained(
        tmp_path / "m" / "adapter", num_labels=3
    ).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).logits, net(**batch), atol=1e-5, rtol=1e-5)
    code = form.adapter_snippet(tmp_path / "m")
    assert code is not None
    scope: dict[str, Any] = {}
    exec(code, scope)
    with torch.no_grad():
        torch.testing.assert_close(scope["model"](**batch).logits, net(**batch), atol=1e-5, rtol=1e-5)


def test_token_level_lora(tiny: Any, tmp_path: Path) -> None:
    src, recipe = (
        tiny("roberta"),
        Recipe(model="roberta", adaptation="lora", lora_rank=2, lora_targets="attention"),
    )
    net = trained(src, recipe, "token")
    form = store(src, net, recipe, tmp_path / "m", "token")
    base = transformers.AutoModelForTokenClassification.from_pretrained(src.path, num_labels=3)
    adapted = PeftModel.from_pretrained(base, str(tmp_path / "m" / "adapter")).eval()
    batch = models_tiny.inputs("roberta")
    with torch.no_grad():
        torch.testing.assert_close(adapted(**batch).logits, net(**batch), atol=1e-5, rtol=1e-5)
    assert form.base == src.name


GENERIC = [
    ("bert", "example", {"pooling": "mean"}),
    ("bert", "example", {"pooling": "max", "head": "linear"}),
    ("bert", "token", {"head": "mlp"}),
    ("roberta", "example", {"head": "mlp"}),
    ("modernbert", "example", {"pooling": "max"}),
    ("vit", "example", {"pooling": "mean"}),
    ("deit", "example", {"pooling": "max", "head": "mlp"}),
    ("dinov2", "example", {"head": "mlp"}),
    ("resnet", "example", {"pooling": "max"}),
    ("mobilenet_v2", "example", {"pooling": "mean", "head": "mlp"}),
]


def logits_of(code: str, batch: dict[str, torch.Tensor], folder: Path) -> torch.Tensor:
    """What a snippet says in a Python of its own, which cannot import Luthier."""
    save_file({name: tensor.contiguous() for name, tensor in batch.items()}, folder / "batch.safetensors")
    lines = [
        "import sys; sys.modules['luthier'] = None",
        code,
        "from safetensors.torch import load_file, save_file",
        f"batch = load_file({str(folder / 'batch.safetensors')!r})",
        f"save_file({{'logits': logits(**batch).contiguous()}}, {str(folder / 'logits.safetensors')!r})",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, capture_output=True, timeout=120)
    return load_file(folder / "logits.safetensors")["logits"]


@pytest.mark.parametrize(("kind", "level", "settings"), GENERIC)
def test_generic_form_and_its_snippet(
    tiny: Any, tmp_path: Path, kind: str, level: Any, settings: dict[str, Any]
) -> None:
    src, recipe = tiny(kind), Recipe(model=kind, adaptation="full", **settings)
    net = trained(src, recipe, level)
    form = store(src, net, recipe, tmp_path / "m", level)
    assert form.kind == "generic" and form.auto_class == "AutoModel"
    batch = models_tiny.inputs(kind)
    scope: dict[str, Any] = {}
    exec(form.snippet(tmp_path / "m"), scope)
    with torch.no_grad():
        expected = net(**batch)
        torch.testing.assert_close(scope["logits"](**batch), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(saved.load(tmp_path / "m")(**batch), expected, atol=1e-5, rtol=1e-5)
        body = transformers.AutoModel.from_pretrained(tmp_path / "m").eval()
        states = net.backbone(**batch).last_hidden_state
        torch.testing.assert_close(body(**batch).last_hidden_state, states, atol=1e-5, rtol=1e-5)


def test_snippets_run_without_luthier(tiny: Any, tmp_path: Path) -> None:
    src, recipe = tiny("bert"), Recipe(model="bert", adaptation="full", pooling="mean")
    net = trained(src, recipe)
    code = store(src, net, recipe, tmp_path / "m").snippet(tmp_path / "m")
    assert "luthier" not in code.replace(str(tmp_path), "")
    batch = models_tiny.inputs("bert")
    with torch.no_grad():
        torch.testing.assert_close(logits_of(code, batch, tmp_path), net(**batch), atol=1e-5, rtol=1e-5)


def test_generic_lora_has_an_adapter_for_the_body(tiny: Any, tmp_path: Path) -> None:
    src, recipe = tiny("bert"), Recipe(model="bert", adaptation="lora", lora_rank=2, pooling="mean")
    net = trained(src, recipe)
    form = store(src, net, recipe, tmp_path / "m")
    assert form.kind == "generic"
    base = transformers.AutoModel.from_pretrained(src.path, add_pooling_layer=False)
    adapted = PeftModel.from_pretrained(base, str(tmp_path / "m" / "adapter")).eval()
    batch = models_tiny.inputs("bert")
    with torch.no_grad():
        states = net.backbone(**batch).last_hidden_state
        torch.testing.assert_close(adapted(**batch).last_hidden_state, states, atol=1e-5, rtol=1e-5)


def test_modernbert_pooling_goes_into_the_config(tiny: Any, tmp_path: Path) -> None:
    src, recipe = (
        tiny("modernbert"),
        Recipe(model="modernbert", adaptation="lora", lora_rank=2, pooling="mean"),
    )
    form = store(src, trained(src, recipe), recipe, tmp_path / "m")
    assert form.kind == "native" and form.base_options["classifier_pooling"] == "mean"
    assert json.loads((tmp_path / "m" / "config.json").read_text())["classifier_pooling"] == "mean"


@pytest.mark.parametrize("adaptation", ["full", "lora"])
def test_another_image_size_is_saved_with_the_model(tiny: Any, tmp_path: Path, adaptation: str) -> None:
    src, recipe = tiny("vit"), Recipe(model="vit", adaptation=adaptation, image_size=48)
    net = trained(src, recipe)
    form = store(src, net, recipe, tmp_path / "m")
    # Its base has other positions, so an adapter alone could not be right.
    assert form.base is None and not (tmp_path / "m" / "adapter").exists()
    model = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "m").eval()
    pixels = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(
            model(pixel_values=pixels).logits, net(pixel_values=pixels), atol=1e-5, rtol=1e-5
        )
    assert saved.load(tmp_path / "m").processor.image_size == 48  # type: ignore[union-attr]
