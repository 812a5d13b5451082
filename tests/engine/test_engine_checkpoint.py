from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from luthier.engine.checkpoint import Checkpoints
from luthier.engine.state import TrialState
from luthier.errors import RunError


def test_weights_come_back(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "new")
    state = {"a": torch.randn(3, 4), "b": torch.arange(5)}
    checkpoints.save(3, state)
    back = checkpoints.load(3)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_a_failed_write_leaves_the_old_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, {"a": torch.ones(2)})

    def half(state: object, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("luthier.engine.checkpoint.save_file", half)
    with pytest.raises(RunError, match="No space left"):
        checkpoints.save(0, {"a": torch.zeros(2)})
    assert torch.equal(checkpoints.load(0)["a"], torch.ones(2))
    assert [path.name for path in tmp_path.iterdir()] == ["trial-0000.safetensors"]


def test_only_the_named_trials_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for trial in (-1, 0, 1, 2):
        checkpoints.save(trial, {"a": torch.ones(1)})
    (tmp_path / "trial-0009.partial").touch()
    checkpoints.keep({1})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["baseline-1.safetensors", "trial-0001.safetensors"]


@pytest.mark.parametrize("content", [None, b"", b"not tensors at all"])
def test_missing_or_damaged_weights_are_named(tmp_path: Path, content: bytes | None) -> None:
    checkpoints = Checkpoints(tmp_path)
    if content is not None:
        checkpoints.path(0).write_bytes(content)
    with pytest.raises(RunError, match="trial-0000"):
        checkpoints.load(0)


def made_state(seed: int = 0, elements: int = 256) -> TrialState:
    """A trial after its third epoch, whose second was the best; its norm's mean has not changed since."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    same = draw(8)
    return TrialState(
        weights={"head.weight": draw(2, elements // 2), "body.norm.running_mean": same},
        optimizer={"head.weight": {"exp_avg": draw(2, elements // 2), "step": torch.tensor(7.0)}},
        epoch=3,
        steps=21,
        best={"head.weight": draw(2, elements // 2), "body.norm.running_mean": same.clone()},
        best_epoch=2,
        best_score=0.1 + 0.2,
        best_metrics={"accuracy": 0.1 + 0.2, "loss": math.inf},
    )


def assert_equal(found: TrialState | None, expected: TrialState) -> None:
    assert found is not None

    def flat(state: TrialState) -> dict[str, torch.Tensor]:
        optimizer = {f"{n}/{k}": t for n, tensors in state.optimizer.items() for k, t in tensors.items()}
        return {f"w/{n}": t for n, t in state.weights.items()} | {
            f"b/{n}": t for n, t in state.best.items()
        } | optimizer  # fmt: skip

    ours, theirs = flat(found), flat(expected)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype
        assert torch.equal(tensor, theirs[name]), name
    bare = {"weights": {}, "optimizer": {}, "best": {}}
    assert replace(found, **bare) == replace(expected, **bare)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.mark.parametrize("ram_bytes", [2**20, 0])
def test_a_paused_trial_comes_back_once(tmp_path: Path, ram_bytes: int) -> None:
    checkpoints = Checkpoints(tmp_path / "new", ram_bytes=ram_bytes)
    for trial in (3, -1):
        checkpoints.pause(trial, made_state(trial + 1))
    assert names(tmp_path / "new") == (
        [] if ram_bytes else ["paused-0003.safetensors", "paused-baseline-1.safetensors"]
    )
    for trial in (-1, 3):
        assert_equal(checkpoints.resume(trial), made_state(trial + 1))
        assert checkpoints.resume(trial) is None
    assert names(tmp_path / "new") == []


@pytest.mark.parametrize("ram_bytes", [2**20, 0])
def test_a_resumed_trial_shares_no_memory(tmp_path: Path, ram_bytes: int) -> None:
    checkpoints = Checkpoints(tmp_path, ram_bytes=ram_bytes)
    stack = torch.randn(4, 2, 128)
    state = replace(made_state(), weights={"head.weight": stack[1]}, best={"head.weight": stack[1].clone()})
    expected = replace(state, weights={"head.weight": stack[1].clone()})
    checkpoints.pause(0, state)
    stack.zero_()
    back = checkpoints.resume(0)
    assert_equal(back, expected)
    assert back is not None
    back.weights["head.weight"].zero_()
    assert torch.equal(back.best["head.weight"], expected.best["head.weight"])


def test_what_is_in_both_is_stored_once(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, ram_bytes=0)
    weight = torch.randn(100, 100)
    once = TrialState({"w": weight}, best={"w": weight.clone()}, epoch=1, best_epoch=1, best_score=1.0)
    twice = replace(once, best={"w": weight + 1})
    for trial, state in enumerate((once, twice)):
        checkpoints.pause(trial, state)
    sizes = [checkpoints.paused_path(trial).stat().st_size for trial in (0, 1)]
    assert weight.nbytes < sizes[0] < weight.nbytes + 2000
    assert 2 * weight.nbytes < sizes[1] < 2 * weight.nbytes + 2000
    for trial, state in enumerate((once, twice)):
        assert_equal(checkpoints.resume(trial), state)


def test_tensors_of_any_layout_are_written(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, ram_bytes=0)
    step = torch.tensor(3.0)
    kernel = torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    weights = {
        "a": kernel,
        "b": torch.arange(3),
        "c": torch.zeros(0),
        "d": torch.ones(2, dtype=torch.bfloat16),
    }
    state = TrialState(weights, optimizer={name: {"step": step} for name in weights})
    checkpoints.pause(5, state)
    assert names(tmp_path) == ["paused-0005.safetensors"]
    assert_equal(checkpoints.resume(5), state)


def test_the_longest_paused_go_to_disk_and_then_away(tmp_path: Path) -> None:
    size = 3 * 2048 + 8 * 4 + 4
    checkpoints = Checkpoints(tmp_path, ram_bytes=2 * size, disk_bytes=3 * size)
    for trial in range(3):
        checkpoints.pause(trial, made_state(trial, 512))
    assert names(tmp_path) == ["paused-0000.safetensors"]
    checkpoints.pause(1, made_state(1, 512))  # Again: now it is the newest.
    checkpoints.pause(3, made_state(3, 512))
    assert names(tmp_path) == ["paused-0000.safetensors", "paused-0002.safetensors"]
    for trial in range(4, 7):
        checkpoints.pause(trial, made_state(trial, 512))
    assert names(tmp_path) == [f"paused-000{trial}.safetensors" for trial in (1, 3, 4)]
    assert [checkpoints.resume(trial) is None for trial in range(7)] == [True, False, True] + [False] * 4


def test_one_that_is_too_large_drops_no_others(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, ram_bytes=0, disk_bytes=20_000)
    checkpoints.pause(0, made_state())
    checkpoints.pause(1, made_state(elements=10_000))
    assert names(tmp_path) == ["paused-0000.safetensors"]
    assert checkpoints.resume(1) is None


def test_paused_trials_leave_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 3 * 2048 + 8 * 4 + 4
    free = 50_000 + size + 100
    disk = SimpleNamespace(total=10**6, used=0, free=free)  # 5% are 50 kB.
    monkeypatch.setattr("shutil.disk_usage", lambda path: disk)
    checkpoints = Checkpoints(tmp_path, ram_bytes=0)
    checkpoints.pause(0, made_state(0, 512))
    assert names(tmp_path) == ["paused-0000.safetensors"]
    disk.free -= size
    checkpoints.pause(1, made_state(1, 512))
    assert names(tmp_path) == ["paused-0001.safetensors"]


def test_a_failed_write_loses_the_trial_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path, ram_bytes=0)
    checkpoints.pause(0, made_state())

    def half(tensors: object, path: str, metadata: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("luthier.engine.checkpoint.save_file", half)
        checkpoints.pause(1, made_state(1))
    assert names(tmp_path) == ["paused-0000.safetensors"]
    assert checkpoints.resume(1) is None
    assert_equal(checkpoints.resume(0), made_state())


@pytest.mark.parametrize("damage", ["gone", "empty", "short", "foreign"])
def test_a_damaged_paused_trial_is_lost(tmp_path: Path, damage: str) -> None:
    checkpoints = Checkpoints(tmp_path, ram_bytes=0)
    checkpoints.pause(0, made_state())
    path = checkpoints.paused_path(0)
    content = path.read_bytes()
    path.unlink()
    match damage:
        case "empty":
            path.touch()
        case "short":
            path.write_bytes(content[:-1])
        case "foreign":
            checkpoints.save(0, {"a": torch.ones(2)})
            checkpoints.path(0).rename(path)
    assert checkpoints.resume(0) is None
    assert names(tmp_path) == []


def test_paused_trials_outlive_a_tidying_up_but_not_the_end(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, ram_bytes=0)
    (tmp_path / "paused-0007.safetensors").touch()  # An earlier process left it.
    (tmp_path / "paused-0008.partial").touch()
    checkpoints.save(0, {"a": torch.ones(1)})
    for trial in (1, 2):
        checkpoints.pause(trial, made_state(trial))
    checkpoints.keep({0})
    assert names(tmp_path) == ["paused-0001.safetensors", "paused-0002.safetensors", "trial-0000.safetensors"]
    checkpoints.forget(2)
    checkpoints.forget(9)
    assert checkpoints.resume(2) is None
    checkpoints.close()
    assert names(tmp_path) == ["trial-0000.safetensors"]
    assert checkpoints.resume(1) is None


def test_nothing_paused_is_nothing_to_close(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "never")
    assert 0 < checkpoints.ram_bytes < psutil.virtual_memory().total / 4
    checkpoints.close()
    assert not (tmp_path / "never").exists()
