"""An export holds what its manifest says, and what it keeps comes back; what was damaged does not open."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from deploy_models import Finish, held_out
from safetensors.torch import load_file, save_file

from luthier.deploy.export import networks
from luthier.deploy.export import sample as samples
from luthier.deploy.export.export import Export, export, verify
from luthier.deploy.runtime import Exported
from luthier.ensemble.base import Average
from luthier.errors import ModelError, Refused, SettingError

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture
def shipped(finished: Finish, tmp_path: Path) -> Path:
    """An export of a text classifier, with a sample of its rows."""
    made = finished("distilbert")
    export(made.folder, tmp_path / "x", held_out=held_out(made))
    return tmp_path / "x"


def test_the_manifest_says_what_it_is(shipped: Path, finished: Finish) -> None:
    values = json.loads((shipped / "export.json").read_text())
    files = {path.relative_to(shipped).as_posix() for path in shipped.rglob("*") if path.is_file()}
    assert set(values["files"]) == files - {"export.json"}
    for name, row in values["files"].items():
        content = (shipped / name).read_bytes()
        assert row == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert values["precision"] == "fp32" and values["target"] == "safetensors"
    assert values["labels"] == ["no", "yes"] and values["check"]["rows"] == 70
    assert values["versions"]["torch"] == str(torch.__version__)
    assert transformers.AutoModelForSequenceClassification.from_pretrained(shipped).config.num_labels == 2


# -- damaged ---------------------------------------------------------------------------------


def flip(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def add(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"pickle")


def add_below(folder: Path) -> None:
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text("{}")


def remove(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def link(folder: Path) -> None:
    real = folder.parent / "elsewhere"
    shutil.move(folder / "model.safetensors", real)
    (folder / "model.safetensors").symlink_to(real)


def link_folder(folder: Path) -> None:
    (folder / "extra").symlink_to(folder.parent)


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads((folder / "export.json").read_text())
    change(values)
    (folder / "export.json").write_text(json.dumps(values))


def escape(folder: Path) -> None:
    (folder.parent / "outside").write_text("x")
    edit(folder, lambda values: values["files"].update({"../outside": {"sha256": "0", "bytes": 1}}))


def absolute(folder: Path) -> None:
    edit(folder, lambda values: values["files"].update({"/etc/passwd": {"sha256": "0", "bytes": 1}}))


def escape_network(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "outside")
    edit(folder, lambda values: values["networks"][0].update(folder="../outside"))


def unknown_class(folder: Path) -> None:
    edit(folder, lambda values: values["networks"][0]["form"].update(auto_class="pipeline"))


def other_target(folder: Path) -> None:
    edit(folder, lambda values: values.update(target="pickle"))


def other_format(folder: Path) -> None:
    edit(folder, lambda values: values.update(format=99))


def less(folder: Path) -> None:
    edit(folder, lambda values: values.pop("task_state"))


def no_json(folder: Path) -> None:
    (folder / "export.json").write_text("{")


def gone(folder: Path) -> None:
    (folder / "export.json").unlink()


DAMAGES = [
    (flip, "was changed"), (add, "was added"), (add_below, "was added"), (remove, "is missing"),
    (link, "is a link"), (link_folder, "is a link"), (escape, "outside its directory"),
    (absolute, "outside its directory"), (escape_network, "has no files"), (unknown_class, "the class"),
    (other_target, "is unknown"), (other_format, "of format 99"), (less, "damaged"),
    (no_json, "damaged"), (gone, "not an export"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "words"), DAMAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_damaged_export_does_not_open(shipped: Path, damage: Callable[[Path], None], words: str) -> None:
    assert len(Exported.load(shipped).predict(["a good cat"])) == 1
    damage(shipped)
    for opening in (Exported.load, verify):
        with pytest.raises((ModelError, SettingError), match=words):
            opening(shipped)


def test_other_weights_that_fit_are_found_out(shipped: Path) -> None:
    """Someone who swaps the weights can mend the manifest, but then the sample speaks."""
    path = shipped / "model.safetensors"
    save_file({n: -t if "classifier" in n else t for n, t in load_file(path).items()}, path, {"format": "pt"})
    row = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
    edit(shipped, lambda values: values["files"].update({"model.safetensors": row}))
    Exported.load(shipped)
    with pytest.raises(Refused, match="is not what was exported"):
        verify(shipped)


def test_a_sample_survives_its_file(finished: Finish, tmp_path: Path) -> None:
    made = finished("electra", "token-classification")
    done: Export = export(made.folder, tmp_path / "x", held_out=held_out(made))
    sample = samples.load(tmp_path / "x" / samples.FILE)
    truths = made.task.targets(made.frame[: done.stored])
    assert [truth.tolist() for truth in sample.truths] == [truth.tolist() for truth in truths]
    assert [len(batch["input_ids"]) for batch in sample.inputs] == [1, 3, 7, 16, 37, 1, 3, 2, 1]
    samples.save(sample, tmp_path / "again.safetensors")
    again = samples.load(tmp_path / "again.safetensors")
    for one, other in zip(sample.logits + sample.marks, again.logits + again.marks, strict=True):
        assert torch.equal(one, other)


def test_combinations_survive_their_manifest(tmp_path: Path) -> None:
    for one in (Average((0.25, 0.75)), networks.Tempered(Average((1.0,)), 1.7)):
        assert networks.combination(json.loads(json.dumps(networks.state(one)))) == one
    with pytest.raises(ModelError, match="neither a run folder nor a finished model"):
        networks.networks(tmp_path / "nothing")
    with pytest.raises(ModelError, match="combines its networks by 'vote'"):
        networks.combination({"kind": "vote"})
