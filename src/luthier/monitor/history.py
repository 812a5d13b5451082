"""`History`: the looks at a model, and the alarms that came of them, in the database of its records. Judging
is not here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, insert, select, update

from luthier.monitor.opened import Opened
from luthier.monitor.tables import ALARMS, LOOKS

LOOKED = 1000
"""Looks at a version that are kept."""


@dataclass(frozen=True)
class Alarm:
    """An alarm that was told of.

    Attributes:
        number: Its number.
        version: Of the model that it is about.
        kind: Such as ``harm``.
        began: Seconds since the epoch.
        ended: When it ended; None while it is on.
        said: The judgement that raised it, as JSON values.
        told: What a webhook was told of it: nothing, ``began`` or ``ended``.
    """

    number: int
    version: str
    kind: str
    began: float
    ended: float | None
    said: dict[str, Any]
    told: str = ""


@dataclass(frozen=True)
class Look:
    """A look at the newest observations of a version.

    Attributes:
        version: That was looked at.
        time: Seconds since the epoch.
        seen: Number of the newest observation.
        said: The judgement, as JSON values.
    """

    version: str
    time: float
    seen: int
    said: dict[str, Any]


class History:
    """Looks and alarms in an opened database. Errors are those of `Opened`."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    # -- looks -----------------------------------------------------------------------------------------------

    def keep_look(self, model: str, version: str, seen: int, said: Mapping[str, Any], when: float) -> None:
        """Keeps what a look said; of each version the latest `LOOKED` stay."""
        looks = LOOKS.c
        own = (looks.model == model) & (looks.version == version)
        values = {"model": model, "version": version, "time": when, "seen": seen}
        with self._opened.writing() as connection:
            connection.execute(insert(LOOKS), [values | {"said": json.dumps(said)}])
            over = select(looks.number).where(own).order_by(looks.number.desc()).offset(LOOKED).limit(1)
            if (last := connection.execute(over).scalar()) is not None:
                connection.execute(delete(LOOKS).where(own, looks.number <= last))

    def looks(self, model: str, version: str | None = None, *, most: int = 1) -> list[Look]:
        """The latest looks at a model, or at one version of it, the latest first."""
        query = select(LOOKS).where(LOOKS.c.model == model)
        if version is not None:
            query = query.where(LOOKS.c.version == version)
        query = query.order_by(LOOKS.c.number.desc()).limit(most)
        with self._opened.reading() as connection:
            return [
                Look(row.version, row.time, int(row.seen), json.loads(row.said))
                for row in connection.execute(query)
            ]

    # -- alarms ----------------------------------------------------------------------------------------------

    def alarms(self, model: str, *, most: int = 100) -> list[Alarm]:
        """A model's alarms, the latest first."""
        query = select(ALARMS).where(ALARMS.c.model == model).order_by(ALARMS.c.number.desc()).limit(most)
        with self._opened.reading() as connection:
            return [
                Alarm(row.number, row.version, row.kind, row.began, row.ended, json.loads(row.said), row.told)
                for row in connection.execute(query)
            ]

    def begin_alarm(self, model: str, version: str, kind: str, said: Mapping[str, Any], when: float) -> bool:
        """Keeps that an alarm is on.

        Returns:
            Whether it was not on before: of several who look at the same time, one is told so.
        """
        with self._opened.writing() as connection:
            if self._opened.engine.dialect.name == "postgresql":
                connection.exec_driver_sql("LOCK TABLE monitor_alarms IN EXCLUSIVE MODE")
            if connection.execute(self._on(model, version, kind)).first() is not None:
                return False
            values = {"model": model, "version": version, "kind": kind, "began": when, "told": ""}
            connection.execute(insert(ALARMS), [values | {"said": json.dumps(said, ensure_ascii=False)}])
        return True

    def end_alarm(self, model: str, version: str, kind: str, when: float) -> bool:
        """Keeps that an alarm is over.

        Returns:
            Whether it was on.
        """
        with self._opened.writing() as connection:
            found = connection.scalars(self._on(model, version, kind).with_for_update()).all()
            if not found:
                return False
            ended = update(ALARMS).where(ALARMS.c.number.in_(found), ALARMS.c.ended.is_(None))
            return connection.execute(ended.values(ended=when)).rowcount > 0

    def claim(self, number: int, before: str, after: str) -> bool:
        """Keeps what a webhook is told of an alarm, before it is told.

        Args:
            number: The alarm's.
            before: What it was told until now; see `Alarm.told`.
            after: What it is told now; or what it was told before, where telling failed.

        Returns:
            Whether this call changed it: of several who would tell, one does.
        """
        own = update(ALARMS).where(ALARMS.c.number == number, ALARMS.c.told == before)
        with self._opened.writing() as connection:
            return connection.execute(own.values(told=after)).rowcount > 0

    def _on(self, model: str, version: str, kind: str) -> Select[Any]:
        own = (ALARMS.c.model == model) & (ALARMS.c.version == version) & (ALARMS.c.kind == kind)
        return select(ALARMS.c.number).where(own, ALARMS.c.ended.is_(None))
