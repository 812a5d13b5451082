"""Which of the inputs that wait are computed together."""

from __future__ import annotations

from collections.abc import Sequence

FEWEST = 8
"""Inputs, if there are as many, among which those of like length are looked for."""


def among(waiting: int) -> int:
    """How many of the waiting inputs, the oldest first, the next batch is chosen from.

    The older half: of all of them, short inputs would overtake long ones again and again. A little more would
    be answered, and the slowest hundredth would wait half as long again.
    """
    return max(FEWEST, waiting // 2)


def choose(lengths: Sequence[int], rows: int, tokens: int, spare: float) -> list[int]:
    """Which of the waiting inputs make the next batch.

    The oldest is always among them, so that nobody waits for ever. To it come those of the nearest lengths,
    as long as the padding costs no more than a batch of their own would.

    Args:
        lengths: Of the waiting inputs in tokens, the oldest first; at least one.
        rows: A batch has at most.
        tokens: A batch has at most, padding included; more only where one input alone has more.
        spare: Tokens that could be computed in the time that a further batch costs beyond its tokens.

    Returns:
        Their places, the oldest first.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    low = high = order.index(0)
    longest, waste = lengths[0], 0.0
    while high - low + 1 < rows:
        size = high - low + 1
        below = waste + longest - lengths[order[low - 1]] if low else float("inf")
        above = float("inf")
        if high + 1 < len(order):
            above = waste + size * (lengths[order[high + 1]] - longest)
        cost = min(below, above)
        reach = longest if below <= above else lengths[order[high + 1]]
        if cost > spare or (size + 1) * reach > tokens:
            break
        low, high = (low - 1, high) if below <= above else (low, high + 1)
        longest, waste = reach, cost
    return sorted(order[low : high + 1])
