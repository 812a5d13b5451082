"""What a finished network takes: counted exactly, timed once, shared by all recipes of a structure."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_clock import Clock

from luthier.engine import footprint
from luthier.engine.engine import Engine
from luthier.engine.footprint import Footprints, nbytes
from luthier.models import saved, source
from luthier.models.network import build
from luthier.recipe import Recipe
from luthier.tasks.base import Batch

MakeEngine = Callable[..., Engine]
PROBE = Recipe(model="tiny", adaptation="probe")


@pytest.fixture
def footprints(make_engine: MakeEngine) -> Footprints:
    engine = make_engine()
    return Footprints(engine.inputs, engine.sources, engine.device)


def weights_on_disk(folder: Path) -> int:
    """Bytes of the tensors in a saved model's files, without their headers."""
    total = 0
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as opened:
            (header,) = struct.unpack("<Q", opened.read(8))
            entries = json.loads(opened.read(header))
        total += sum(e["data_offsets"][1] - e["data_offsets"][0] for n, e in entries.items() if n[0] != "_")
    return total


@pytest.mark.parametrize(
    "settings",
    [
        {"adaptation": "full"},
        {"adaptation": "probe", "head": "linear", "pooling": "mean"},
        {"adaptation": "lora", "lora_rank": 4},
        {"adaptation": "last_k", "last_k": 1, "head": "mlp"},
    ],
)
def test_the_size_is_that_of_the_saved_weights(
    footprints: Footprints, tiny_bert: source.Source, tmp_path: Path, settings: dict[str, Any]
) -> None:
    recipe, task = Recipe(model="tiny", **settings), footprints.inputs.task
    network = build(tiny_bert, recipe, level="example", num_outputs=task.num_outputs, seed=3)
    saved.save(
        network, tiny_bert, footprints.inputs.processor(tiny_bert), recipe, tmp_path / "model",
        task_state={"task": task.name, **task.state()}, auto_class=task.auto_class,
        problem_type=task.problem_type, labels=task.label_names, peft_type=task.peft_type,
    )  # fmt: skip
    assert footprints.of(recipe)["size_mb"] * 1e6 == pytest.approx(
        weights_on_disk(tmp_path / "model"), abs=0.5
    )


def test_bytes_alive_are_counted_from_making_to_the_last_reference() -> None:
    kept = torch.ones(1000)
    with footprint._Alive([kept]) as alive:
        first = kept + 1
        assert alive.now == 4000
        second = first.view(10, 100).t()
        assert alive.now == 4000  # the same storage
        third = second * 2
        del first
        assert alive.now == 8000  # a view still refers to it
        del second
        assert alive.now == 4000 and alive.peak == 8000
        third.add_(1)
        assert alive.now == 4000
        kept.mul_(1)
        assert alive.now == 4000
    assert nbytes([kept, kept[:10], torch.ones(2, dtype=torch.int64)]) == 4016


@pytest.mark.parametrize("kind", ["bert", "modernbert", "vit", "resnet"])
def test_what_a_large_batch_takes_follows_from_small_ones(
    footprints: Footprints, tiny_model: Callable[[str], Path], kind: str
) -> None:
    modality = "image" if kind in {"vit", "resnet"} else "text"
    found = source.find(str(tiny_model(kind)), modality)
    network = build(found, PROBE, level="example", num_outputs=3, seed=0)
    examples = Made(modality)
    counted = footprint.prediction_bytes(network, examples, torch.device("cpu"), 50)
    inputs = examples.batch(np.full(50, 2)).inputs
    exact = nbytes([*network.parameters(), *network.buffers()]) + footprint._live_bytes(network, inputs)
    assert counted == pytest.approx(exact, rel=2e-3)
    # More than the weights and the inputs, less than all that every layer makes.
    assert counted > nbytes([*network.parameters(), *network.buffers(), *inputs.values()])


class Made:
    """Examples of three lengths."""

    lengths = np.array([4, 8, 12])
    truncated = 0

    def __init__(self, modality: str) -> None:
        self.modality = modality
        self.asked: list[list[int]] = []

    def __len__(self) -> int:
        return 3

    def batch(self, indices: np.ndarray) -> Batch:
        self.asked.append(indices.tolist())
        count, length = len(indices), int(self.lengths[indices].max())
        if self.modality == "image":
            inputs = {"pixel_values": torch.rand(count, 3, 32, 32)}
        else:
            ids = torch.full((count, length), 5)
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return Batch(inputs, torch.zeros(count, dtype=torch.long))


class Slow(torch.nn.Module):
    """Takes a millisecond a token."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        self.clock.sleep(input_ids.shape[1] / 1000)
        return torch.zeros(len(input_ids), 2)


def test_the_latency_is_the_median_over_lengths_one_example_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    examples, clock = Made("text"), Clock()
    monkeypatch.setattr(footprint, "time", clock)
    found = footprint.latency(Slow(clock), examples, torch.device("cpu"))  # type: ignore[arg-type]
    assert found == pytest.approx(8.0)
    assert examples.asked == [[0], [1], [2]]


def test_it_is_not_timed_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(footprint, "PATIENCE", 0.0)
    monkeypatch.setattr(Slow, "forward", lambda self, **inputs: calls.append(1) or torch.zeros(1, 2))
    footprint.latency(Slow(Clock()), Made("text"), torch.device("cpu"))  # type: ignore[arg-type]
    assert len(calls) == footprint.WARM_UP + 3


def test_a_structure_is_measured_once_for_all_its_recipes(
    footprints: Footprints, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Recipe] = []
    told: list[int] = []
    real = footprint.build

    def counted(source: Any, recipe: Recipe, **options: Any) -> Any:
        built.append(recipe)
        return real(source, recipe, **options)

    monkeypatch.setattr(footprint, "build", counted)
    footprints.on_new = lambda: told.append(len(footprints.known))
    alike = [
        Recipe(model="tiny", adaptation=kind, learning_rate=rate, batch_size=8, dropout=0.2, epochs=9)
        for kind, rate in (("full", 1e-3), ("lora", 1e-4), ("probe", 1e-2), ("last_k", 1e-5), ("bias", 1e-5))
    ]
    assert len({tuple(footprints.of(recipe).items()) for recipe in alike}) == 1
    assert len(built) == 1 and told == [1]
    shorter = footprints.of(alike[0].model_copy(update={"max_length": 4}))
    assert len(built) == 2 and told == [1, 2]
    assert shorter["memory_mb"] < footprints.of(alike[0])["memory_mb"]
    assert shorter["size_mb"] == footprints.of(alike[0])["size_mb"]


def test_what_was_measured_before_holds_in_the_next_process(footprints: Footprints) -> None:
    footprints.of(PROBE)
    kept = json.loads(json.dumps(footprints.known))
    (only,) = kept.values()
    only["latency_ms"] = 123.0
    again = Footprints(footprints.inputs, {}, footprints.device, kept)
    assert again.of(PROBE) == only


def test_measuring_leaves_the_random_numbers_of_others_alone(footprints: Footprints) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    footprints.of(PROBE)
    assert torch.equal(before, torch.get_rng_state())
