from __future__ import annotations

from pathlib import Path

import pytest
import torch

from luthier.engine.checkpoint import Checkpoints
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
