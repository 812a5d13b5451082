"""The tables of monitoring: observations, the labels that came later, looks at them, and alarms. What is
written when lives in `records`, `recorder` and `looking`.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text
from sqlalchemy.types import Double

from luthier.study.database import Schema

REVISION = "0001"
"""The newest migration, which these tables equal."""
VERSION_TABLE = "luthier_monitor_version"
"""A name of its own: studies and records may lie in one database."""

_ELSEWHERE = "Name another place with --url, or make this one readable and writable."
_DAMAGED = "The file holds no records, or is damaged: name another, or restore it from a copy."
_HINTS = {
    "disk is full": "The disk is full: free some space; what was recorded before is intact.",
    "no space left": "The disk is full: free some space; what was recorded before is intact.",
    "disk i/o error": "The disk failed to read or write: check its space and health.",
    "readonly": _ELSEWHERE,
    "permission": _ELSEWHERE,
    "unable to open": _ELSEWHERE,
    "refused": "Nothing answers there: start the database, or name another with --url.",
    "locked": "Another process keeps it locked: end it, and try again.",
    "not a database": _DAMAGED,
    "malformed": _DAMAGED,
}
SCHEMA = Schema(REVISION, VERSION_TABLE, Path(__file__).parent / "migrations", _HINTS)


LONGEST_ID = 300
"""Characters of an observation's id: more than a server gives one."""

METADATA = MetaData(
    # Constraints are named, so that a later migration can change them on any database.
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
# SQLite counts up only what it calls INTEGER.
_NUMBER = BigInteger().with_variant(Integer, "sqlite")

OBSERVATIONS = Table(
    "monitor_observations",
    METADATA,
    Column("number", _NUMBER, primary_key=True),
    Column("model", String(200), nullable=False),
    Column("id", String(LONGEST_ID), nullable=False),
    Column("time", Double, nullable=False),
    Column("version", String(200), nullable=False),
    Column("predicted", Text),
    Column("confidence", Double),
    Column("output", LargeBinary, nullable=False),
    Column("features", LargeBinary),
    Column("statistics", Text, nullable=False),
    Column("input", LargeBinary),
    Index("uq_monitor_observations_model_id", "model", "id", unique=True),
    Index("ix_monitor_observations_model_number", "model", "number"),
    Index("ix_monitor_observations_model_time", "model", "time"),
)
"""One answered input a row. ``number`` counts up in the order of writing; arrays and inputs are packed by
`luthier.monitor.packing`; ``predicted`` is the class that was said, NULL where there is no one class."""

LABELS = Table(
    "monitor_labels",
    METADATA,
    Column("model", String(200), primary_key=True),
    Column("id", String(LONGEST_ID), primary_key=True),
    Column("label", Text, nullable=False),
    Column("time", Double, nullable=False),
)
"""What an observation should have said, as a JSON value."""

LOOKS = Table(
    "monitor_looks",
    METADATA,
    Column("number", _NUMBER, primary_key=True),
    Column("model", String(200), nullable=False),
    Column("version", String(200), nullable=False),
    Column("time", Double, nullable=False),
    Column("seen", BigInteger, nullable=False),
    Column("said", Text, nullable=False),
    Index("ix_monitor_looks_model_version", "model", "version", "number"),
)
"""A judgement of the newest observations, as a JSON value; ``seen`` is the number of the newest of them."""

ALARMS = Table(
    "monitor_alarms",
    METADATA,
    Column("number", _NUMBER, primary_key=True),
    Column("model", String(200), nullable=False, index=True),
    Column("version", String(200), nullable=False),
    Column("kind", String(40), nullable=False),
    Column("began", Double, nullable=False),
    Column("ended", Double),
    Column("said", Text, nullable=False),
    Column("told", String(8), nullable=False),
)
"""An alarm: since when, until when, and what was said, as a JSON value. ``told`` is what a webhook was told
of it: nothing, ``began`` or ``ended``."""
