"""Which device to use, and whether mixed precision pays there: measured once, not assumed."""

from __future__ import annotations

import functools
import time
from typing import Literal

import torch

from luthier.engine.forward import mixed
from luthier.errors import SettingError

# Mixed precision must be this much faster to be worth its rounding.
WORTHWHILE = 1.15
# Each way is timed so often, and its shortest time counts: noise on a shared machine only ever adds.
ROUNDS = 8

Auto = Literal["fp32", "bf16"]
"""What the precision ``auto`` can stand for."""


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
    """How many times faster a block-like piece of training runs here under autocast than in float32.

    The two are timed in turn, so that a busy machine slows both.
    """
    with torch.random.fork_rng():
        layer = torch.nn.Sequential(torch.nn.Linear(384, 1536), torch.nn.GELU(), torch.nn.Linear(1536, 384))
        x = torch.randn(128, 384)
    layer, x = layer.to(device), x.to(device)

    def seconds(autocast: torch.dtype | None) -> float:
        start = _now(device)
        with mixed(device, autocast):
            loss = layer(x).float().square().mean()
        loss.backward()
        return _now(device) - start

    pairs = [(seconds(None), seconds(dtype)) for _ in range(ROUNDS)]
    return min(plain for plain, _ in pairs) / min(fast for _, fast in pairs)


def measured(device: torch.device) -> Auto:
    """What a recipe's ``auto`` precision should stand for on a device.

    Two measurements of the same machine may differ, and with them every number of a training. So whoever
    trains measures once, and keeps the answer with what was trained.
    """
    gains = device.type != "mps" and gain(device, torch.bfloat16) >= WORTHWHILE
    return "bf16" if gains else "fp32"


def autocast_dtype(device: torch.device, wanted: str, auto: Auto) -> torch.dtype | None:
    """The autocast type for a recipe's ``precision``, or None for float32.

    Args:
        device: Where to train.
        wanted: The recipe's setting.
        auto: What ``auto`` stands for.

    Raises:
        SettingError: ``fp16`` where it would be emulated (tens of times slower than float32).
    """
    if wanted == "fp16":
        if device.type != "cuda":
            raise SettingError("Precision 'fp16' needs a CUDA GPU.", "Use 'bf16', 'fp32' or 'auto'.")
        return torch.float16
    return torch.bfloat16 if (auto if wanted == "auto" else wanted) == "bf16" else None


def _now(device: torch.device) -> float:
    """The clock, once all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
