"""`Target`: what a deployment's state asks of a server: as it is on disk, less what has failed here.

Reads and writes in threads, so that a slow disk holds up nobody. Nothing is loaded here.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from luthier.deploy.state import DeploymentState
from luthier.deploy.versions import Deployment
from luthier.errors import LuthierError

log = logging.getLogger("luthier.serve")

Charge = tuple[str, str]
"""A role, and since when."""


class Target:
    """The state that a server of a deployment strives for. Used on the event loop.

    Args:
        deployment: It.

    Attributes:
        disk: The state as it was last read or written.
    """

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.disk = DeploymentState()
        self._stamp: tuple[int, int, int] | None = None
        self._bad: dict[int, tuple[str, Charge | None]] = {}

    @property
    def wanted(self) -> DeploymentState:
        """The state on disk, without the versions whose failing could not be written down yet."""
        state = self.disk
        for number, (reason, charge) in self._bad.items():
            state = _failed(number, reason, charge, state)
        return state

    async def read(self) -> None:
        """Reads the state for the first time.

        Raises:
            RunError: There is none, or it is damaged.
        """
        self._stamp = self.deployment.stamp
        self.disk = await asyncio.to_thread(lambda: self.deployment.state)

    async def look(self) -> bool:
        """Whether the state has changed; a damaged one is reported and left aside."""
        stamp = await asyncio.to_thread(lambda: self.deployment.stamp)
        if stamp is None or stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            return self._newer(await asyncio.to_thread(lambda: self.deployment.state))
        except LuthierError as error:
            log.error("%s: %s", self.deployment.name, error.message)
            return False

    def fail(self, number: int, reason: str, charge: Charge | None = None) -> None:
        """Takes a version out of `wanted`; `write` has it on disk.

        Args:
            number: The version.
            reason: Why.
            charge: The role that it failed in: where it has another, nothing happens. None: any.
        """
        self._bad[number] = reason, charge

    async def write(self) -> bool:
        """Writes down what has failed and is not written yet; whether there was anything.

        Several servers may find the same: the first one to write it has written it for all.
        """
        written = False
        for number, (reason, charge) in list(self._bad.items()):
            try:
                how = partial(_failed, number, reason, charge)
                self._newer(await asyncio.to_thread(self.deployment.change, how))
            except LuthierError as error:
                log.error(
                    "%s: that version %d failed cannot be written: %s",
                    self.deployment.name, number, error.message,
                )  # fmt: skip
                continue
            self._bad.pop(number, None)
            written = True
        return written

    def _newer(self, state: DeploymentState) -> bool:
        if state.revision <= self.disk.revision:
            return False
        self.disk = state
        return True


def charge_of(state: DeploymentState, number: int) -> Charge:
    """A version's role as its requests are counted by, and since when."""
    if state.canary is not None and state.canary.version == number:
        return "canary", state.canary.since
    return ("full", state.since) if number == state.full else ("", "")


def _failed(number: int, reason: str, charge: Charge | None, state: DeploymentState) -> DeploymentState:
    if number not in state.versions or (charge is not None and charge_of(state, number) != charge):
        return state
    return state.fail(number, reason)
