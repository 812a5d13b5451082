"""How much memory there is, how much trainings need, and how to tell that it was too little."""

from __future__ import annotations

import errno
from collections.abc import Hashable, Iterator
from pathlib import Path
from types import TracebackType

import psutil
import torch

from luthier.engine import allocator

# Trained weights, gradients and optimizer states are float32.
ELEMENT = 4
# Optimizer kind to the values that it keeps for each parameter. Adafactor keeps means over rows and columns.
OPTIMIZER_STATES = {"adamw": 2, "adam": 2, "sgd": 1, "rmsprop": 2, "lion": 1, "adafactor": 0}
# Share of what is available that may be planned with: temporaries, fragments and others need the rest.
USABLE = 0.8

OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "defaultcpuallocator",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "cudaerrormemoryallocation",
)


def available(device: torch.device) -> int:
    """Bytes that can be allocated on a device now.

    On a CPU, what the operating system can give without swapping, or what the process's control group has
    left if that is less, and what the process holds without using it. On a GPU, what is free on it and what
    torch holds without using it.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + unused)
    free = int(psutil.virtual_memory().available)
    held = allocator.unused()
    if device.type == "mps":  # It shares the main memory, up to a limit.
        free = min(free, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return max(0, min([free, *_groups_left()])) + held


def used(device: torch.device, *, reset: bool = False) -> int:
    """Bytes in use: a GPU's peak, the resident set on a CPU.

    Args:
        device: Where.
        reset: Whether the peak begins anew.
    """
    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


class Activations:
    """Counts what a forward pass inside of it keeps for the backward pass; a context manager.

    Each storage counts once, and the module's own parameters and buffers do not. Under gradient checkpointing
    only what enters the blocks is seen: the insides of one block at a time come on top, in the backward pass.

    Args:
        module: What runs.

    Attributes:
        bytes: Counted so far.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self.bytes = 0
        own = [*module.parameters(), *module.buffers()]
        self._seen = {(tensor.device, tensor.untyped_storage().data_ptr()) for tensor in own}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._count, lambda tensor: tensor)

    def __enter__(self) -> Activations:
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.__exit__(kind, error, trace)

    def _count(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        key = (tensor.device, storage.data_ptr())
        if key not in self._seen:
            self._seen.add(key)
            self.bytes += storage.nbytes()
        return tensor


def need(
    trainable_elements: int, optimizer: str, activation_bytes_per_example: float, batch: int, size: int
) -> int:
    """Bytes that a stack takes beside the weights that are not trained.

    Args:
        trainable_elements: Of one trial. Weights, gradients, optimizer states and the best epoch's copy
            count.
        optimizer: As in recipes.
        activation_bytes_per_example: See `Activations`.
        batch: Examples of one trial in a forward pass, that is a microbatch.
        size: Trials.
    """
    values = 3 + OPTIMIZER_STATES[optimizer]
    return int(size * (ELEMENT * values * trainable_elements + activation_bytes_per_example * batch))


class MemoryModel:
    """Learns what an example of a shape takes, and says how many trials fit.

    A shape is whatever decides what a forward pass keeps: the model and all that trials of a stack share.
    """

    def __init__(self) -> None:
        self._noted: dict[Hashable, tuple[float, float]] = {}
        self._failed: dict[Hashable, int] = {}

    def note(self, shape: Hashable, activation_bytes: float, examples: int, extent: float = 1.0) -> None:
        """Takes note of a forward pass.

        The largest extent says most, so it is kept, and the largest bytes seen of it.

        Args:
            shape: Of the stack.
            activation_bytes: That it kept.
            examples: Of all its trials.
            extent: Length of each, if shapes come in several.
        """
        found = (extent, activation_bytes / examples)
        self._noted[shape] = max(found, self._noted.get(shape, found))

    def failed(self, shape: Hashable, size: int) -> None:
        """Takes note that a stack of so many trials ran out of memory; as many are not tried again."""
        self._failed[shape] = min(size, self._failed.get(shape, size))

    def activations(self, shape: Hashable, extent: float = 1.0) -> float | None:
        """Bytes that an example keeps at most, or None before any was noted.

        Attention may keep a value for each pair of tokens, so what was noted grows with the square of the
        extent, but shrinks in proportion to it: the truth lies below both.
        """
        if shape not in self._noted:
            return None
        noted, each = self._noted[shape]
        ratio = extent / noted
        return each * (ratio * ratio if ratio > 1 else ratio)

    def fits(
        self, shape: Hashable, *, trainable: int, optimizer: str, batch: int, size: int, available: int,
        extent: float = 1.0,
    ) -> bool:  # fmt: skip
        """Whether a stack fits; of a shape that nothing was noted of, only a trial alone is taken to.

        Args:
            shape: Of the stack.
            trainable: Trained elements of one trial.
            optimizer: The hungriest kind among them.
            batch: Examples of one trial in a forward pass.
            size: Trials.
            available: Bytes, see `available`.
            extent: Of the longest examples.
        """
        if size >= self._failed.get(shape, size + 1):
            return False
        each = self.activations(shape, extent)
        if each is None:
            return size == 1
        return need(trainable, optimizer, each, batch, size) <= USABLE * available

    def largest_size(
        self, shape: Hashable, *, trainable: int, optimizer: str, batch: int, cap: int, available: int,
        extent: float = 1.0,
    ) -> int:  # fmt: skip
        """The most trials, of ``cap`` at most, that fit together; at least 1, which is always tried.

        Args:
            shape: As for `fits`, and so are the others.
            trainable: See `fits`.
            optimizer: See `fits`.
            batch: See `fits`.
            cap: The most that are wanted.
            available: See `fits`.
            extent: See `fits`.
        """
        for size in range(cap, 1, -1):
            if self.fits(
                shape, trainable=trainable, optimizer=optimizer, batch=batch, size=size, available=available,
                extent=extent,
            ):  # fmt: skip
                return size
        return 1


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or what it was raised from, says that memory ran out, of whichever device."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        if isinstance(error, RuntimeError) and any(text in str(error).lower() for text in OUT_OF_MEMORY):
            return True
        error = error.__cause__
    return False


def _groups_left(
    groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> Iterator[int]:
    """Bytes left in each limited control group that the process is in; none where there are no groups.

    Args:
        groups: Where they are mounted.
        own: Lists the process's own.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, kinds, path = (*line.split(":", 2), "", "")[:3]
        if number == "0":
            mounts, limit, usage, cached = [groups, groups / "unified"], "memory.max", "memory.current", ""
        elif "memory" in kinds.split(","):
            mounts, cached = [groups / "memory"], "total_"
            limit, usage = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        for mount in mounts:
            # Limits hold for all that is below. Inside a container the path may be one of outside.
            folder = mount / path.lstrip("/")
            for level in [folder, *folder.parents][: len(folder.parts) - len(mount.parts) + 1]:
                total, taken = _number(level / limit), _number(level / usage)
                if total is not None and taken is not None:
                    # The page cache counts as used but is given up on demand.
                    pages = _statistic(level / "memory.stat", f"{cached}inactive_file")
                    yield max(0, total - max(0, taken - pages))


def _number(path: Path) -> int | None:
    """A file's number; None where it is not there or says ``max``."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _statistic(path: Path, name: str) -> int:
    """A named number among others, 0 where it is not there."""
    try:
        pairs = dict(line.split() for line in path.read_text().splitlines())
        return int(pairs[name])
    except (OSError, ValueError, KeyError):
        return 0
