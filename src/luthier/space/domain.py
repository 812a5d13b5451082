"""What one setting is drawn from: a `Number` range or a `Choice` of values, each with its prior, as a
quantile function.

Nothing here knows recipes, names or conditions.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

SPREAD = 0.2
"""Standard deviation of a number's prior, as a share of its range (in the log scale where the range is one).
"""
UNIFORM_SHARE = 0.25
"""Share of all draws that ignore the prior. Where the belief is wrong, the density anywhere in the range is
still at least this times the uniform one, so a search needs at most 1 / UNIFORM_SHARE times as many draws as
one without the belief."""

_BISECTIONS = 60


def _normal_cdf(z: float) -> float:
    return 0.5 * (1.0 + math.erf(z / math.sqrt(2.0)))


def tidy(value: float) -> float:
    """Six significant digits: what a person reads in a table is what was trained."""
    return float(f"{value:.6g}")


@dataclass(frozen=True)
class Number:
    """A range of numbers, uniform in its scale or around a centre.

    With ``t`` in [0, 1] the position between the ends (of the logarithms where ``log``), ``m`` the centre's
    position, ``s`` = `SPREAD`, ``w`` = `UNIFORM_SHARE` and ``N`` the normal distribution function, the
    distribution function is::

        F(t) = w t + (1 - w) (N((t - m) / s) - N(-m / s)) / (N((1 - m) / s) - N(-m / s))

    a normal truncated to the range, mixed with a uniform; ``F(t) = t`` without a prior. `quantile` inverts it
    by bisection, which is safe because F' >= w > 0. An integer range is this over [low - 1/2, high + 1/2],
    rounded.

    Attributes:
        low: Smallest value, inclusive.
        high: Largest value, inclusive.
        integer: Whether values are whole numbers.
        log: Whether the scale is logarithmic; needs low > 0.
        prior: Centre of belief, or None.
        steps: How many values a grid takes, or None: every integer, and no grid over a continuous range.
    """

    low: float
    high: float
    integer: bool = False
    log: bool = False
    prior: float | None = None
    steps: int | None = None

    @property
    def varies(self) -> bool:
        """Always True: a range has more than one value."""
        return True

    @property
    def discrete(self) -> bool:
        """Whether values can be listed."""
        return self.integer

    @cached_property
    def _ends(self) -> tuple[float, float]:
        half = 0.5 if self.integer else 0.0
        low, high = self.low - half, self.high + half
        return (math.log(low), math.log(high)) if self.log else (low, high)

    def _position(self, value: float) -> float:
        low, high = self._ends
        scaled = math.log(value) if self.log else value
        return min(max((scaled - low) / (high - low), 0.0), 1.0)

    def _value(self, position: float) -> float:
        low, high = self._ends
        scaled = low + position * (high - low)
        return self._clip(math.exp(scaled) if self.log else scaled)

    def _clip(self, value: float) -> float:
        if self.integer:
            return int(min(max(round(value), self.low), self.high))
        return min(max(tidy(value), self.low), self.high)

    @cached_property
    def _normal(self) -> tuple[float, float, float] | None:
        """Centre's position, mass below the range, and mass inside it."""
        if self.prior is None:
            return None
        centre = self._position(self.prior)
        below = _normal_cdf(-centre / SPREAD)
        return centre, below, _normal_cdf((1.0 - centre) / SPREAD) - below

    def _distribution(self, position: float) -> float:
        if self._normal is None:
            return position
        centre, below, inside = self._normal
        belief = (_normal_cdf((position - centre) / SPREAD) - below) / inside
        return UNIFORM_SHARE * position + (1.0 - UNIFORM_SHARE) * belief

    def quantile(self, u: float) -> float:
        """The value below which a share ``u`` of all draws lies."""
        if self._normal is None:
            return self._value(u)
        low, high = 0.0, 1.0
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2.0
            if self._distribution(middle) < u:
                low = middle
            else:
                high = middle
        return self._value((low + high) / 2.0)

    def _edges(self, value: float) -> tuple[float, float]:
        return self._distribution(self._position(value - 0.5)), self._distribution(
            self._position(value + 0.5)
        )

    def unit(self, value: float) -> float:
        """Where in [0, 1] ``value`` lies: ``quantile(unit(value)) == value``."""
        if self.integer:
            return sum(self._edges(value)) / 2.0
        return self._distribution(self._position(value))

    def mass(self, value: float) -> float:
        """Probability of one integer."""
        below, above = self._edges(value)
        return above - below

    @property
    def default(self) -> float:
        """The centre of belief, or of the range in its scale."""
        return self._value(0.5) if self.prior is None else self._clip(self.prior)

    def contains(self, value: Any) -> bool:
        """Whether ``value`` is a number in the range."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def listed(self) -> Sequence[float]:
        """Every integer of the range."""
        return range(int(self.low), int(self.high) + 1)

    def grid(self, resolution: int | None = None) -> Sequence[float]:
        """Values of a grid: ``steps`` (or ``resolution``) equally spaced ones; every integer; empty where it
        is open.
        """
        steps = self.steps if self.steps is not None else resolution
        if steps is None or (self.integer and steps > self.high - self.low):
            return self.listed() if self.integer else []
        if steps == 1:
            return [self.default]
        ends = [math.log(end) if self.log else end for end in (self.low, self.high)]
        scaled = [ends[0] + (ends[1] - ends[0]) * step / (steps - 1) for step in range(steps)]
        return list(dict.fromkeys(self._clip(math.exp(point) if self.log else point) for point in scaled))


@dataclass(frozen=True)
class Choice:
    """Values without an order, with the probability of each; a single one is a constant.

    Attributes:
        values: What can be chosen.
        weights: Probabilities, positive, one a value, adding up to one.
    """

    values: tuple[Any, ...]
    weights: tuple[float, ...]

    @property
    def varies(self) -> bool:
        """Whether there is more than one value."""
        return len(self.values) > 1

    @property
    def discrete(self) -> bool:
        """Always True: values are listed."""
        return True

    @cached_property
    def _sums(self) -> list[float]:
        sums = [0.0]
        for weight in self.weights:
            sums.append(sums[-1] + weight)
        return sums

    def quantile(self, u: float) -> Any:
        """The value whose slice of [0, 1] holds ``u``; slices are as wide as the weights."""
        return self.values[min(bisect_right(self._sums, u) - 1, len(self.values) - 1)]

    def unit(self, value: Any) -> float:
        """The middle of the value's slice."""
        at = self.values.index(value)
        return (self._sums[at] + self._sums[at + 1]) / 2.0

    def mass(self, value: Any) -> float:
        """Probability of a value."""
        return self.weights[self.values.index(value)]

    @property
    def default(self) -> Any:
        """The most probable value; the first of equals."""
        return self.values[self.weights.index(max(self.weights))]

    def contains(self, value: Any) -> bool:
        """Whether ``value`` is one of the values."""
        return value in self.values

    def listed(self) -> Sequence[Any]:
        """All values."""
        return self.values

    def grid(self, resolution: int | None = None) -> Sequence[Any]:
        """All values, whatever the resolution."""
        return self.values


Domain = Number | Choice
