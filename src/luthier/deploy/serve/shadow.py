"""`Shadow`: asks a version in the background what another was asked, and compares what they say.

One request at a time, when nothing else is being answered or after a while; what does not find room is
dropped and counted. Nobody ever waits for it, and what it says goes nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from luthier.deploy.serve.base import Answer, Answers, Refused

ROOM = 64
"""Inputs that wait to be asked."""
PATIENCE = 0.25
"""Seconds that a waiting request gives way to others: under full load the shadow is asked so often."""
DEADLINE = 10.0
"""Seconds after which its answer is given up."""
STEP = 0.01
"""Seconds between two looks at whether others are being answered."""


@dataclass
class Comparison:
    """What comparing has shown so far.

    Attributes:
        compared: Answers.
        agreed: Those in which both said the same.
        confidence: Sum of the absolute differences of confidence, where answers carry one.
        seconds: Sum over answers of the seconds that the other version's request took.
        shadow_seconds: The same for the shadow.
        dropped: Inputs for which there was no room.
        failed: Inputs that the shadow could not answer, though the other did.
    """

    compared: int = 0
    agreed: int = 0
    confidence: float = 0.0
    seconds: float = 0.0
    shadow_seconds: float = 0.0
    dropped: int = 0
    failed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class Shadow:
    """Compares a version with the one in charge.

    Args:
        answers: The version that is asked.
        busy: Whether others are being answered.
    """

    def __init__(self, answers: Answers, busy: Callable[[], bool]) -> None:
        self.answers = answers
        self.comparison = Comparison()
        self._busy = busy
        self._queue: asyncio.Queue[tuple[Sequence[Any], str, list[Answer | Refused], float]] = asyncio.Queue()
        self._waiting = 0
        self._task = asyncio.ensure_future(self._run())

    def offer(
        self, inputs: Sequence[Any], request: str, said: list[Answer | Refused], seconds: float
    ) -> None:
        """Takes a request that was answered, or drops it.

        Args:
            inputs: Of the request.
            request: Its id.
            said: What the version in charge said.
            seconds: What that took.
        """
        if self._waiting + len(inputs) > ROOM:
            self.comparison.dropped += len(inputs)
            return
        self._waiting += len(inputs)
        self._queue.put_nowait((inputs, request, said, seconds))

    async def close(self) -> None:
        """Lets go of what waits."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            inputs, request, said, seconds = await self._queue.get()
            until = time.monotonic() + PATIENCE
            while self._busy() and time.monotonic() < until:
                await asyncio.sleep(STEP)
            try:
                await self._compare(inputs, request, said, seconds)
            finally:
                self._waiting -= len(inputs)

    async def _compare(
        self, inputs: Sequence[Any], request: str, said: list[Answer | Refused], seconds: float
    ) -> None:
        found, began = self.comparison, time.perf_counter()
        try:
            own = await self.answers.answer(inputs, request=request, deadline=time.monotonic() + DEADLINE)
        except Refused as refused:
            own = [refused] * len(inputs)
        # Whatever a candidate raises, it must not end the comparing.
        except Exception:
            own = [Refused(500, "failed", "Computing the answer failed.")] * len(inputs)
        took = time.perf_counter() - began
        for one, other in zip(said, own, strict=True):
            if isinstance(one, Refused):
                continue
            if isinstance(other, Refused):
                found.failed += 1
                continue
            found.compared += 1
            found.agreed += agree(one.value, other.value)
            found.confidence += abs(confidence(one.value) - confidence(other.value))
            found.seconds += seconds
            found.shadow_seconds += took


def agree(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two decoded answers say the same: the first value of each, numbers to a thousandth, entities
    without their confidence."""
    return _same(_first(one), _first(other))


def confidence(value: dict[str, Any]) -> float:
    """The confidence of a decoded answer; 0 where it carries none."""
    found = value.get("confidence")
    return float(found) if isinstance(found, int | float) and math.isfinite(found) else 0.0


def _first(value: dict[str, Any]) -> Any:
    return next(iter(value.values()), None)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-6)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return {k: v for k, v in one.items() if k != "confidence"} == {
            k: v for k, v in other.items() if k != "confidence"
        }
    return bool(one == other)
