"""Deployments of nothing and services that compute nothing: what a rollout is tested with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier.deploy.opening import Proof
from luthier.deploy.packing import Candidate
from luthier.deploy.serve.base import Answer, Refused, State
from luthier.deploy.serve.probation import Limits, RolloutSettings
from luthier.deploy.serve.rollout import Rollout
from luthier.deploy.state import Role
from luthier.deploy.versions import Deployment

PATIENCE = 30.0
"""Seconds that something may take on a busy machine before it counts as not happening."""
FULL = Role("full")


@dataclass
class Behaviour:
    """How a fake version behaves; may be changed while it runs.

    Attributes:
        load: Seconds that loading takes.
        broken: What loading raises.
        seconds: That an answer takes.
        fails: Whether computing fails.
        says: What it answers; None: the number of its version.
    """

    load: float = 0.0
    broken: Exception | None = None
    seconds: float = 0.0
    fails: bool = False
    says: str | None = None


class FakeService:
    """Answers with its version's number."""

    def __init__(self, version: str, behaviour: Behaviour) -> None:
        self.name, self.version, self.behaviour = "fake", version, behaviour
        self.state: State = "loading"
        self.open = self.answered = 0
        self.closed = False

    @property
    def metadata(self) -> dict[str, Any]:
        return {"name": self.name, "versions": [self.version], "task": "text-classification", "input": "text",
                "labels": ["no", "yes"], "backend": "fake"}  # fmt: skip

    async def ready(self) -> None:
        await asyncio.sleep(self.behaviour.load)
        if self.behaviour.broken is not None:
            self.state = "failed"
            raise self.behaviour.broken
        self.state = "ready"

    async def answer(
        self,
        inputs: Sequence[Any],
        *,
        request: str,
        deadline: float | None = None,
        version: str | None = None,
    ) -> list[Answer | Refused]:
        if self.state != "ready":
            raise Refused(503, self.state, "It cannot be asked.")
        self.open += 1
        try:
            await asyncio.sleep(self.behaviour.seconds)
        finally:
            self.open -= 1
        assert not self.closed, "it was closed before it had answered"
        self.answered += len(inputs)
        if self.behaviour.fails:
            return [Refused(500, "failed", "Computing the answer failed.") for _ in inputs]
        said = self.behaviour.says or self.version
        return [
            Refused(422, "input", "The input is bad.")
            if given == "bad"
            else Answer(f"{request}-{place}", {"label": said, "confidence": 0.5}, self.version)
            for place, given in enumerate(inputs)
        ]

    async def close(self) -> None:
        self.state = "draining"
        while self.open:
            await asyncio.sleep(0.001)
        self.closed = True


@dataclass
class World:
    """A deployment of fake versions, and how each behaves.

    Attributes:
        deployment: The first version is in full charge.
        behaviours: By number.
        services: All that were ever opened, by number.
    """

    deployment: Deployment
    behaviours: dict[int, Behaviour]
    services: dict[int, list[FakeService]] = field(default_factory=dict)

    def open(self, place: Path, version: str) -> FakeService:
        number = int(version)
        assert place == self.deployment.model(number)
        service = FakeService(version, self.behaviours[number])
        self.services.setdefault(number, []).append(service)
        return service

    def rollout(self, *, limits: Limits | None = None, **others: Any) -> Rollout:
        settings = RolloutSettings(poll=0.01, limits=limits or Limits(), alarms=0.0)
        return Rollout(self.deployment, self.open, settings=settings, **others)

    @property
    def loaded(self) -> list[int]:
        """Versions that are loaded and not closed."""
        return sorted(n for n, found in self.services.items() if any(not service.closed for service in found))


def make(folder: Path, count: int = 3) -> World:
    """A deployment of so many versions."""
    deployment = Deployment("reviews", folder / "registry")
    for number in range(1, count + 1):
        model = folder / f"model{number}"
        model.mkdir(parents=True)
        (model / "luthier.json").write_text(str(number))
        deployment.add(
            Candidate(model, str(model)), lambda _: Proof("model", "text-classification", ("no", "yes"))
        )
    return World(deployment, {number: Behaviour() for number in range(1, count + 1)})


def during(
    rollout: Rollout, work: Callable[[Rollout], Coroutine[Any, Any, None]], *, close: bool = True
) -> None:
    """Runs work while a rollout serves."""

    async def run() -> None:
        await rollout.ready()
        try:
            await work(rollout)
        finally:
            if close:
                await rollout.close()

    asyncio.run(run())


async def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.005)


async def ask(rollout: Rollout, request: str = "r", inputs: Sequence[Any] = ("x",), **how: Any) -> str:
    """The version that answered a request's first input."""
    (first, *_) = await rollout.answer(inputs, request=request, **how)
    if isinstance(first, Refused):
        raise first
    return first.version
