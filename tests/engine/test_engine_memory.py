from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import models_tiny
import numpy as np
import psutil
import pytest
import torch
from torch import nn

from luthier.engine import memory
from luthier.engine.memory import Activations, MemoryModel, is_out_of_memory, need
from luthier.models import source
from luthier.models.network import Network, build
from luthier.recipe import Recipe

CPU = torch.device("cpu")


def test_available_memory_is_what_the_system_says() -> None:
    found = memory.available(CPU)
    assert 0 < found <= psutil.virtual_memory().total
    assert 0 < memory.used(CPU) < psutil.virtual_memory().total


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


@pytest.mark.parametrize("unified", [".", "unified"])
def test_limits_of_control_groups_hold_for_those_below(tmp_path: Path, unified: str) -> None:
    root = tmp_path / "groups" / unified
    write(root / "a", memory__max=1000, memory__current=700, memory__stat="anon 1\ninactive_file 300")
    write(root / "a/b", memory__max="max", memory__current=10)
    write(root / "c", memory__max=5, memory__current=0)
    (tmp_path / "own").write_text("3:cpu:/other\n0::/a/b\n")
    assert list(memory._groups_left(tmp_path / "groups", tmp_path / "own")) == [600]


def test_limits_of_older_control_groups(tmp_path: Path) -> None:
    root = tmp_path / "groups/memory"
    stat = "inactive_file 1\ntotal_inactive_file 50"
    write(root, memory__limit_in_bytes=2000, memory__usage_in_bytes=2500)
    write(root / "a", memory__limit_in_bytes=900, memory__usage_in_bytes=250, memory__stat=stat)
    (tmp_path / "own").write_text("4:memory,hugetlb:/a\n3:cpu:/\n0::/\n")
    assert list(memory._groups_left(tmp_path / "groups", tmp_path / "own")) == [700, 0]


def test_no_control_groups(tmp_path: Path) -> None:
    assert list(memory._groups_left(tmp_path, tmp_path / "none")) == []
    (tmp_path / "own").write_text("0::/../outside\nnonsense\n")
    assert list(memory._groups_left(tmp_path, tmp_path / "own")) == []


def test_the_lower_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_groups_left", lambda: iter([2**40 * 1000, 12345]))
    monkeypatch.setattr(memory.allocator, "unused", lambda: 1000)
    assert memory.available(CPU) == 13345, "and what is held without being used"


def test_what_is_kept_is_counted_once() -> None:
    layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    x = torch.randn(3, 8)
    with Activations(layers) as kept:
        layers(x)
    # The input of each linear layer; the second one's is also what the activation's gradient needs.
    assert kept.bytes == 4 * 3 * (8 + 16)
    layers(x)
    assert kept.bytes == 4 * 3 * (8 + 16)
    with torch.no_grad(), Activations(layers) as nothing:
        layers(x)
    assert nothing.bytes == 0


def test_counting_changes_no_gradient() -> None:
    layers = nn.Sequential(nn.Linear(8, 8), nn.Softmax(-1), nn.Tanh())
    x = torch.randn(3, 8)
    gradients = []
    for counted in (False, True):
        layers.zero_grad()
        if counted:
            with Activations(layers):
                loss = layers(x).square().sum()
        else:
            loss = layers(x).square().sum()
        loss.backward()
        gradients.append(layers[0].weight.grad.clone())
    assert torch.equal(*gradients)


def network(tiny_model: Callable[[str], Path], kind: str, **settings: object) -> Network:
    found = source.find(str(tiny_model(kind)), "image" if kind in models_tiny.IMAGE else "text")
    recipe = Recipe.parse({"model": "tiny", **settings})
    return build(found, recipe, level="example", num_outputs=2, seed=0).train()


def kept_by(network: Network, kind: str) -> int:
    with Activations(network) as kept:
        network(**models_tiny.inputs(kind)).sum()
    return kept.bytes


@pytest.mark.parametrize("kind", ["bert", "convnext"])
def test_less_training_keeps_less(tiny_model: Callable[[str], Path], kind: str) -> None:
    full = kept_by(network(tiny_model, kind), kind)
    top = kept_by(network(tiny_model, kind, adaptation="last_k", last_k=1), kind)
    probe = kept_by(network(tiny_model, kind, adaptation="probe", head="linear"), kind)
    assert 0 < probe < top < full


def test_recomputing_keeps_less(tiny_model: Callable[[str], Path]) -> None:
    plain = kept_by(network(tiny_model, "bert"), "bert")
    assert 0 < kept_by(network(tiny_model, "bert", gradient_checkpointing=True), "bert") < plain / 2


@pytest.mark.parametrize("optimizer", memory.OPTIMIZER_STATES)
def test_optimizers_keep_what_is_said(tiny_model: Callable[[str], Path], optimizer: str) -> None:
    from luthier.engine.optim import _optimizer

    parameter = nn.Parameter(torch.randn(64, 64))
    parameter.grad = torch.randn(64, 64)
    recipe = Recipe.parse({"model": "m", "optimizer": optimizer})
    made = _optimizer([{"params": [parameter], "lr": 1e-3, "decay": True}], recipe)
    made.step()
    kept = sum(tensor.nbytes for tensor in made.state[parameter].values() if torch.is_tensor(tensor))
    expected = memory.OPTIMIZER_STATES[optimizer] * parameter.nbytes
    assert expected <= kept <= expected + 0.05 * parameter.nbytes


def test_need() -> None:
    # Weights, gradients, the best epoch's copy, and Adam's two.
    assert need(1000, "adamw", 0.0, 8, 1) == 5 * 4000
    assert need(1000, "sgd", 10.0, 8, 3) == 3 * (4 * 4000 + 80)


def test_the_largest_size_is_the_last_that_fits() -> None:
    model = MemoryModel()
    work = {"trainable": 1000, "optimizer": "adamw", "batch": 8}
    assert model.largest_size("a", **work, cap=9, available=2**40) == 1
    model.note("a", activation_bytes=8000.0, examples=4)
    each = need(1000, "adamw", 2000.0, 8, 1)
    for room, expected in ((0.5, 1), (1.0, 1), (3.01, 3), (3.99, 3), (100.0, 9)):
        available = int(room * each / memory.USABLE)
        assert model.largest_size("a", **work, cap=9, available=available) == expected
        assert model.fits("a", **work, size=expected, available=available) == (room >= 1)
    assert model.largest_size("b", **work, cap=9, available=2**40) == 1


def test_a_size_that_failed_is_not_tried_again() -> None:
    model = MemoryModel()
    work = {"trainable": 1, "optimizer": "sgd", "batch": 1, "available": 2**40}
    model.note("a", 1.0, 1)
    model.note("b", 1.0, 1)
    model.failed("a", 4)
    model.failed("a", 6)
    assert model.largest_size("a", **work, cap=9) == 3
    assert not model.fits("a", **work, size=5)
    assert model.largest_size("b", **work, cap=9) == 9


def test_longer_examples_are_never_underestimated() -> None:
    """Of n tokens, attention keeps a n + b n² bytes; whatever length was seen, the estimate is no less."""
    model = MemoryModel()

    def truth(length: float) -> float:
        return 100 * length + 3 * length * length

    for seen in (10, 40, 20):
        model.note("a", 5 * truth(seen), examples=5, extent=seen)
        for length in (5, 10, 30, 40, 80):
            estimate = model.activations("a", length)
            assert estimate is not None and estimate >= truth(length) * (1 - 1e-9)
    assert model.activations("a", 40) == truth(40)
    assert model.activations("b") is None


def test_out_of_memory_is_recognised() -> None:
    with pytest.raises(RuntimeError) as cpu:
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(MemoryError) as array:
        np.zeros(2**62, dtype=np.uint8)
    wrapped = RuntimeError("the step failed")
    wrapped.__cause__ = MemoryError()
    for error in (
        cpu.value,
        array.value,
        wrapped,
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        OSError(12, os.strerror(12)),
    ):
        assert is_out_of_memory(error), error
    for error in (None, ValueError("out of memory"), RuntimeError("sizes differ"), OSError(28, "full")):
        assert not is_out_of_memory(error), error
