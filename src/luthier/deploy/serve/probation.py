"""Whether a version that has just got requests keeps them: its errors and its latency against limits.

Counts and judges; what becomes of the version is `rollout`'s affair.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from luthier.errors import SettingError
from luthier.evaluate.intervals import wilson

log = logging.getLogger("luthier.serve")

Alarms = Callable[[str], Sequence[str]]
"""What monitoring has to complain of at present of a version."""
RECENT = 1000
"""Latencies that are kept of each version, the last ones."""
FEW = 5
"""Fewer errors, or fewer slow answers, say nothing: one hiccup is not a bad version."""
SLOWEST = 0.01
"""The share of requests beyond a 99th percentile."""


@dataclass(frozen=True)
class Limits:
    """What a version on probation has to keep to.

    Attributes:
        seconds: How long a version that took full charge is on probation; a canary is as long as it is one.
        errors: The largest share of its requests that may fail.
        slower: How many times as long as the former version's its 99th percentile may be.
        slack: Seconds that it may be longer by in any case.
        requests: Of the former version and of this one, before their latencies are compared.
    """

    seconds: float = 600.0
    errors: float = 0.02
    slower: float = 2.0
    slack: float = 0.02
    requests: int = 100

    def __post_init__(self) -> None:
        for name, low, high in (("seconds", 0, math.inf), ("errors", 0, 1), ("slower", 1, math.inf)):
            if not low <= getattr(self, name) <= high:
                raise SettingError(
                    f"A probation's {name} cannot be {getattr(self, name)}.", f"Expected {low} to {high}."
                )


@dataclass(frozen=True)
class RolloutSettings:
    """How a rollout goes about it.

    Attributes:
        poll: Seconds between two looks at the state on disk.
        load: Seconds after which a version that is still loading has failed.
        limits: Of probation.
        alarms: Seconds between two questions to monitoring.
    """

    poll: float = 1.0
    load: float = 600.0
    limits: Limits = field(default_factory=Limits)
    alarms: float = 10.0


@dataclass
class Counts:
    """What a version did since it got its role.

    Attributes:
        requests: That it was asked and that were its to answer: all but those that were refused for want of
            room or for what was wrong with them.
        failed: Of these, those in which computing failed or the deadline passed.
        seconds: Of the last requests that were answered.
    """

    requests: int = 0
    failed: int = 0
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    @property
    def share(self) -> float:
        """Of requests that failed."""
        return self.failed / self.requests if self.requests else 0.0

    def percentile(self, share: float = 0.99) -> float:
        """Seconds within which so many of the last requests were answered; NaN where there were none."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan

    def copy(self) -> Counts:
        """As they stand."""
        return Counts(self.requests, self.failed, self.seconds.copy())


def judge(counts: Counts, former: Counts | None, limits: Limits) -> str:
    """Why a version is not to keep its requests; empty where nothing speaks against it.

    A share counts as over its limit where the whole 95% interval (Wilson's) of it lies above, so that a few
    requests decide where nearly all fail, and many are needed where few do.

    Args:
        counts: The version's.
        former: Those of the version that it is compared with; None where there is none.
        limits: See `Limits`.
    """
    allowed = max(limits.errors, former.share if former else 0.0)
    if _beyond(counts.failed, counts.requests, allowed):
        return f"{counts.failed} of {counts.requests} requests failed, more than {allowed:.1%}"
    if former is None or min(len(counts.seconds), len(former.seconds)) < limits.requests:
        return ""
    before = former.percentile()
    longest = limits.slower * before + limits.slack
    slow = sum(seconds > longest for seconds in counts.seconds)
    if _beyond(slow, len(counts.seconds), SLOWEST):
        return (
            f"its 99th percentile of latency is {1000 * counts.percentile():.0f} ms, that of the version"
            f" before {1000 * before:.0f} ms (limit {1000 * longest:.0f} ms)"
        )
    return ""


def _beyond(found: int, of: int, share: float) -> bool:
    return found >= FEW and wilson(found, of)[0] > share


class NewAlarms:
    """What monitoring begins to complain of.

    Args:
        alarms: What it has to complain of at present of a version, a text each that does not name the
            version; called in a thread.
        seconds: Between two questions.
    """

    def __init__(self, alarms: Alarms | None, seconds: float) -> None:
        self._alarms, self._seconds = alarms, seconds
        self._known: dict[int, frozenset[str]] = {}
        self._asked: dict[int, float] = {}

    async def ask(self, version: int, former: int | None = None) -> list[str]:
        """Alarms that have come up for a version; none where it is too early to ask again.

        What was on when it was first asked about is no fault of what it does now, and what was on for the
        version before, too, would not end by going back.

        Args:
            version: Its number.
            former: That of the version that it relieved, or would be relieved by.
        """
        if self._alarms is None or time.monotonic() - self._asked.get(version, -math.inf) < self._seconds:
            return []
        self._asked[version] = time.monotonic()
        try:
            found = list(await asyncio.to_thread(self._alarms, str(version)))
        # Monitoring never stops the serving.
        except Exception:
            log.exception("monitoring cannot be asked for alarms")
            return []
        known = self._known.get(version, frozenset(found)) | self._known.get(former or 0, frozenset())
        self._known[version] = frozenset(found)
        return [alarm for alarm in found if alarm not in known]
