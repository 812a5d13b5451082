"""The Pareto front of points: those that no other point beats. What the axes are is the caller's affair."""

from __future__ import annotations

from collections.abc import Sequence


def dominates(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether a point is at least as good as another on every axis, and better on one; higher is better."""
    return all(a >= b for a, b in zip(first, second, strict=True)) and tuple(first) != tuple(second)


def front(points: Sequence[Sequence[float]]) -> list[int]:
    """Positions of the points that no other dominates, in their order; of equal points, all.

    Points are taken best first in lexicographic order. What dominates a point comes before it in that order,
    and if anything dominates it, then so does a member of the front: so each is held against the members
    found so far, and no other (the sorting step of Kung, Luccio & Preparata 1975).

    Args:
        points: (n, axes), finite; higher is better on every axis.
    """
    found: list[int] = []
    for position in sorted(range(len(points)), key=lambda at: tuple(points[at]), reverse=True):
        if not any(dominates(points[member], points[position]) for member in reversed(found)):
            found.append(position)
    return sorted(found)
