"""One look at the records of a version: judged against its reference, kept, and turned into an alarm that
begins or ends. Who is told of it is not here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from luthier.monitor.history import Alarm, History
from luthier.monitor.judge import Judge
from luthier.monitor.judgement import Judgement, Requests, Settings
from luthier.monitor.records import Records
from luthier.monitor.reference import Kept
from luthier.monitor.requests import requests_of

HARM, DRIFT = "harm", "drift"
KEPT = 20
"""Windows of observations that are read: the older ones say when a change began."""


@dataclass(frozen=True)
class Looked:
    """What one look found.

    Attributes:
        model: Name in the records.
        version: That was looked at.
        time: Seconds since the epoch.
        judgement: Of the newest observations.
        recorded: Observations of this version that are kept.
        labelled: How many of those read have a label.
        new: Observations since the last look.
        harm: Whether the harm alarm is on now.
        began: Seconds since the epoch at which it began; None where it is off.
        turned: ``on`` or ``off`` where this look began or ended it; else empty.
        requests: What was judged, for pictures.
    """

    model: str
    version: str
    time: float
    judgement: Judgement
    recorded: int
    labelled: int
    new: int
    harm: bool
    began: float | None
    turned: str
    requests: Requests = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """JSON values, but for the requests."""
        return {
            "model": self.model,
            "version": self.version,
            "time": self.time,
            "alarm": self.harm,
            "alarm_since": self.began,
            "recorded": self.recorded,
            "labelled": self.labelled,
            "new": self.new,
            **self.judgement.to_json(),
        }


def look(
    records: Records,
    kept: Kept,
    model: str,
    version: str,
    *,
    settings: Settings | None = None,
    judge: Judge | None = None,
    now: float | None = None,
) -> Looked:
    """Judges the newest observations of a version.

    A look spends what came since the last one, requests or labels, whichever are more. While an alarm is on,
    the whole of ``alpha`` is spent at each look: an alarm that was raised is not taken back for having been
    looked at again. It ends at the first look that finds no harm so.

    Args:
        records: Where the observations are; the look is kept there, too.
        kept: The version's reference.
        model: Name in the records.
        version: Of the model.
        settings: How to judge.
        judge: Made from the same reference and settings before, to save what it has computed.
        now: Seconds since the epoch.

    Raises:
        RunError: The records cannot be read or written.
    """
    when = time.time() if now is None else now
    settings = settings or Settings()
    judge = judge or Judge(kept.reference, settings)
    history = History(records)
    seen = records.newest(model, version)
    before = history.looks(model, version)
    last = before[0].seen if before else 0
    new = records.since(model, version, last)
    labels = records.labelled_since(model, version, before[0].time) if before else 0
    recorded = records.latest(model, version=version, most=KEPT * settings.long)
    requests = requests_of(kept.task, kept.reference, recorded)
    on = {alarm.kind: alarm for alarm in open_alarms(history, model, version)}
    judgement = judge.judge(requests, new=None if on or not before else max(new, labels))
    turned = _turn(history, model, version, HARM, judgement.harm, judgement, when, on)
    _turn(history, model, version, DRIFT, judgement.drifted, judgement, when, on)
    began = None if not judgement.harm else (on[HARM].began if HARM in on else when)
    looked = Looked(
        model, version, when, judgement, records.count(model, version), len(recorded.labels), new,
        judgement.harm, began, turned, requests,
    )  # fmt: skip
    history.keep_look(model, version, seen, looked.to_json(), when)
    return looked


def open_alarms(history: History, model: str, version: str | None = None) -> list[Alarm]:
    """The alarms that are on, of one version or of all."""
    return [
        alarm for alarm in history.alarms(model)
        if alarm.ended is None and version in (None, alarm.version)
    ]  # fmt: skip


def _turn(
    history: History, model: str, version: str, kind: str, on: bool, judgement: Judgement, when: float,
    before: dict[str, Alarm],
) -> str:  # fmt: skip
    """Begins or ends an alarm; whether this look did so, and not another at the same time."""
    if on and kind not in before:
        return "on" if history.begin_alarm(model, version, kind, judgement.to_json(), when) else ""
    if not on and kind in before:
        return "off" if history.end_alarm(model, version, kind, when) else ""
    return ""
