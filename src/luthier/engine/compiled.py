"""Compiling a step while it is being taken thousands of times: only where that is sure to pay."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

# Calls that are timed; the first few are slow for reasons of their own, and the median does not mind them.
MEASURED = 20
# Seconds that compiling takes when nothing is cached.
COLD_SECONDS = 15.0
# Share of a step's time that a compiled one saves at least.
SAVED = 0.3


def has_compiler(device: torch.device) -> bool:
    """Whether torch.compile has what it needs to make code for a device."""
    if device.type == "cuda":
        return importlib.util.find_spec("triton") is not None
    names = (os.environ.get("CXX"), "c++", "g++", "clang++", "clang")
    return device.type == "cpu" and any(name is not None and shutil.which(name) for name in names)


def compile_pays(steps: int, seconds_per_step: float) -> bool:
    """Whether so many more steps repay compiling, judged by how long one takes uncompiled."""
    return steps * seconds_per_step * SAVED > COLD_SECONDS


class CompiledWhenItPays:
    """A function that changes tensors in place, and that is compiled after some calls if that pays.

    Args:
        function: Takes tensors of always the same shapes; returns nothing.
        changed: Names the tensors that it changes and that must not be changed twice; should compiling fail
            halfway, they are put back before the function itself does the step, now and ever after.
        device: Where the tensors are.
        calls: How often it will be called.
    """

    def __init__(
        self, function: Callable[..., None], changed: Callable[[], Sequence[torch.Tensor]],
        device: torch.device, calls: int,
    ) -> None:  # fmt: skip
        self.function: Callable[..., None] = function
        self._plain = function
        self._changed = changed
        self._device = device
        self._left = calls
        self._seconds: list[float] = []
        self._open = True

    def __call__(self, *arguments: Any) -> None:
        """Calls the function, compiled or not."""
        self._left -= 1
        if not self._open:
            self.function(*arguments)
            return
        started = time.perf_counter()
        self.function(*arguments)
        self._seconds.append(time.perf_counter() - started)
        if len(self._seconds) == MEASURED:
            self._open = False
            typical = sorted(self._seconds)[MEASURED // 2]
            if compile_pays(self._left, typical) and has_compiler(self._device):
                self.compile()

    def compile(self) -> None:
        """Compiles at the next call, whether it pays or not."""
        self._open = False
        self.function = self._first

    def _first(self, *arguments: Any) -> None:
        before = [tensor.clone() for tensor in self._changed()]
        try:
            compiled = torch.compile(self._plain, fullgraph=True, dynamic=False)
            compiled(*arguments)
            self.function = compiled
        except Exception:
            # A broken compiler, a disk that is full, a task whose gradient cannot be traced: nothing that a
            # trial should end for, or that its reader could do anything about.
            for tensor, value in zip(self._changed(), before, strict=True):
                tensor.copy_(value)
            self.function = self._plain
            self.function(*arguments)
