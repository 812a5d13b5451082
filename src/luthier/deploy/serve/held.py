"""`Held`: one loaded version of a rollout, with what it was asked and what came of it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from typing import Any, Protocol

from luthier.deploy.serve.base import Answer, Answers, Refused
from luthier.deploy.serve.probation import Counts

OUTCOMES = ("answered", "refused", "failed")
FAULTS = (500, 504)
"""Statuses that are the version's fault, if only for being slow."""


class Loadable(Answers, Protocol):
    """Answers that first have to be loaded."""

    async def ready(self) -> None:
        """Returns once they can be asked; raises where they cannot be loaded."""
        ...


class Meter:
    """Is told what became of requests; all methods return at once. `rollout_metrics` has one that counts."""

    def request(self, version: str, outcome: str) -> None:
        """A request to a version had one of `OUTCOMES`."""

    def forget(self, version: str) -> None:
        """A version is no longer here."""


class Held:
    """A loaded version. Used on the event loop only.

    Args:
        number: Of the version.
        answers: It.
        meter: Is told of requests.

    Attributes:
        counts: Since it got its role; see `begin`.
        charge: The role that it was counted in last, and since when.
        began: `time.monotonic` seconds at which it got that role.
        requests: Since it was loaded.
        errors: The same.
        former: Counts of the version that it relieved; None where it relieved none here.
        relieved: That version's number, or None.
        excused: It is over the limits, and there is nothing to go back to.
    """

    former: Counts | None
    relieved: int | None

    def __init__(self, number: int, answers: Answers, meter: Meter) -> None:
        self.number, self.answers = number, answers
        self.counts, self.former, self.relieved = Counts(), None, None
        self.charge: tuple[str, str] = ("", "")
        self.began = time.monotonic()
        self.excused = False
        self.requests = self.errors = 0
        self._meter = meter
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._open > 0

    def begin(self, charge: tuple[str, str], former: Held | None, ago: float = 0.0) -> None:
        """Counts anew where it has got another role.

        Args:
            charge: The role, and since when.
            former: The version that it relieves.
            ago: Seconds since it got the role.
        """
        if charge != self.charge:
            self.charge = charge
            self.former = former.counts.copy() if former else None
            self.relieved = former.number if former else None
            self.counts, self.excused = Counts(), False
            self.began = time.monotonic() - ago

    async def answer(
        self, inputs: Sequence[Any], request: str, deadline: float | None
    ) -> tuple[list[Answer | Refused], float]:
        """See `Answers.answer`; also the seconds that it took."""
        self._open += 1
        self._idle.clear()
        began, outcome = time.perf_counter(), "failed"
        try:
            found = await self.answers.answer(inputs, request=request, deadline=deadline)
            outcome = _outcome(found)
            return found, time.perf_counter() - began
        except Refused as refused:
            outcome = "failed" if refused.status in FAULTS else "refused"
            raise
        except asyncio.CancelledError:
            outcome = ""
            raise
        finally:
            self._open -= 1
            if not self._open:
                self._idle.set()
            self._count(outcome, time.perf_counter() - began)

    async def close(self) -> None:
        """Answers what it was asked, then lets go of the model."""
        await self._idle.wait()
        await self.answers.close()
        self._meter.forget(str(self.number))

    def _count(self, outcome: str, seconds: float) -> None:
        if not outcome:
            return
        self._meter.request(str(self.number), outcome)
        self.requests += 1
        self.errors += outcome == "failed"
        if outcome == "refused":
            return
        self.counts.requests += 1
        if outcome == "failed":
            self.counts.failed += 1
        else:
            self.counts.seconds.append(seconds)


def drawn(name: str, version: int, request: str, percent: float) -> bool:
    """Whether a request is among a canary's.

    The same request id gives the same answer for as long as the canary keeps its share, and a larger share
    takes in all of a smaller one. Another version meets other requests, so that the risk is not always the
    same clients'.

    Args:
        name: Of the deployment.
        version: The canary.
        request: The request's id.
        percent: The canary's share.
    """
    hashed = hashlib.blake2b(f"{name}/{version}/{request}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(hashed, "big") < percent / 100 * 2**64


def _outcome(found: Sequence[Answer | Refused]) -> str:
    statuses = [one.status for one in found if isinstance(one, Refused)]
    if any(status in FAULTS for status in statuses):
        return "failed"
    return "refused" if statuses and len(statuses) == len(found) else "answered"
