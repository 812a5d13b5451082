"""Frozen outputs that were computed before, by this process or an earlier one: in memory and on disk."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from luthier.engine.prefix import Features
from luthier.engine.shelf import Shelf
from luthier.tasks.base import Examples

FOLDER = "LUTHIER_CACHE"
"""Environment variable that names the folder; ``off`` keeps nothing on disk."""
DISK_BYTES = 10 * 2**30
"""Bytes of disk that are used unless told otherwise."""
RAM_SHARE = 0.25
"""Share of the physical memory that is used unless told otherwise."""
# A change in how outputs are computed or written makes those of before unusable: then this goes up.
_FORMAT = 1


class _Kept(NamedTuple):
    """What is kept of features: all but the examples, which whoever asks for them has."""

    values: torch.Tensor
    depth: int
    views: int
    ragged: bool


class FeatureCache:
    """Features by key; see `key`.

    What is put in stays in memory, the least recently used going first, and on disk, where later runs find
    it. What is larger than the memory's part lies on disk alone and is read from there as it is needed. A
    disk that is full or cannot be written costs time, never a trial: one warning says so.

    Args:
        folder: Where to keep what later runs may use; None for nowhere. Made when first written to.
        ram_bytes: Size of the part in memory; by default `RAM_SHARE` of the physical memory.
        disk_bytes: Size of the part on disk, over all processes that use the folder.

    Attributes:
        ram_used: Bytes in memory now.
    """

    def __init__(
        self, folder: Path | None, ram_bytes: int | None = None, disk_bytes: int = DISK_BYTES
    ) -> None:
        physical = psutil.virtual_memory().total
        self.ram_bytes = int(RAM_SHARE * physical) if ram_bytes is None else ram_bytes
        self.ram_used = 0
        self.shelf = None if folder is None or disk_bytes <= 0 else Shelf(Path(folder), disk_bytes)
        # Outputs are computed in memory, wherever they are kept.
        self._largest = max(self.ram_bytes, min(disk_bytes, physical // 2) if self.shelf else 0)
        self._memory: OrderedDict[str, _Kept] = OrderedDict()
        self._writes = self._warns = True

    @property
    def capacity(self) -> int:
        """Bytes up to which outputs are worth computing; the same whatever is kept already."""
        return self._largest

    def has(self, key: str) -> bool:
        """Whether `get` would find something; on disk it may still turn out to be damaged."""
        return key in self._memory or (self.shelf is not None and self.shelf.has(key))

    def get(self, key: str, examples: Examples) -> Features | None:
        """What was kept under a key, or None.

        Args:
            key: See `key`.
            examples: Those it was computed from, or equal ones: lengths and targets are theirs.
        """
        kept = self._memory.get(key)
        if kept is not None:
            self._memory.move_to_end(key)
            if self.shelf is not None:
                self.shelf.touch(key)
            return Features(kept.values, examples, kept.depth, kept.views, kept.ragged)
        if self.shelf is None:
            return None
        found = self.shelf.get(key, self.ram_bytes)
        if found is None:
            return None
        values, note = found
        kept = _Kept(values, int(note["depth"]), int(note["views"]), bool(note["ragged"]))
        features = Features(kept.values, examples, kept.depth, kept.views, kept.ragged)
        self._remember(key, kept)
        return features

    def put(self, key: str, features: Features) -> bool:
        """Keeps features.

        Returns:
            Whether they are kept anywhere. If so and they are larger than the memory's part, `get` gives them
            as they lie on disk, and the memory that they were computed in can be let go.
        """
        kept = _Kept(features.values, features.depth, features.views, features.ragged)
        remembered = self._remember(key, kept)
        return self._write(key, kept) or remembered

    def clear(self) -> None:
        """Forgets everything, on disk too."""
        self._memory.clear()
        self.ram_used = 0
        if self.shelf is not None:
            self.shelf.clear()

    def _remember(self, key: str, kept: _Kept) -> bool:
        size = kept.values.nbytes
        if size > self.ram_bytes:
            return False
        if key in self._memory:
            self.ram_used -= self._memory.pop(key).values.nbytes
        while self.ram_used + size > self.ram_bytes:
            _, oldest = self._memory.popitem(last=False)
            self.ram_used -= oldest.values.nbytes
        self._memory[key] = kept
        self.ram_used += size
        return True

    def _write(self, key: str, kept: _Kept) -> bool:
        if self.shelf is None or not self._writes or kept.values.nbytes > self.shelf.limit:
            return False
        note = {"depth": kept.depth, "views": kept.views, "ragged": kept.ragged}
        try:
            if self.shelf.put(key, kept.values, note):
                return True
            self._warn(self.shelf.folder, "the disk is too full")
        except OSError as error:
            self._writes = False
            self._warn(self.shelf.folder, str(error))
        return False

    def _warn(self, folder: Path, why: str) -> None:
        if self._warns:
            self._warns = False
            warnings.warn(
                f"Outputs of frozen layers cannot be kept in '{folder}' for later runs: {why}."
                f" Set {FOLDER} to another folder, or to 'off'.",
                stacklevel=4,
            )


def key(
    *, weights: str, data: str, depth: int, level: str = "example", pooling: str = "native",
    dtype: str = "float16", views: int = 0, augmentation: str = "none", preprocessing: Sequence[object] = (),
    device: str = "cpu", precision: str = "fp32",
) -> str:  # fmt: skip
    """A name for frozen outputs: equal only where they are.

    The versions of torch and transformers count, since the last bits may differ between them.

    Args:
        weights: `Source.fingerprint`.
        data: `Examples.fingerprint`.
        depth: As `Network.depth` counts.
        level: ``example`` or ``token``. This and the pooling count at depth 0 alone, so that all heads share
            the states below them.
        pooling: Of the recipe.
        dtype: Type wanted; see `prefix.compute`.
        views: Of each image.
        augmentation: How views are made; does not count without.
        preprocessing: What else the inputs depend on, beside what ``data`` says.
        device: Kind of device that computes.
        precision: Of the computing.

    Returns:
        40 hex digits.
    """
    at_head = (level, pooling) if depth == 0 else None
    if depth == 0 and level == "example" and dtype != "float64":
        dtype = "float32"
    parts = [
        _FORMAT, torch.__version__, importlib.metadata.version("transformers"), weights, data, depth, at_head,
        dtype, (views, augmentation) if views else None, list(preprocessing), device, precision,
    ]  # fmt: skip
    return hashlib.blake2b(json.dumps(parts, default=str).encode(), digest_size=20).hexdigest()


def default_folder() -> Path | None:
    """Where features are kept unless told otherwise: `FOLDER`, or the user's cache; None for nowhere."""
    named = os.environ.get(FOLDER, "").strip()
    if named.lower() == "off":
        return None
    if named:
        return Path(named).expanduser()
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # A user without a home.
        return None
    return base / "luthier" / "features"
