"""`Records`: observations and labels in SQLite, or in another database by URL. Who writes, when, and what is
made of it, is not here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Select, delete, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from luthier.errors import RunError, SettingError
from luthier.monitor.observation import Observation
from luthier.monitor.opened import Opened
from luthier.monitor.packing import pack, pack_input, pack_output, unpack, unpack_input
from luthier.monitor.tables import LABELS, LONGEST_ID, OBSERVATIONS

STEP = 1000
"""Rows that are deleted in one transaction: writers wait no longer than for that."""
_SEEN, _TOLD = OBSERVATIONS.c, LABELS.c
_ASKED = 500  # ids in one question: SQLite takes 999 parameters at least

Row = dict[str, Any]


@dataclass(frozen=True)
class Recorded:
    """Observations of one model, oldest first.

    Attributes:
        ids: What labels are matched by.
        times: (n,) seconds since the epoch.
        versions: Of the models that answered.
        outputs: As `luthier.tasks.base.Task.outputs` cuts them, in float32.
        features: Of each, (d,) or None.
        statistics: Numbers by name of each input.
        labels: JSON values by id, of those that have one.
    """

    ids: list[str]
    times: np.ndarray
    versions: list[str]
    outputs: list[np.ndarray]
    features: list[np.ndarray | None]
    statistics: list[dict[str, float]]
    labels: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


def row_of(model: str, one: Observation, *, keep_input: bool) -> Row:
    """An observation as the table keeps it."""
    said, sure = one.answer.get("label"), one.answer.get("confidence")
    statistics = {str(name): float(value) for name, value in one.statistics.items()}
    return {
        "model": _storable(model)[:200],
        "id": _storable(one.id)[:LONGEST_ID],
        "time": float(one.time),
        "version": _storable(one.version)[:200],
        "predicted": _storable(said) if isinstance(said, str) else None,
        "confidence": float(sure) if isinstance(sure, int | float) else None,
        "output": pack_output(one.output),
        "features": None if one.features is None else pack(one.features, half=True),
        "statistics": json.dumps(statistics),
        "input": pack_input(one.input) if keep_input else None,
    }


def _storable(text: str) -> str:
    """A text that databases take: without null characters and halves of surrogate pairs."""
    return str(text).encode("utf-8", "replace").decode().replace("\0", "")


class Records(Opened):
    """The observations and labels in one database; see `Opened`."""

    # -- observations ----------------------------------------------------------------------------------------

    def add(self, rows: Sequence[Row]) -> int:
        """Writes what `row_of` gave, all or nothing.

        One whose id the model has already is left out: a client that asks again under the same id is
        answered the same.

        Returns:
            How many were new.
        """
        if not rows:
            return 0
        make = postgresql.insert if self.engine.dialect.name == "postgresql" else sqlite.insert
        # The count that drivers give of many rows at once is not to be relied on.
        new = make(OBSERVATIONS).on_conflict_do_nothing().returning(OBSERVATIONS.c.number)
        with self.writing() as connection:
            return len(connection.execute(new, list(rows)).all())

    def models(self) -> list[str]:
        """Names of the models that have observations."""
        with self.reading() as connection:
            return sorted(connection.scalars(select(_SEEN.model).distinct()))

    def model(self, wanted: str | None) -> str:
        """The model that is meant: the one that is wanted, or the only one.

        Raises:
            RunError: There is none of that name, or none at all.
            SettingError: There are several, and none is wanted.
        """
        names = self.models()
        known = ", ".join(names[:8])
        if not names:
            raise RunError(f"{self.location!r} has no observations yet.", "Serve the model with --record.")
        if wanted is None and len(names) > 1:
            raise SettingError(
                f"{self.location!r} has records of several models: {known}.", "Say which with --model."
            )
        if wanted is not None and wanted not in names:
            raise RunError(f"{self.location!r} has no records of {wanted!r}.", f"It has those of: {known}.")
        return wanted or names[0]

    def count(self, model: str, version: str | None = None) -> int:
        """How many observations a model, or one version of it, has."""
        query = select(func.count()).select_from(OBSERVATIONS).where(_SEEN.model == model)
        if version is not None:
            query = query.where(_SEEN.version == version)
        with self.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def versions(self, model: str) -> dict[str, int]:
        """How many observations each version of a model has, the latest seen last."""
        query = (
            select(_SEEN.version, func.count())
            .where(_SEEN.model == model)
            .group_by(_SEEN.version)
            .order_by(func.max(_SEEN.number))
        )
        with self.reading() as connection:
            return {version: int(count) for version, count in connection.execute(query)}

    def newest(self, model: str, version: str) -> int:
        """Number of the newest observation of a version; 0 where there is none."""
        query = select(func.max(_SEEN.number)).where(_SEEN.model == model, _SEEN.version == version)
        with self.reading() as connection:
            return int(connection.execute(query).scalar() or 0)

    def since(self, model: str, version: str, number: int) -> int:
        """How many observations of a version are newer than the one of a number."""
        query = (
            select(func.count())
            .select_from(OBSERVATIONS)
            .where(_SEEN.model == model, _SEEN.version == version, _SEEN.number > number)
        )
        with self.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def labelled_since(self, model: str, version: str, when: float) -> int:
        """How many observations of a version got a label, or another one, after a moment."""
        query = (
            select(func.count())
            .select_from(LABELS)
            .join(OBSERVATIONS, (_SEEN.model == _TOLD.model) & (_SEEN.id == _TOLD.id))
            .where(_TOLD.model == model, _TOLD.time > when, _SEEN.version == version)
        )
        with self.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def latest(
        self, model: str, *, version: str | None = None, most: int | None = None, since: float | None = None
    ) -> Recorded:
        """The latest observations of a model, oldest first, with their labels.

        Args:
            model: Its name.
            version: Only those of this version.
            most: At most so many.
            since: Only those that were answered at this time or later, in seconds since the epoch.
        """
        columns = ("id", "time", "version", "output", "features", "statistics")
        query = select(*(_SEEN[name] for name in columns), _TOLD.label)
        query = query.outerjoin(LABELS, (_TOLD.model == _SEEN.model) & (_TOLD.id == _SEEN.id)).where(
            _SEEN.model == model
        )
        if version is not None:
            query = query.where(_SEEN.version == version)
        if since is not None:
            query = query.where(_SEEN.time >= since)
        # By number, not by time: clocks of several servers differ, and one may be set back.
        query = query.order_by(_SEEN.number.desc())
        if most is not None:
            query = query.limit(most)
        return self._recorded(query)

    def _recorded(self, query: Select[Any]) -> Recorded:
        with self.reading() as connection:
            rows = connection.execute(query).all()[::-1]
        return Recorded(
            [row.id for row in rows],
            np.array([row.time for row in rows], dtype=np.float64),
            [row.version for row in rows],
            [unpack(row.output) for row in rows],
            [None if row.features is None else unpack(row.features) for row in rows],
            [json.loads(row.statistics) for row in rows],
            {row.id: json.loads(row.label) for row in rows if row.label is not None},
        )

    def inputs(self, model: str, ids: Sequence[str]) -> dict[str, Any]:
        """The inputs by id, of those whose input was kept."""
        found: dict[str, Any] = {}
        with self.reading() as connection:
            for part in _parts(list(ids)):
                query = select(_SEEN.id, _SEEN.input).where(_SEEN.model == model, _SEEN.id.in_(part))
                found |= {row.id: unpack_input(row.input) for row in connection.execute(query)}
        return {one: value for one, value in found.items() if value is not None}

    def retain(self, model: str, *, age: float | None, count: int | None, now: float | None = None) -> int:
        """Deletes the oldest observations that are beyond an age or a number, with their labels, at most
        `STEP` of them.

        Args:
            model: Its name.
            age: Seconds that an observation is kept; None for ever.
            count: Observations that are kept; None for all.
            now: Seconds since the epoch.

        Returns:
            How many were deleted; `STEP` where there may be more.
        """
        number, own = _SEEN.number, _SEEN.model == model
        with self.reading() as connection:
            doomed: list[int] = []
            if age is not None:
                limit = (time.time() if now is None else now) - age
                old = select(number).where(own, _SEEN.time < limit).order_by(number).limit(STEP)
                doomed = list(connection.scalars(old))
            if count is not None and len(doomed) < STEP:
                over = select(number).where(own).order_by(number.desc()).offset(count).limit(1)
                if (last := connection.execute(over).scalar()) is not None:
                    query = select(number).where(own, number <= last).order_by(number).limit(STEP)
                    doomed = sorted({*doomed, *connection.scalars(query)})[:STEP]
        if not doomed:
            return 0
        with self.writing() as connection:
            for part in _parts(doomed):
                gone = select(_SEEN.id).where(_SEEN.number.in_(part))
                connection.execute(delete(LABELS).where(_TOLD.model == model, _TOLD.id.in_(gone)))
                connection.execute(delete(OBSERVATIONS).where(_SEEN.number.in_(part)))
        return len(doomed)

    # -- labels ----------------------------------------------------------------------------------------------

    def known(self, model: str, ids: Sequence[str]) -> set[str]:
        """Those of some ids that the model has observations of."""
        found: set[str] = set()
        with self.reading() as connection:
            for part in _parts(list(ids)):
                query = select(_SEEN.id).where(_SEEN.model == model, _SEEN.id.in_(part))
                found |= set(connection.scalars(query))
        return found

    def label(self, model: str, labels: Mapping[str, Any], *, now: float | None = None) -> tuple[int, int]:
        """Keeps labels, all or nothing; one that is sent again replaces the former one.

        Args:
            model: Its name.
            labels: JSON values by id.
            now: Seconds since the epoch.

        Returns:
            How many are new, and how many replace one that said something else.
        """
        when = time.time() if now is None else now
        values = {one: json.dumps(value, ensure_ascii=False) for one, value in labels.items()}
        new = changed = 0
        with self.writing() as connection:
            for part in _parts(list(values)):
                query = select(_TOLD.id, _TOLD.label).where(_TOLD.model == model, _TOLD.id.in_(part))
                before = {row.id: row.label for row in connection.execute(query)}
                other = [one for one in part if before.get(one) != values[one]]
                new += len(part) - len(before)
                changed += sum(one in before for one in other)
                connection.execute(delete(LABELS).where(_TOLD.model == model, _TOLD.id.in_(other)))
                rows = [{"model": model, "id": one, "label": values[one], "time": when} for one in other]
                if rows:
                    connection.execute(insert(LABELS), rows)
        return new, changed


def _parts(values: Sequence[Any]) -> Iterator[list[Any]]:
    """Values in lists that one question can ask for."""
    for start in range(0, len(values), _ASKED):
        yield list(values[start : start + _ASKED])
