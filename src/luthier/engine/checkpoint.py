"""Trained weights on disk: one safetensors file a trial, holding only what was trained."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from luthier.errors import RunError


class Checkpoints:
    """The folder of a run's checkpoints.

    Args:
        folder: Made when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, trial: int) -> Path:
        """Where a trial's weights lie; numbers below zero are fine-tunings outside of the study."""
        name = f"trial-{trial:04d}" if trial >= 0 else f"baseline-{-trial}"
        return self.folder / f"{name}.safetensors"

    def save(self, trial: int, state: dict[str, torch.Tensor]) -> None:
        """Writes a trial's weights whole or not at all.

        Raises:
            RunError: The disk is full or cannot be written.
        """
        target = self.path(trial)
        partial = target.with_suffix(".partial")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, str(partial))
            partial.replace(target)
        except (OSError, SafetensorError) as error:
            partial.unlink(missing_ok=True)
            raise RunError(
                f"Could not write the checkpoint {target}: {error}.", "Free some space, then resume the run."
            ) from error

    def load(self, trial: int) -> dict[str, torch.Tensor]:
        """A trial's weights.

        Raises:
            RunError: They are not there, or damaged.
        """
        try:
            return load_file(str(self.path(trial)))
        except (OSError, SafetensorError) as error:
            raise RunError(f"The checkpoint {self.path(trial)} cannot be read: {error}.") from error

    def keep(self, trials: set[int]) -> None:
        """Removes the weights of all other trials of the study, and what an interrupted write left."""
        if not self.folder.is_dir():
            return
        kept = {self.path(trial) for trial in trials}
        for path in self.folder.glob("trial-*"):
            if path not in kept:
                path.unlink(missing_ok=True)
