"""The trained head that a finished model brings along when it is fine-tuned further."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import models_tiny
import pytest
import torch

from luthier.errors import ModelError
from luthier.models import network, processor, saved, source
from luthier.models.brought import NEW, brought, manifest_of
from luthier.recipe import Recipe

LABELS = ["no", "yes", "perhaps"]


def finished(
    kind: str, folder: Path, temperature: float = 1.0, **recipe: Any
) -> tuple[Path, network.Network]:
    """A saved model whose weights have all moved, and its network."""
    base = source.find(str(models_tiny.write(kind, folder / "base")), "text")
    how = Recipe(model="tiny", **recipe)
    net = network.build(base, how, level="example", num_outputs=3, seed=3)
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    saved.save(
        net, base, processor.load(base, "text"), how, folder / "model", task_state={"labels": LABELS},
        auto_class="AutoModelForSequenceClassification", problem_type=None, labels=LABELS, peft_type=None,
        temperature=temperature,
    )  # fmt: skip
    return folder / "model", net


def bringing(
    folder: Path, outputs: tuple[int, ...], factor: float = 1.0, shift: float = 0.0
) -> source.Source:
    found, manifest = source.find(str(folder), "text"), manifest_of(folder)
    assert manifest is not None
    head = brought(found, manifest, outputs, factor, shift)
    assert head is not None
    return replace(found, head=head)


@pytest.mark.parametrize(
    ("kind", "recipe"),
    [
        ("bert", {"head": "linear", "pooling": "mean"}),
        ("bert", {}),
        ("distilbert", {}),
        ("roberta", {"head": "mlp", "pooling": "max"}),
        ("modernbert", {}),
    ],
)
def test_a_network_goes_on_where_the_finished_model_stood(
    kind: str, recipe: dict[str, Any], tmp_path: Path
) -> None:
    folder, net = finished(kind, tmp_path, temperature=2.5, **recipe)
    found = bringing(folder, (2, 0, NEW, 1))
    how = Recipe(model="tiny", head_init="model", **recipe)
    again = network.build(found, how, level="example", num_outputs=4, seed=5)
    inputs = models_tiny.inputs(kind)
    with torch.no_grad():
        # Without the temperature that the saved head was divided by.
        before, after = net(**inputs), again(**inputs)
    torch.testing.assert_close(after[:, [1, 3, 0]], before, rtol=1e-4, atol=1e-5)
    fresh = network.build(found, how.model_copy(update={"head_init": "random"}), level="example",
                          num_outputs=4, seed=5)  # fmt: skip
    new = again.head.state_dict()["classifier.weight"][2]
    torch.testing.assert_close(new, fresh.head.state_dict()["classifier.weight"][2])


def test_outputs_are_brought_to_another_scale(tmp_path: Path) -> None:
    folder, net = finished("bert", tmp_path, head="linear", pooling="mean")
    found = bringing(folder, (0, 1, 2), factor=0.5, shift=-3.0)
    how = Recipe(model="tiny", head="linear", pooling="mean", head_init="model")
    again = network.build(found, how, level="example", num_outputs=3, seed=5)
    inputs = models_tiny.inputs("bert")
    with torch.no_grad():
        torch.testing.assert_close(again(**inputs), 0.5 * net(**inputs) - 3.0, rtol=1e-4, atol=1e-5)


def test_a_head_of_another_form_is_refused(tmp_path: Path) -> None:
    folder, _ = finished("bert", tmp_path, head="linear", pooling="mean")
    found = bringing(folder, (0, 1, 2))
    for change in ({"head": "mlp"}, {"pooling": "max"}):
        how = Recipe(model="tiny", **{"head": "linear", "pooling": "mean", "head_init": "model"} | change)
        with pytest.raises(ModelError, match="brings no trained head"):
            network.build(found, how, level="example", num_outputs=3, seed=0)


def test_a_model_as_it_was_published_brings_none(tmp_path: Path) -> None:
    folder = models_tiny.write("bert", tmp_path / "base")
    assert manifest_of(folder) is None
    how = Recipe(model="tiny", head_init="model")
    with pytest.raises(ModelError, match="it brings none"):
        network.build(source.find(str(folder), "text"), how, level="example", num_outputs=2, seed=0)


def test_from_random_weights_nothing_is_brought(tmp_path: Path) -> None:
    folder, _ = finished("bert", tmp_path, head="linear", pooling="mean")
    how = Recipe(model="tiny", head="linear", pooling="mean", head_init="model", init="scratch")
    network.build(bringing(folder, (0, 1, 2)), how, level="example", num_outputs=3, seed=0)


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / saved.MANIFEST).write_text("{}")
    with pytest.raises(ModelError, match="cannot be read"):
        manifest_of(tmp_path)
