"""The store's tables: runs, their trials, and an epoch's metrics of each. What is written when lives in
`store`.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any

from sqlalchemy import JSON, BigInteger, Dialect, ForeignKey, MetaData, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import DateTime, Double, TypeDecorator

REVISION = "0003"
"""The newest migration, which these tables equal."""
VERSION_TABLE = "luthier_version"
"""Holds the database's revision; a name of our own, since a shared server may hold other programs' tables."""

_FLOAT = "$float"


def _tag(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: str(value)}
    if isinstance(value, dict):
        return {str(key): _tag(item) for key, item in value.items()}
    return [_tag(item) for item in value] if isinstance(value, list | tuple) else value


def _untag(pairs: dict[str, Any]) -> Any:
    return float(pairs[_FLOAT]) if set(pairs) == {_FLOAT} else pairs


class PlainJson(TypeDecorator[Any]):
    """JSON values, with NaN and infinities, which JSON itself lacks, as ``{"$float": "nan"}``."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Tags what JSON cannot say."""
        return _tag(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Gives it back."""
        return None if value is None else json.loads(json.dumps(value), object_hook=_untag)


class Score(TypeDecorator[float]):
    """A float in which NULL is NaN: SQLite stores NaN as NULL, and other databases sort it oddly."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        """NaN becomes NULL."""
        return None if value is None or math.isnan(value) else float(value)

    def process_result_value(self, value: float | None, dialect: Dialect) -> float:
        """NULL becomes NaN."""
        return math.nan if value is None else value


class UtcTime(TypeDecorator[dt.datetime]):
    """A moment in UTC, with its zone again when read from a database that keeps none."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        """Any zone becomes UTC."""
        return None if value is None else value.astimezone(dt.UTC)

    def process_result_value(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        """Zoned as UTC."""
        if value is None or value.tzinfo is not None:
            return value
        return value.replace(tzinfo=dt.UTC)


class Base(DeclarativeBase):
    """All tables; constraints are named, so that a later migration can change them on any database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {dict[str, Any]: PlainJson, dt.datetime: UtcTime, float: Double}  # noqa: RUF012


class RunRow(Base):
    """One run of the tuner."""

    __tablename__ = "runs"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    created: Mapped[dt.datetime] = mapped_column(index=True)
    updated: Mapped[dt.datetime]
    status: Mapped[str] = mapped_column(String(16))
    settings: Mapped[dict[str, Any]]
    seed: Mapped[int] = mapped_column(BigInteger)
    budget: Mapped[float | None]
    spent: Mapped[float]
    task: Mapped[str] = mapped_column(Text)
    data_fingerprint: Mapped[str] = mapped_column(Text)
    folder: Mapped[str] = mapped_column(Text)
    best_trial: Mapped[int | None]
    strategy_state: Mapped[dict[str, Any] | None] = mapped_column(PlainJson(none_as_null=True))
    versions: Mapped[dict[str, Any]]


class TrialRow(Base):
    """One trial of a run. ``resumed_from`` is the epoch at which its latest order took it up: 0 for a fresh
    start. ``parent`` is the trial whose weights it started from, as they were after ``parent_epoch``;
    ``repeats`` the trial whose recipe it trains on another seed.
    """

    __tablename__ = "trials"
    __table_args__ = (UniqueConstraint("run_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    number: Mapped[int]
    recipe: Mapped[dict[str, Any]]
    seed: Mapped[int] = mapped_column(BigInteger)
    until: Mapped[int]
    resumed_from: Mapped[int]
    parent: Mapped[int | None]
    parent_epoch: Mapped[int | None]
    repeats: Mapped[int | None]
    status: Mapped[str] = mapped_column(String(16))
    score: Mapped[float] = mapped_column(Score, nullable=True)
    loss: Mapped[float] = mapped_column(Score, nullable=True)
    best_epoch: Mapped[int | None]
    epochs: Mapped[int]
    seconds: Mapped[float]
    peak_memory: Mapped[int] = mapped_column(BigInteger)
    trainable_parameters: Mapped[int | None] = mapped_column(BigInteger)
    total_parameters: Mapped[int | None] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(Text)
    started: Mapped[dt.datetime]
    ended: Mapped[dt.datetime | None]
    attempts: Mapped[int]


class EpochRow(Base):
    """One epoch of a trial."""

    __tablename__ = "epochs"
    __table_args__ = (UniqueConstraint("trial_id", "epoch"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    trial_id: Mapped[int] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"))
    epoch: Mapped[int]
    score: Mapped[float] = mapped_column(Score, nullable=True)
    metrics: Mapped[dict[str, Any]]
    seconds: Mapped[float]
    peak_memory: Mapped[int] = mapped_column(BigInteger)
