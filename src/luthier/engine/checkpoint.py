"""Trained weights on disk: one safetensors file a trial, holding only what was trained; and paused trials."""

from __future__ import annotations

import json
import shutil
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from luthier.engine.state import TrialState
from luthier.errors import RunError

# Of physical memory, what paused trials may take.
RAM_SHARE = 1 / 8
DISK_BYTES = 20 * 2**30
# Paused trials always leave this much of the disk, or this share of it if that is less.
FREE_BYTES, FREE_SHARE = 2**30, 0.05


class Checkpoints:
    """The folder of a run's checkpoints, and its paused trials.

    A paused trial lies in main memory, or on disk while there are too many. It may get lost, if the disk has
    no room either or its file is damaged: it is then to be trained again from its start.

    Args:
        folder: Made when first written to.
        ram_bytes: What paused trials may take of main memory; None for an eighth of it. Those that have been
            paused the longest go to disk.
        disk_bytes: What paused trials may take on disk; those that have been paused the longest are dropped.
            They always leave 1 GiB of the disk free, or 5% if that is less.
    """

    def __init__(self, folder: Path, *, ram_bytes: int | None = None, disk_bytes: int = DISK_BYTES) -> None:
        self.folder = folder
        self.ram_bytes = int(psutil.virtual_memory().total * RAM_SHARE) if ram_bytes is None else ram_bytes
        self.disk_bytes = disk_bytes
        # Both in the order in which they were paused, with sizes in bytes.
        self._in_memory: OrderedDict[int, tuple[TrialState, int]] = OrderedDict()
        self._on_disk: OrderedDict[int, int] = OrderedDict()

    def path(self, trial: int) -> Path:
        """Where a trial's weights lie; numbers below zero are fine-tunings outside of the study."""
        name = f"trial-{trial:04d}" if trial >= 0 else f"baseline-{-trial}"
        return self.folder / f"{name}.safetensors"

    def paused_path(self, trial: int) -> Path:
        """Where a paused trial lies if it is on disk."""
        name = f"{trial:04d}" if trial >= 0 else f"baseline-{-trial}"
        return self.folder / f"paused-{name}.safetensors"

    def save(self, trial: int, state: dict[str, torch.Tensor]) -> None:
        """Writes a trial's weights whole or not at all.

        Raises:
            RunError: The disk is full or cannot be written.
        """
        target = self.path(trial)
        try:
            self._write(target, {name: tensor.contiguous() for name, tensor in state.items()})
        except (OSError, SafetensorError) as error:
            raise RunError(
                f"Could not write the checkpoint {target}: {error}.", "Free some space, then resume the run."
            ) from error

    def has(self, trial: int) -> bool:
        """Whether a trial's weights are there."""
        return self.path(trial).is_file()

    def size(self, trial: int) -> int:
        """Bytes that a trial's weights take on disk; 0 where they are not there."""
        path = self.path(trial)
        return path.stat().st_size if path.is_file() else 0

    def load(self, trial: int) -> dict[str, torch.Tensor]:
        """A trial's weights.

        Raises:
            RunError: They are not there, or damaged.
        """
        try:
            return load_file(str(self.path(trial)))
        except (OSError, SafetensorError) as error:
            raise RunError(f"The checkpoint {self.path(trial)} cannot be read: {error}.") from error

    def remove(self, trial: int) -> None:
        """Removes a trial's weights, and what is paused of it."""
        self.forget(trial)
        self.path(trial).unlink(missing_ok=True)

    def keep(self, trials: set[int]) -> None:
        """Removes the weights of all other trials of the study, and what an interrupted write left.

        Trials that are paused stay; paused ones of an earlier process do not.
        """
        if not self.folder.is_dir():
            return
        kept = {self.path(trial) for trial in trials} | {self.paused_path(trial) for trial in self._on_disk}
        for pattern in ("trial-*", "paused-*"):
            for path in self.folder.glob(pattern):
                if path not in kept:
                    path.unlink(missing_ok=True)

    def pause(self, trial: int, state: TrialState) -> None:
        """Keeps a trial between two of its epochs, in place of what was kept of it before.

        Args:
            trial: Its number.
            state: Handed over: its tensors must not change any more.
        """
        self.forget(trial)
        state = _own(state)
        self._in_memory[trial] = state, _size(state)
        while self._in_memory and sum(size for _, size in self._in_memory.values()) > self.ram_bytes:
            oldest, (state, size) = self._in_memory.popitem(last=False)
            self._to_disk(oldest, state, size)

    def peek(self, trial: int) -> TrialState | None:
        """A paused trial, which stays as it is; None if it is not one."""
        if trial in self._in_memory:
            return self._in_memory[trial][0]
        if trial not in self._on_disk:
            return None
        return _read(self.paused_path(trial))

    def resume(self, trial: int) -> TrialState | None:
        """Takes a paused trial out, to go on with it; None if it was not paused, or got lost.

        Its tensors are on the CPU and share no memory.
        """
        if trial in self._in_memory:
            state, _ = self._in_memory.pop(trial)
            return replace(state, best=_apart(state.best, state.weights))
        if self._on_disk.pop(trial, None) is None:
            return None
        path = self.paused_path(trial)
        try:
            return _read(path)
        finally:
            path.unlink(missing_ok=True)

    def forget(self, trial: int) -> None:
        """Drops a paused trial, if it is one."""
        self._in_memory.pop(trial, None)
        if self._on_disk.pop(trial, None) is not None:
            self.paused_path(trial).unlink(missing_ok=True)

    def close(self) -> None:
        """Drops all paused trials, in memory and on disk."""
        self._in_memory.clear()
        self._on_disk.clear()
        if self.folder.is_dir():
            for path in self.folder.glob("paused-*"):
                path.unlink(missing_ok=True)

    def _to_disk(self, trial: int, state: TrialState, size: int) -> None:
        """Writes a paused trial, in place of older ones if need be; drops it if there is no room."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            disk = shutil.disk_usage(self.folder)
            taken = sum(self._on_disk.values())
            room = min(self.disk_bytes, disk.free + taken - int(min(FREE_BYTES, FREE_SHARE * disk.total)))
            if size > room:
                return
            while taken + size > room:
                oldest = next(iter(self._on_disk))
                taken -= self._on_disk[oldest]
                self.forget(oldest)
            tensors, metadata = _flat(state)
            self._write(self.paused_path(trial), tensors, metadata=metadata)
        except (OSError, SafetensorError):
            return
        self._on_disk[trial] = size

    def _write(self, target: Path, tensors: dict[str, torch.Tensor], **options: Any) -> None:
        """Writes a file whole or not at all."""
        partial = target.with_suffix(".partial")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, str(partial), **options)
            partial.replace(target)
        except (OSError, SafetensorError):
            partial.unlink(missing_ok=True)
            raise


def _own(state: TrialState) -> TrialState:
    """The state on the CPU, without views of larger tensors; what ``best`` has of ``weights`` is shared."""
    weights = {name: _detached(tensor) for name, tensor in state.weights.items()}
    best = {}
    for name, tensor in state.best.items():
        other = weights.get(name)
        same = other is not None and other.dtype == tensor.dtype and torch.equal(other, tensor.detach().cpu())
        best[name] = other if other is not None and same else _detached(tensor)
    optimizer = {
        name: {key: _detached(tensor) for key, tensor in tensors.items()}
        for name, tensors in state.optimizer.items()
    }
    return replace(state, weights=weights, best=best, optimizer=optimizer)


def _detached(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach().cpu()
    return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor


def _apart(best: dict[str, torch.Tensor], weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The best epoch's weights, those copied that are also the present ones."""
    return {name: tensor.clone() if tensor is weights.get(name) else tensor for name, tensor in best.items()}


def _size(state: TrialState) -> int:
    """Bytes that a state takes; what is shared counts once."""
    kept = [*state.weights.values(), *state.best.values()]
    kept += [tensor for tensors in state.optimizer.values() for tensor in tensors.values()]
    return sum(tensor.nbytes for tensor in {id(tensor): tensor for tensor in kept}.values())


def _flat(state: TrialState) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """A state as tensors by flat names, what is shared only once, and its scalars as text."""
    tensors = {f"weights/{name}": tensor for name, tensor in state.weights.items()}
    shared = []
    for name, tensor in state.best.items():
        if tensor is state.weights.get(name):
            shared.append(name)
        else:
            tensors[f"best/{name}"] = tensor
    for name, values in state.optimizer.items():
        tensors.update({f"optimizer/{name}/{key}": tensor for key, tensor in values.items()})
    scalars = {
        "epoch": state.epoch,
        "steps": state.steps,
        "best_epoch": state.best_epoch,
        "best_score": float(state.best_score),
        "best_metrics": {name: float(value) for name, value in state.best_metrics.items()},
    }
    # A file holds each tensor for itself, with its rows in order.
    seen: set[int] = set()
    for name, tensor in tensors.items():
        whole = tensor.contiguous()
        address = whole.untyped_storage().data_ptr()
        tensors[name] = whole.clone() if address in seen else whole
        seen.add(address)
    return tensors, {"scalars": json.dumps(scalars), "shared": json.dumps(shared)}


def _read(path: Path) -> TrialState | None:
    """A state from its file; None if that is damaged."""
    try:
        return _parsed(path)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def _parsed(path: Path) -> TrialState:
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata()
        scalars, shared = json.loads(metadata["scalars"]), json.loads(metadata["shared"])
    state = TrialState(weights={}, **scalars)
    for flat, mapped in load_file(str(path)).items():
        tensor = mapped.clone()  # The file goes.
        kind, _, name = flat.partition("/")
        if kind == "optimizer":
            parameter, _, key = name.rpartition("/")
            state.optimizer.setdefault(parameter, {})[key] = tensor
        else:
            (state.weights if kind == "weights" else state.best)[name] = tensor
    # In the order of the weights, as they would have been.
    state.best |= {name: state.weights[name].clone() for name in shared}
    return state
