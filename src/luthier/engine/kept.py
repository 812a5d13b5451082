"""What trials said of the validation split at their best epochs, on disk: one safetensors file a trial.

Choosing among trials on resampled rows needs no training from these. What is made of them lives in
`luthier.evaluate.selection`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

# What all files of a run may take; beyond it those of the worst trials go.
DISK_BYTES = 2**30
# What the outputs of trials in training together may take of main memory; beyond it none are kept of them.
MEMORY_BYTES = 2**28

Packed = dict[str, np.ndarray]
Later = Callable[[], Packed]
"""Outputs that are put in order only when they are wanted: every better epoch replaces them."""

VALUES, LENGTHS = "outputs", "lengths"


class KeptOutputs:
    """The folder of a run's validation outputs.

    They are of use but not needed: where one cannot be written it is missing, and nothing fails.

    Args:
        folder: Made when first written to.
        disk_bytes: What all files may take.
    """

    def __init__(self, folder: Path, *, disk_bytes: int = DISK_BYTES) -> None:
        self.folder = folder
        self.disk_bytes = disk_bytes
        self._sizes: dict[int, int] | None = None

    def path(self, trial: int) -> Path:
        """Where a trial's outputs lie."""
        return self.folder / f"trial-{trial:04d}.safetensors"

    def save(self, trial: int, outputs: Packed) -> None:
        """Writes a trial's outputs whole or not at all, in place of those of an earlier epoch.

        Args:
            trial: Its number; of fine-tunings outside of the study, below zero, nothing is kept.
            outputs: From `pack`; empty where there are none of the best epoch: older ones go then.
        """
        if trial < 0:
            return
        target = self.path(trial)
        partial = target.with_suffix(".partial")
        sizes = self._known()
        sizes.pop(trial, None)
        try:
            if not outputs:
                target.unlink(missing_ok=True)
                return
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(outputs, str(partial))
            size = partial.stat().st_size
            partial.replace(target)
            sizes[trial] = size
        except (OSError, SafetensorError):
            # Outputs of another epoch would be wrong, none are only fewer.
            for path in (partial, target):
                path.unlink(missing_ok=True)

    def load(self, trial: int) -> list[np.ndarray] | None:
        """A trial's outputs, one array an example, as `Task.outputs` cuts them; None if they are not kept."""
        try:
            return unpack(load_file(str(self.path(trial))))
        except (OSError, SafetensorError, KeyError, ValueError):
            return None

    def trim(self, ranked: Iterable[int]) -> None:
        """Removes the outputs of the worst trials while all together take more than they may.

        Args:
            ranked: Trials, the best first; those that are not named go first of all.
        """
        sizes = self._known()
        total = sum(sizes.values())
        if total <= self.disk_bytes:
            return
        place = {trial: position for position, trial in enumerate(ranked)}
        for trial in sorted(sizes, key=lambda one: place.get(one, len(place)), reverse=True):
            if total <= self.disk_bytes:
                return
            total -= sizes.pop(trial)
            self.path(trial).unlink(missing_ok=True)

    def _known(self) -> dict[int, int]:
        """Sizes of the files in bytes, those of an earlier process among them."""
        if self._sizes is None:
            self._sizes = {}
            for path in self.folder.glob("trial-*.safetensors"):
                number = path.stem.removeprefix("trial-")
                if number.isdecimal():
                    self._sizes[int(number)] = path.stat().st_size
        return self._sizes


def pack(outputs: Sequence[np.ndarray]) -> Packed:
    """Outputs as few float32 arrays.

    Args:
        outputs: n arrays, all (outputs,), or (words, outputs) with any number of words each.

    Returns:
        ``outputs`` (n, outputs); of words (all words, outputs), with their numbers as ``lengths`` (n,).
    """
    values = np.concatenate(outputs) if len(outputs) else np.empty((0, 0))
    if len(outputs) and outputs[0].ndim == 2:
        lengths = np.array([len(output) for output in outputs], dtype=np.int64)
        return {VALUES: np.ascontiguousarray(values, dtype=np.float32), LENGTHS: lengths}
    table = values.reshape(len(outputs), -1) if len(outputs) else values
    return {VALUES: np.ascontiguousarray(table, dtype=np.float32)}


def unpack(packed: Packed) -> list[np.ndarray]:
    """The outputs that were packed."""
    values = packed[VALUES]
    if LENGTHS not in packed:
        return list(values)
    return np.split(values, np.cumsum(packed[LENGTHS])[:-1])
