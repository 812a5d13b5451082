"""Linear layers by oneDNN, for networks that only answer.

torch multiplies float32 matrices on a CPU by MKL, which on processors of other makers than its own takes up
to twice as long as oneDNN with weights that are laid out for it once. Which is the faster is timed.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable

import torch
from torch import nn

WORTH = 1.1
"""Times as fast that it has to be."""
ROWS = (8, 32, 256)
"""Of the products that are timed, each of a layer of 384 to 1,536 values, so often as `ROUNDS` says."""
ROUNDS = 7
_prepared: set[tuple[torch.Size, bool, int]] = set()
"""Layers' shapes, whether they have a bias, and rows, of which programs were made: they are the process's."""


def pack(network: nn.Module, rows: int = 0) -> int:
    """Has a network's float32 linear layers on a CPU compute by oneDNN, where that is the faster here; its
    activations, which it keeps programs of, without.

    The layers stay what they are, with their weights and hooks; what is laid out anew takes as much memory
    again. Their weights must not change afterwards, and there are no gradients.

    Args:
        network: In eval mode.
        rows: Programs for up to so many rows are made now, for a network that is going to meet all of them.

    Returns:
        How many linear layers do so now.
    """
    layers = [
        module
        for module in network.modules()
        if type(module) is nn.Linear
        and module.weight.device.type == "cpu"
        and module.weight.dtype == torch.float32
        and "forward" not in vars(module)
    ]
    if not layers or not pays():
        return 0
    for layer in layers:
        layer.forward = _packed(layer)  # type: ignore[method-assign, assignment]
    for module in network.modules():
        if "GELU" in type(module).__name__ and not list(module.children()) and "forward" not in vars(module):
            module.forward = _unpacked(module)
    _prepare(layers, rows)
    return len(layers)


@functools.cache
def pays() -> bool:
    """Whether oneDNN is the faster on this machine, with as many threads as torch has when first asked."""
    known = hasattr(torch.ops.mkldnn, "_linear_pointwise")
    if not (known and torch.backends.mkldnn.is_available()):  # type: ignore[no-untyped-call]
        return False
    layer = nn.Linear(384, 1536)
    other = _packed(layer)
    gains = []
    with torch.inference_mode():
        for rows in ROWS:
            given = torch.ones(rows, 384)
            both = [(_seconds(layer, given), _seconds(other, given)) for _ in range(ROUNDS)]
            gains.append(min(usual for usual, _ in both) / min(packed for _, packed in both))
    return math.prod(gains) >= WORTH ** len(gains)


def _packed(layer: nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    """What a layer computes, by oneDNN."""
    weight = layer.weight.detach().to_mkldnn()
    bias = None if layer.bias is None else layer.bias.detach()

    def forward(given: torch.Tensor) -> torch.Tensor:
        rows = given.reshape(-1, given.shape[-1])
        count = len(rows)
        if more := rounded(count) - count:
            rows = nn.functional.pad(rows, (0, 0, 0, more))
        found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
        return found[:count].reshape(*given.shape[:-1], -1)

    return forward


def _unpacked(activation: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """What an activation computes, not by oneDNN, which would make and keep a program for each shape.

    torch goes there with what lies in the usual order only, so it is given the values in another one.
    """
    usual = activation.forward

    def forward(given: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = usual(given.flatten(0, -2).mT)
        return found.mT.reshape(given.shape)

    return forward


@torch.inference_mode()
def _prepare(layers: list[nn.Linear], rows: int) -> None:
    """Has oneDNN make its programs, the largest first.

    Each stays in the heap, behind what was computed with until then. Made as lengths happen to be met, they
    leave holes there: those of a MiniLM's layers take 75 MiB in this order, and 300 in the opposite one. A
    further network of the same shapes, as in an ensemble or the next version, finds them made.
    """
    counts = sorted({rounded(count) for count in range(1, rows + 1)}, reverse=True)
    shapes = {(layer.weight.shape, layer.bias is None, rows): layer for layer in layers}
    new = [layer for shape, layer in shapes.items() if shape not in _prepared]
    _prepared.update(shapes)
    for count in counts:
        for layer in new:
            layer.forward(torch.zeros(count, layer.in_features))  # past hooks, which are for answers


def rounded(rows: int) -> int:
    """So many rows, or up to an eighth more (or 8): one of 8 numbers between two powers of two.

    oneDNN makes a program for each number of rows and keeps it, in memory that grows with every new one: 1.5
    GiB after 1,600 batches of mixed lengths.
    """
    step = max(8, 1 << max(0, rows.bit_length() - 4))
    return -(-rows // step) * step


def _seconds(compute: Callable[[torch.Tensor], torch.Tensor], given: torch.Tensor) -> float:
    compute(given)
    began = time.perf_counter()
    compute(given)
    return time.perf_counter() - began
