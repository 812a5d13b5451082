"""Which version of a deployment does what, as plain values, and the changes that are allowed.

Touches no file: `luthier.deploy.versions` keeps it on disk.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from luthier.deploy.gate import Facts
from luthier.errors import RunError, SettingError

FORMAT = 1
Charge = Literal["full", "canary", "shadow", "staged"]
Standing = Literal["full", "canary", "shadow", "staged", "former", "failed"]


@dataclass(frozen=True)
class Role:
    """What a version is to do.

    Attributes:
        name: ``full``: answers all requests that no canary takes. ``canary``: answers a share of them.
            ``shadow``: is asked, too, and its answers are compared and dropped. ``staged``: waits.
        percent: Of requests, for a canary; above 0 and below 100.
    """

    name: Charge
    percent: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Role:
        """A role as it is written: ``full``, ``canary:10%``, ``shadow`` or ``staged``.

        Raises:
            SettingError: It is none of these.
        """
        name, _, share = str(text).strip().partition(":")
        if name == "canary":
            return cls("canary", _percent(text, share))
        if name not in get_args(Charge) or share:
            raise SettingError(
                f"{text!r} is not what a version can be.",
                "Known: full, canary:10% (any share), shadow, staged.",
            )
        return cls(name)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"canary:{self.percent:g}%" if self.name == "canary" else self.name


@dataclass(frozen=True)
class Version:
    """One deployed model.

    Attributes:
        number: 1 for the first one; none is given twice.
        digest: sha256 over the content of its model folder.
        deployed: When, in UTC, as ISO 8601 has it.
        source: Where it was copied from.
        kind: ``model``, ``ensemble`` or ``export``.
        bytes: Size of its model folder.
        facts: What the gate goes by.
        failed: Why it is not to be used; empty where it may be.
    """

    number: int
    digest: str
    deployed: str
    source: str
    kind: str
    bytes: int
    facts: Facts
    failed: str = ""


@dataclass(frozen=True)
class Event:
    """One change.

    Attributes:
        time: When, in UTC, as ISO 8601 has it.
        action: ``deploy``, ``promote``, ``rollback``, ``fail`` or ``prune``.
        version: The one that it was about.
        role: What that version became.
        reason: Why, where somebody or something said so.
    """

    time: str
    action: str
    version: int
    role: str
    reason: str = ""


@dataclass(frozen=True)
class Canary:
    """A version that answers a share of the requests.

    Attributes:
        version: Its number.
        percent: The share.
        since: When it got it.
    """

    version: int
    percent: float
    since: str


@dataclass(frozen=True)
class DeploymentState:
    """Everything that is known of a deployment. Each change gives a new state and leaves the old one.

    Attributes:
        revision: Grows by one with each change.
        versions: By number.
        line: Versions that were in full charge and may be again, the one that is last. Rolling back drops
            the last.
        since: When that one took charge.
        canary: The version that answers a share, or None.
        shadow: The version whose answers are only compared, or None.
        next: Number of the next version.
        history: All changes, the oldest first.
    """

    revision: int = 0
    versions: Mapping[int, Version] = field(default_factory=dict)
    line: tuple[int, ...] = ()
    since: str = ""
    canary: Canary | None = None
    shadow: int | None = None
    next: int = 1
    history: tuple[Event, ...] = ()

    @property
    def full(self) -> int:
        """The version in full charge.

        Raises:
            RunError: Nothing is deployed yet.
        """
        if not self.line:
            raise RunError("Nothing is deployed yet.", "Deploy a model with: luthier deploy RUN --to NAME")
        return self.line[-1]

    @property
    def in_use(self) -> set[int]:
        """Versions that a server has to have, and the one that a rollback would go back to."""
        asked = {self.shadow, self.canary.version if self.canary else None}
        return {*self.line[-2:], *(number for number in asked if number is not None)}

    def standing(self, number: int) -> Standing:
        """What a version is at present."""
        if self.line and number == self.line[-1]:
            return "full"
        if self.canary and number == self.canary.version:
            return "canary"
        if number == self.shadow:
            return "shadow"
        if self.versions[number].failed:
            return "failed"
        return "former" if number in self.line else "staged"

    def role(self, number: int) -> str:
        """`standing`, with the share of a canary."""
        standing = self.standing(number)
        return str(Role("canary", self.canary.percent)) if self.canary and standing == "canary" else standing

    def known(self, number: int) -> Version:
        """A version by its number.

        Raises:
            SettingError: There is no such version.
        """
        if number not in self.versions:
            there = ", ".join(map(str, sorted(self.versions))) or "none"
            raise SettingError(f"There is no version {number}.", f"Versions that are there: {there}.")
        return self.versions[number]

    def find(self, digest: str) -> Version | None:
        """The version with a content, the latest where several have it."""
        return next((v for _, v in sorted(self.versions.items(), reverse=True) if v.digest == digest), None)

    # -- changes ----------------------------------------------------------------------------

    def add(self, version: Version, role: Role, *, reason: str = "", time: str = "") -> DeploymentState:
        """With a further version; the first one is in full charge whatever its role."""
        time = time or now()
        role = role if self.line else Role("full")
        state = replace(
            self, versions={**self.versions, version.number: version}, next=version.number + 1
        )._charged(version.number, role, time)
        return state._told(Event(time, "deploy", version.number, str(role), reason))

    def promote(
        self, number: int, role: Role, *, force: bool = False, reason: str = "", time: str = ""
    ) -> DeploymentState:
        """With another role for a version; the same state where it has that role already.

        Args:
            number: The version.
            role: What it is to be.
            force: Takes a version that has failed all the same.
            reason: For the history.
            time: When; empty: now.

        Raises:
            SettingError: There is no such version, it has failed, or it is the one in full charge, which
                another version has to relieve.
        """
        version, time = self.known(number), time or now()
        idle = self.standing(number) in ("staged", "former", "failed")
        if self.role(number) == str(role) or (role.name == "staged" and idle):
            return self
        if version.failed and role.name != "staged" and not force:
            raise SettingError(
                f"Version {number} has failed: {version.failed}", "Give --force to try it all the same."
            )
        if number == self.full:
            raise SettingError(
                f"Version {number} is in full charge and cannot become {role}.",
                "Put another in full charge first: luthier promote NAME VERSION, or luthier rollback NAME",
            )
        state = self
        if version.failed and role.name != "staged":
            state = replace(self, versions={**self.versions, number: replace(version, failed="")})
        return state._charged(number, role, time)._told(Event(time, "promote", number, str(role), reason))

    def rollback(self, to: int | None = None, *, reason: str = "", time: str = "") -> DeploymentState:
        """Back to what was good: without a canary, where one is running, otherwise to the version that was in
        full charge before.

        Args:
            to: Puts this version in full charge instead, and ends a canary, too.
            reason: For the history.
            time: When; empty: now.

        Raises:
            SettingError: There is nothing to go back to, no such version, or it has failed.
        """
        time = time or now()
        if to is None and self.canary is not None:
            ended = replace(self, canary=None)
            return ended._told(Event(time, "rollback", self.canary.version, "staged", reason))
        if to is None:
            if len(self.line) < 2:
                raise SettingError(
                    f"No version was in full charge before version {self.full}.",
                    "Name one with --to, or deploy another.",
                )
            to = self.line[-2]
        version = self.known(to)
        if version.failed:
            raise SettingError(f"Version {to} has failed: {version.failed}", "Name another with --to.")
        if to == self.full:
            if self.canary is None:
                return self
            return replace(self, canary=None)._told(Event(time, "rollback", to, "full", reason))
        line = self.line[: self.line.index(to) + 1] if to in self.line else (*self.line[:-1], to)
        shadow = None if self.shadow == to else self.shadow
        state = replace(self, line=line, since=time, canary=None, shadow=shadow)
        return state._told(Event(time, "rollback", to, "full", reason))

    def fail(self, number: int, reason: str, *, time: str = "") -> DeploymentState:
        """With a version that is not to be used: whatever it did ends, and where it was in full charge the
        one before it takes over. One that nothing can relieve stays as it is."""
        version, time = self.known(number), time or now()
        if version.failed or self.line == (number,):
            return self
        line = tuple(other for other in self.line if other != number)
        state = replace(
            self,
            versions={**self.versions, number: replace(version, failed=reason)},
            line=line,
            canary=None if self.canary and self.canary.version == number else self.canary,
            shadow=None if self.shadow == number else self.shadow,
        )
        state = state._told(Event(time, "fail", number, "failed", reason))
        if number != self.full:
            return state
        state = state._charged(line[-1], Role("full"), time)
        return state._told(Event(time, "rollback", line[-1], "full", f"version {number} failed"))

    def prune(self, keep: int, *, time: str = "") -> tuple[DeploymentState, list[int]]:
        """Without old versions, and their numbers: the last ``keep`` stay, and those in use."""
        last = sorted(self.versions)[-keep:] if keep else []
        gone = sorted(set(self.versions) - set(last) - self.in_use)
        if not gone:
            return self, []
        time = time or now()
        state = replace(
            self,
            versions={number: v for number, v in self.versions.items() if number not in gone},
            line=tuple(number for number in self.line if number not in gone),
        )
        for number in gone:
            state = state._told(Event(time, "prune", number, "removed"))
        return state, gone

    def _charged(self, number: int, role: Role, time: str) -> DeploymentState:
        """With a version in a role, and out of the one it had."""
        canary = None if self.canary and self.canary.version == number else self.canary
        shadow = None if self.shadow == number else self.shadow
        line, since = self.line, self.since
        if role.name == "full":
            line, since = (*(other for other in line if other != number), number), time
        elif role.name == "canary":
            canary = Canary(number, role.percent, time)
        elif role.name == "shadow":
            shadow = number
        return replace(self, line=line, since=since, canary=canary, shadow=shadow)

    def _told(self, event: Event) -> DeploymentState:
        return replace(self, revision=self.revision + 1, history=(*self.history, event))

    # -- JSON -------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``full`` is there for whoever else reads them."""
        return {
            "format": FORMAT,
            "full": self.line[-1] if self.line else None,
            **asdict(replace(self, versions={})),
            "versions": [asdict(version) for _, version in sorted(self.versions.items())],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DeploymentState:
        """The state that `to_json` gave.

        Raises:
            RunError: It is of another format, or says what cannot be.
        """
        try:
            if values["format"] != FORMAT:
                raise RunError(
                    f"The state is of format {values['format']!r}; this version reads {FORMAT}.",
                    "Upgrade Luthier.",
                )
            given = {name: values[name] for name in ("revision", "since", "shadow", "next")}
            versions = [
                Version(**{**row, "facts": Facts.from_json(row["facts"])}) for row in values["versions"]
            ]
            state = cls(
                **given,
                versions={version.number: version for version in versions},
                line=tuple(values["line"]),
                canary=None if values["canary"] is None else Canary(**values["canary"]),
                history=tuple(Event(**row) for row in values["history"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(f"The state is damaged: {error!r}.") from None
        if lost := sorted(({*state.line} | state.in_use) - set(state.versions)):
            raise RunError(f"The state is damaged: it puts version {lost[0]} in charge, which is not there.")
        return state


def now() -> str:
    """The time in UTC, as ISO 8601 has it, to the millisecond."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _percent(text: str, share: str) -> float:
    try:
        percent = float(share.strip().removesuffix("%"))
    except ValueError:
        percent = math.nan
    # Written so that a NaN is refused, too.
    if not 0 < percent < 100:
        raise SettingError(
            f"{text!r} has no share of requests above 0% and below 100%.",
            "For example: canary:10%. All of them is: full.",
        )
    return percent
