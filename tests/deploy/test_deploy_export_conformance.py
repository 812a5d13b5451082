"""Every built-in target passes the public checks, on several architectures; and the checks can fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.deploy.export import conformance, registry
from luthier.deploy.export import sample as samples
from luthier.deploy.export.base import Featured, Job, Logits, Written
from luthier.deploy.export.conformance import CHECKS, Case, Trial, carry_out
from luthier.deploy.export.plain import Safetensors
from luthier.models.families import FAMILIES

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture(scope="module", params=registry.names())
def trial(request: pytest.FixtureRequest, finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    case = Case(registry.get(request.param), finished("distilbert").folder, tmp_path_factory.mktemp("export"))
    return carry_out(case)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conformance(trial: Trial, check: Callable[[Trial], None]) -> None:
    check(trial)


# Kinds whose graphs differ: how positions, masks, pooling and sizes of images are computed.
KINDS: list[tuple[str, str, dict[str, Any]]] = [
    ("modernbert", "", {}),
    ("distilbert", "token-classification", {}),
    ("bert", "text-regression", {"pooling": "max", "head": "mlp"}),
    ("roberta", "multi-label-classification", {"pooling": "mean"}),
    ("vit", "", {"pooling": "mean"}),
    ("convnext", "", {}),
    ("mobilenet_v2", "", {}),
]


@pytest.mark.parametrize(("kind", "task", "settings"), KINDS, ids=lambda value: str(value))
@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_graphs_repeat_the_logits_at_all_sizes(
    finished: Any, tmp_path: Path, name: str, kind: str, task: str, settings: dict[str, Any]
) -> None:
    folder = finished(kind, task, **settings).folder
    trial = carry_out(Case(registry.get(name), folder, tmp_path))
    conformance.repeats_the_logits(trial)
    assert isinstance(trial.open(), Featured)
    conformance.tells_what_the_head_reads(trial)


@pytest.mark.parametrize(
    ("name", "precision"),
    [("safetensors", "fp16"), ("safetensors", "bf16"), ("onnx", "fp16"), ("torch", "bf16"), ("onnx", "int8")],
)
def test_fewer_bits_keep_their_limit(finished: Any, tmp_path: Path, name: str, precision: str) -> None:
    trial = carry_out(Case(registry.get(name), finished("bert").folder, tmp_path, precision))
    conformance.repeats_the_logits(trial)
    assert isinstance(trial.open(), Featured)
    conformance.tells_what_the_head_reads(trial)
    assert not list((tmp_path / "export").glob("fp32*"))


def test_convolutions_in_int8_go_by_calibration(finished: Any, tmp_path: Path) -> None:
    made = finished("resnet")
    model = conformance.load(made.folder)
    examples = made.task.encode(made.frame[:32], model.processor, root=str(made.root))
    target = registry.get("onnx")
    assert target.needs_calibration(FAMILIES["resnet"], "int8")
    case = Case(target, made.folder, tmp_path, "int8", calibration=samples.batches(examples))
    conformance.repeats_the_logits(carry_out(case))
    import onnx

    operators = {node.op_type for node in onnx.load(tmp_path / "export" / "model.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators


@pytest.mark.parametrize("settings", [{}, {"pooling": "mean"}], ids=["native", "generic"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_adapter_kept_apart_conforms(finished: Any, tmp_path: Path, settings: Any, precision: str) -> None:
    folder = finished("bert", adaptation="lora", lora_rank=2, **settings).folder
    case = Case(Safetensors(), folder, tmp_path, precision, merge=False)
    trial = carry_out(case)
    conformance.opens_wherever_it_is_put(trial)
    assert isinstance(trial.open(), Featured)
    conformance.tells_what_the_head_reads(trial)
    assert (tmp_path / "export" / "adapter" / "adapter_model.safetensors").is_file()


class Off(Safetensors):
    def open(self, directory: Path, written: Written) -> Logits:
        logits = super().open(directory, written)
        return lambda inputs: logits(inputs) + 0.001


class Changes(Safetensors):
    def write(self, job: Job) -> None:
        super().write(job)
        with torch.no_grad():
            next(job.model.parameters()).add_(1e-6)


class Links(Safetensors):
    def write(self, job: Job) -> None:
        super().write(job)
        (job.directory / "model.link").symlink_to(job.directory / "model.safetensors")


class Remembers(Safetensors):
    place: dict[str, Path] = {}  # noqa: RUF012

    def write(self, job: Job) -> None:
        super().write(job)
        self.place["here"] = job.directory

    def open(self, directory: Path, written: Written) -> Logits:
        return super().open(self.place["here"], written)


class Signs(Safetensors):
    def write(self, job: Job) -> None:
        super().write(job)
        (job.directory / "README.md").write_text(f"Written to {job.directory}.")


class Doubles(Safetensors):
    def open(self, directory: Path, written: Written) -> Logits:
        logits = super().open(directory, written)
        return lambda inputs: logits(inputs).double()


@pytest.mark.parametrize(
    ("target", "check"),
    [
        (Off, conformance.repeats_the_logits),
        (Changes, conformance.leaves_the_model_as_it_was),
        (Links, conformance.writes_plain_files_and_only_in_its_folder),
        (Signs, conformance.names_no_files_of_this_machine),
        (Remembers, conformance.opens_wherever_it_is_put),
        (Doubles, conformance.gives_float32_on_the_cpu),
    ],
)
def test_the_checks_can_fail(
    finished: Any, tmp_path: Path, target: Any, check: Callable[[Trial], None]
) -> None:
    done = carry_out(Case(target(), finished("distilbert").folder, tmp_path))
    with pytest.raises((AssertionError, conformance.ModelError)):
        check(done)
