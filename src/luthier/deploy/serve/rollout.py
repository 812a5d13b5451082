"""`Rollout`: the versions of a deployment behind the `Answers` contract: full charge, canary, shadow.

Follows the state on disk (`target`), loads beside what runs, and goes back by itself. When a version is bad
is `probation`'s affair, and how one model is loaded `service`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from luthier.deploy.counted import Counted
from luthier.deploy.serve.base import Answer, Refused, State
from luthier.deploy.serve.held import Held, Loadable, Meter
from luthier.deploy.serve.probation import Alarms, NewAlarms, RolloutSettings, judge
from luthier.deploy.serve.roles import Roles
from luthier.deploy.serve.shadow import Shadow
from luthier.deploy.serve.target import Charge, Target, charge_of
from luthier.deploy.versions import Deployment
from luthier.errors import LuthierError, MissingExtra, ModelError, SettingError

log = logging.getLogger("luthier.serve")

NOT_ITS_FAULT = (MissingExtra, SettingError)
"""What this server lacks or was told wrongly says nothing of a version."""
WRITE = 5.0
"""Seconds between two writings of what was counted."""

Open = Callable[[Path, str], Loadable]
"""From a model folder and the name of its version to answers that are not yet loaded."""


class Rollout:
    """Answers with the versions of a deployment, as its state says.

    Args:
        deployment: It.
        open_version: Makes the answers of one version.
        settings: See there.
        meter: Is told of requests by version.
        alarms: What monitoring has to complain of at present of a version, a text each that does not name
            the version; called in a thread. One that comes up during a probation ends it.
    """

    def __init__(
        self,
        deployment: Deployment,
        open_version: Open,
        *,
        settings: RolloutSettings | None = None,
        meter: Meter | None = None,
        alarms: Alarms | None = None,
    ) -> None:
        self.name = deployment.name
        self.deployment = deployment
        self.settings = settings or RolloutSettings()
        self._open_version = open_version
        self._meter = meter or Meter()
        self._alarms = NewAlarms(alarms, self.settings.alarms)
        self._status: State = "loading"
        self._target = Target(deployment)
        self._given_up: dict[int, int] = {}
        self._bringing: asyncio.Task[None] | None = None
        self._coming = 0
        self._held: dict[int, Held] = {}
        self._gone: dict[int, tuple[int, int]] = {}
        self._roles: Roles | None = None
        # Asked for with each request, and the same until roles change.
        self._about: dict[str, Any] = {"name": self.name, "versions": []}
        self._shadow: tuple[int, Shadow] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._counted = Counted(deployment.serving)
        self._written = 0.0

    # -- the contract -----------------------------------------------------------------------

    @property
    def state(self) -> State:
        """See `luthier.deploy.serve.base.Answers`."""
        return self._status

    @property
    def metadata(self) -> dict[str, Any]:
        """See `luthier.deploy.serve.base.Answers`; that of the version in full charge, and all that can be
        asked."""
        return self._about

    async def ready(self) -> None:
        """Loads the version in full charge, or the last good one before it where it cannot be loaded, and
        begins to follow the state.

        Raises:
            LuthierError: There is no deployment, or none of these can be loaded.
        """
        await self._target.read()
        while self._roles is None:
            number = self._target.wanted.full
            try:
                self._held[number] = await self._load(number)
            except NOT_ITS_FAULT:
                self._status = "failed"
                raise
            except Exception as error:
                await self._fail(number, _reason(error))
                if self._target.wanted.full == number:
                    self._status = "failed"
                    raise (
                        error
                        if isinstance(error, LuthierError)
                        else ModelError(f"Version {number} of {self.name!r} cannot be loaded: {error!r}.")
                    ) from error
                continue
            self._assume()
        self._status = "ready"
        self._tasks = [asyncio.ensure_future(self._follow()), asyncio.ensure_future(self._watch())]

    async def answer(
        self,
        inputs: Sequence[Any],
        *,
        request: str,
        deadline: float | None = None,
        version: str | None = None,
    ) -> list[Answer | Refused]:
        """See `luthier.deploy.serve.base.Answers`."""
        roles = self._roles
        if self._status != "ready" or roles is None:
            said = {"loading": "The model is being loaded.", "draining": "The server is about to stop."}
            raise Refused(503, self._status, said.get(self._status, "No version could be loaded."), 1.0)
        chosen = roles.choose(self.name, request, version)
        found, seconds = await chosen.answer(inputs, request, deadline)
        if self._shadow is not None and chosen is roles.full and self._shadow[0] != chosen.number:
            self._shadow[1].offer(inputs, request, found, seconds)
        return found

    async def close(self) -> None:
        """See `luthier.deploy.serve.base.Answers`."""
        if self._status in ("loading", "ready"):
            self._status = "draining"
        tasks = [*self._tasks, *([self._bringing] if self._bringing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._shadow is not None:
            await self._shadow[1].close()
        # Versions that have failed are told to others before this server is gone.
        await self._target.write()
        await self._write_counts()
        held, self._held = list(self._held.values()), {}
        await asyncio.gather(*(one.close() for one in held), *self._leaving, return_exceptions=True)

    # -- who answers ------------------------------------------------------------------------

    def _assume(self) -> None:
        """Gives roles to the versions that are loaded, as the state has it, and lets the others go."""
        state, before = self._target.wanted, self._roles
        full = self._held.get(state.full) or (before and before.full)
        if not full:
            return
        relieved = before.full if before is not None and before.full is not full else None
        canary = None if state.canary is None else self._held.get(state.canary.version)
        shadow = None if state.shadow is None else self._held.get(state.shadow)
        if full.number == state.full:
            # Where the server has just started, the probation goes on; otherwise it begins now, however long
            # loading took.
            ago = _ago(state.since) if before is None else 0.0
            full.begin(("full", state.since), relieved, ago)
        if canary is not None and state.canary is not None:
            canary.begin(("canary", state.canary.since), None)
        self._roles = Roles(full, canary, state.canary.percent if state.canary else 0.0, shadow)
        self._about = {**full.answers.metadata, "name": self.name, "versions": list(self._roles.here)}
        if relieved is not None:
            log.info("%s: version %d is in full charge, after %d", self.name, full.number, relieved.number)
        self._set_shadow(shadow)
        # As long as there may be a way back, it takes no time: the version before stays loaded.
        kept = {state.full, *(held.number for held in self._roles.here.values())}
        kept |= state.in_use if self._on_probation(full) else set()
        for number in [number for number in self._held if number not in kept]:
            self._background(self._let_go(self._held.pop(number)))

    def _set_shadow(self, shadow: Held | None) -> None:
        if self._shadow is not None and (shadow is None or shadow.number != self._shadow[0]):
            self._background(self._shadow[1].close())
            self._shadow = None
        if shadow is not None and self._shadow is None:
            self._shadow = (shadow.number, Shadow(shadow.answers, self._busy))

    def _busy(self) -> bool:
        return self._roles is not None and self._roles.busy

    async def _let_go(self, held: Held) -> None:
        log.info("%s: version %d answers what it accepted and ends", self.name, held.number)
        await held.close()
        requests, errors = self._gone.get(held.number, (0, 0))
        self._gone[held.number] = requests + held.requests, errors + held.errors

    def _background(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(_logged(work))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _on_probation(self, held: Held) -> bool:
        return held.charge[0] == "canary" or time.monotonic() - held.began < self.settings.limits.seconds

    # -- following --------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Looks at the state again and again, and brings here what it asks for."""
        while True:
            await asyncio.sleep(self.settings.poll)
            try:
                if await self._target.look():
                    self._assume()
                self._hurry()
            # Whatever goes wrong in following, what runs goes on running.
            except Exception:
                log.exception("%s: the deployment's state cannot be followed", self.name)

    def _hurry(self) -> None:
        """Has loaded what is asked for. Loading takes long: what is no longer wanted, or less than something
        else, such as the version to go back to, is given up for it."""
        missing = self._missing()
        if self._bringing is not None and not self._bringing.done():
            if missing[:1] == [self._coming]:
                return
            self._bringing.cancel()
        if missing:
            self._bringing = asyncio.ensure_future(_logged(self._bring()))

    async def _bring(self) -> None:
        """Loads what is asked for and not here, the most important first."""
        while missing := self._missing():
            self._coming = number = missing[0]
            try:
                held = await self._load(number)
            except NOT_ITS_FAULT as error:
                self._given_up[number] = self._target.disk.revision
                log.error("%s: version %d cannot be loaded here: %s", self.name, number, _reason(error))
                continue
            except Exception as error:
                self._given_up[number] = self._target.disk.revision
                await self._fail(number, _reason(error))
                continue
            self._held[number] = held
            self._assume()

    def _missing(self) -> list[int]:
        state = self._target.wanted
        asked = [state.full, state.canary.version if state.canary else None, state.shadow]
        return [
            number
            for number in asked
            if number is not None
            and number not in self._held
            and self._given_up.get(number) != self._target.disk.revision
        ]

    async def _load(self, number: int) -> Held:
        """A version, loaded and warmed up in a thread of its own beside what runs.

        Raises:
            Exception: Whatever its loading raises.
        """
        await asyncio.to_thread(self.deployment.check, number)
        answers = self._open_version(self.deployment.model(number), str(number))
        try:
            await asyncio.wait_for(answers.ready(), self.settings.load)
        except BaseException as error:
            self._background(answers.close())
            if isinstance(error, TimeoutError):
                raise ModelError(f"Loading it took longer than {self.settings.load:g} seconds.") from None
            raise
        return Held(number, answers, self._meter)

    # -- going back -------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Judges versions on probation, and has written down what was counted."""
        while True:
            await asyncio.sleep(self.settings.poll)
            try:
                await self._judge()
                await self._write()
                if time.monotonic() - self._written > WRITE:
                    await self._write_counts()
            except Exception:
                log.exception("%s: a version on probation cannot be judged", self.name)

    async def _judge(self) -> None:
        self._assume()
        roles = self._roles
        if roles is None:
            return
        full, canary, limits = roles.full, roles.canary, self.settings.limits
        alarms = await self._alarms.ask(full.number, full.relieved)
        if canary is not None:
            reason = judge(canary.counts, full.counts, limits)
            reason = reason or "; ".join(await self._alarms.ask(canary.number, full.number))
            if reason:
                await self._fail(canary.number, reason, canary.charge)
        if self._on_probation(full) and not full.excused:
            reason = judge(full.counts, full.former, limits) or "; ".join(alarms)
            if reason:
                await self._fail(full.number, reason, full.charge)

    async def _fail(self, number: int, reason: str, charge: Charge | None = None) -> None:
        """Has a version out of charge, here at once and on disk for all.

        Args:
            number: The version.
            reason: Why.
            charge: The role that it failed in: where it has another meanwhile, nothing happens. None: any.
        """
        if charge is not None and charge_of(self._target.wanted, number) != charge:
            return
        log.error("%s: version %d has failed: %s", self.name, number, reason)
        if self._target.wanted.line == (number,):
            # There is nothing to go back to: bad answers are better than none, and the log has said it.
            if number in self._held:
                self._held[number].excused = True
            return
        self._target.fail(number, reason, charge)
        self._assume()
        await self._write()

    async def _write(self) -> None:
        if await self._target.write():
            self._assume()

    # -- telling ----------------------------------------------------------------------------

    def gauges(self) -> dict[str, float]:
        """Who is in charge and what comparing has shown, by name, as `Metrics.add` takes it."""
        roles = self._roles
        if roles is None:
            return {}
        found = roles.gauges()
        if self._shadow is not None:
            comparison = self._shadow[1].comparison
            found |= {f"shadow_{name}": float(value) for name, value in comparison.to_json().items()}
        return found

    async def _write_counts(self) -> None:
        """What was counted since the start, for `luthier deployments`."""
        self._written = time.monotonic()
        total = dict(self._gone)
        for held in self._held.values():
            requests, errors = total.get(held.number, (0, 0))
            total[held.number] = requests + held.requests, errors + held.errors
        values: dict[str, Any] = {
            "versions": {str(n): {"requests": r, "errors": e} for n, (r, e) in sorted(total.items())}
        }
        if self._shadow is not None:
            values["shadow"] = {"version": self._shadow[0], **self._shadow[1].comparison.to_json()}
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._counted.write, values)


def _ago(since: str) -> float:
    began = datetime.datetime.fromisoformat(since)
    return (datetime.datetime.now(datetime.UTC) - began).total_seconds()


def _reason(error: BaseException) -> str:
    if isinstance(error, LuthierError):
        return error.message
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


async def _logged(work: Awaitable[None]) -> None:
    try:
        await work
    except Exception:
        log.exception("a version did not end as it should")
