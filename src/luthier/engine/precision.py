"""Which device to use, and whether mixed precision pays there: measured once, not assumed."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable

import torch

from luthier.errors import SettingError

# Mixed precision must be this much faster to be worth its rounding.
WORTHWHILE = 1.15


def choose_device(wanted: str = "auto") -> torch.device:
    """The device named, or the best one present.

    Raises:
        SettingError: The device is not there.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if present[name]))
    kind = wanted.split(":")[0]
    if not present.get(kind, False):
        here = ", ".join(name for name, there in present.items() if there)
        raise SettingError(
            f"Device {wanted!r} is not available.", f"Available here: {here}; 'auto' picks one."
        )
    return torch.device(wanted)


@functools.cache
def gain(device: torch.device, dtype: torch.dtype) -> float:
    """How many times faster a block-like piece of training runs here under autocast than in float32."""
    with torch.random.fork_rng():
        layer = torch.nn.Sequential(torch.nn.Linear(384, 1536), torch.nn.GELU(), torch.nn.Linear(1536, 384))
        x = torch.randn(128, 384)
    layer, x = layer.to(device), x.to(device)

    def work(context: contextlib.AbstractContextManager[object]) -> None:
        with context:
            loss = layer(x).float().square().mean()
        loss.backward()

    plain = _seconds(lambda: work(contextlib.nullcontext()), device)
    mixed = _seconds(lambda: work(torch.autocast(device.type, dtype)), device)
    return plain / mixed


def autocast_dtype(device: torch.device, wanted: str) -> torch.dtype | None:
    """The autocast type for a recipe's ``precision``, or None for float32.

    Raises:
        SettingError: ``fp16`` where it would be emulated (tens of times slower than float32).
    """
    if wanted == "bf16":
        return torch.bfloat16
    if wanted == "fp16":
        if device.type != "cuda":
            raise SettingError("Precision 'fp16' needs a CUDA GPU.", "Use 'bf16', 'fp32' or 'auto'.")
        return torch.float16
    if wanted == "auto" and device.type != "mps" and gain(device, torch.bfloat16) >= WORTHWHILE:
        return torch.bfloat16
    return None


def _seconds(work: Callable[[], None], device: torch.device) -> float:
    """Best of a few: noise on a shared machine only ever adds."""
    best = float("inf")
    for _ in range(4):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best
