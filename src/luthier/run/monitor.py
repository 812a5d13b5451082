"""`luthier monitor` in Python: looks, the course over the records, the examples behind an alarm, and telling
a webhook. How a look is judged lives in `luthier.monitor`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from luthier.errors import RunError, SettingError
from luthier.monitor import webhook
from luthier.monitor.account import Account, Example, Share
from luthier.monitor.history import Alarm, History
from luthier.monitor.judge import Judge
from luthier.monitor.judgement import Judgement, Reference, Requests, Settings
from luthier.monitor.looking import HARM, look
from luthier.run.watched import Place, Watched, beside, locate, opened

log = logging.getLogger(__name__)

COURSE = 40
"""Windows of the course at most."""
SHOWN = 10
"""Examples behind an alarm."""
FEWEST = 50
"""Requests of the smallest window."""


def settings_of(window: int | None) -> Settings:
    """How windows of so many requests are judged.

    Raises:
        SettingError: The window is too small to say anything.
    """
    if window is None:
        return Settings()
    if window < FEWEST:
        raise SettingError(f"A window of {window} requests says nothing.", f"Give --window {FEWEST} or more.")
    return Settings(short=max(FEWEST, window // 4), long=window)


def monitor(
    named: str | Path,
    *,
    url: str | None = None,
    registry: str | None = None,
    model: str | None = None,
    version: str | None = None,
    window: int | None = None,
    course: bool = False,
    hook: str | None = None,
) -> Account:
    """Looks at what a model was asked and said, once.

    Args:
        named: A run folder, an export, or the name of a deployment.
        url: Where the records are; None: ``records.sqlite`` in that folder.
        registry: The folder of deployments.
        model: Name in the records, where they are of several models.
        version: Of the model; None: of a deployment the one in full charge, else the one seen last.
        window: Requests that are judged; a quarter of them for sudden changes.
        course: Whether successive windows of all records are judged, too.
        hook: URL that is told when an alarm begins or ends.

    Raises:
        LuthierError: There is no such model, no reference, or no records; a setting is wrong.
    """
    return next(
        watch(
            named, url=url, registry=registry, model=model, version=version, window=window, course=course,
            hook=hook, every=0.0,
        )
    )  # fmt: skip


def watch(
    named: str | Path,
    *,
    every: float,
    url: str | None = None,
    registry: str | None = None,
    model: str | None = None,
    version: str | None = None,
    window: int | None = None,
    course: bool = False,
    hook: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Account]:
    """`monitor`, again and again; the arguments are the same.

    Args:
        every: Seconds between two looks; 0 where there is to be one.
        sleep: Waits so many seconds.

    Yields:
        A report each time; where no version was named, of a deployment's canary and shadow, too, once they
        have been asked. Records that are not there, or cannot be read, are said once and tried again.
    """
    settings = settings_of(window)
    locate(named, url=url, registry=registry, version=version)
    if hook is not None:
        webhook.check(hook)
    judges: dict[Path, Judge] = {}

    def report_of(place: Place) -> Account:
        # Never requests to another version than the reference is of.
        with opened(place, model=model, version=version or place.version) as watched:
            if place.reference not in judges:
                judges[place.reference] = Judge(watched.kept.reference, settings)
            report = _report(watched, judges[place.reference], settings, course=course)
            if hook is not None:
                tell(hook, report, History(watched.records))
            return report

    lost = False
    while True:
        try:
            # Each time anew: another version may have been put in charge.
            place = locate(named, url=url, registry=registry, version=version)
            report = report_of(place)
        except RunError as error:
            if not every:
                raise
            # What is not there yet, or any more, may come; whoever watches is to be there then.
            if not lost:
                log.warning("%s Looking is tried again.", error.message)
            lost = True
        else:
            lost = False
            yield report
            for place in [] if version is not None else beside(named, url=url, registry=registry):
                # It may not have been asked yet.
                with contextlib.suppress(RunError):
                    yield report_of(place)
        sleep(every)


def tell(hook: str, report: Account, history: History) -> None:
    """Tells a webhook what it was not told yet of the harm alarms of a version: that one began, or ended.

    An alarm that nobody could be told of is told at the next look, as long as it is on.

    Args:
        hook: The URL.
        report: Of the look that has just been.
        history: Where alarms are kept.
    """
    for alarm in report.alarms:
        news = {"": "began", "began": "ended"}.get(alarm.told, "")
        if alarm.kind != HARM or news != ("began" if alarm.ended is None else "ended"):
            continue
        if history.claim(alarm.number, alarm.told, news) and not webhook.send(hook, message(report, alarm)):
            history.claim(alarm.number, news, alarm.told)


def message(report: Account, alarm: Alarm) -> dict[str, Any]:
    """What a webhook is told: no inputs, which may be personal."""
    looked = report.looked
    said = looked.judgement
    best = said.counted or said.estimate
    fields = ("metric", "value", "interval", "tested")
    return {
        "event": "alarm" if alarm.ended is None else "alarm_ended",
        "alarm": alarm.kind,
        "name": report.name,
        "model": looked.model,
        "version": looked.version,
        "time": _iso(looked.time),
        "began": _iso(alarm.began),
        "by": said.harm_by,
        "estimate": None if best is None else {name: getattr(best, name) for name in fields},
        "requests": said.n,
        "explanation": vars(said.explanation),
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _report(watched: Watched, judge: Judge, settings: Settings, *, course: bool) -> Account:
    records, kept = watched.records, watched.kept
    looked = look(records, kept, watched.model, watched.version, settings=settings, judge=judge)
    said = looked.judgement
    wanted = said.explanation.examples[:SHOWN] if said.harm or said.drifted else []
    alarms = History(records).alarms(watched.model)
    return Account(
        watched.place.name,
        looked,
        kept.about,
        course=windows(judge, looked.requests, settings) if course else [],
        alarms=[alarm for alarm in alarms if alarm.version == watched.version],
        examples=_examples(watched, looked.requests, [str(one) for one in wanted]),
        shares=_shares(kept.reference, looked.requests.newest(settings.long)),
        window=settings.long,
        role=watched.place.role,
    )


def _shares(reference: Reference, requests: Requests) -> list[Share]:
    """How often each class was answered; empty where an input has no one class."""
    if reference.counts is None or not len(requests):
        return []
    answered = np.bincount(np.argmax(requests.outputs, axis=1), minlength=len(reference.classes))
    tested = np.asarray(reference.counts) / max(1, int(np.sum(reference.counts)))
    rows = zip(reference.classes, tested, answered / len(requests), strict=True)
    return [Share(name, float(before), float(now)) for name, before, now in rows]


def windows(judge: Judge, requests: Requests, settings: Settings) -> list[Judgement]:
    """Judgements of successive windows, oldest first, the last one of the newest requests; at most `COURSE`.

    Each is judged by itself, with all that a look may spend: they show the course, and raise no alarm.
    """
    step, count = settings.long, len(requests)
    ends = reversed(range(count, 0, -step)[:COURSE])
    return [judge.judge(requests.at(np.arange(max(0, end - step), end))) for end in ends]


def _examples(watched: Watched, requests: Requests, ids: list[str]) -> list[Example]:
    """Observations by id, with what they were answered and, where it was kept, asked."""
    inputs = watched.records.inputs(watched.model, ids)
    place = {str(one): at for at, one in enumerate(requests.ids)}
    task = watched.kept.task
    return [
        Example(one, _answer(task.decode([requests.outputs[place[one]]])[0]), _shown(inputs.get(one)))
        for one in ids
        if one in place
    ]


def _answer(decoded: dict[str, Any]) -> str:
    """An answer in a few words."""
    said = next(iter(decoded.values()))
    if isinstance(said, float):
        return f"{said:.4g}"
    if isinstance(said, list):
        named = [str(one.get("type", one)) if isinstance(one, dict) else str(one) for one in said]
        return ", ".join(named) or "none"
    sure = decoded.get("confidence")
    return f"{said} ({sure:.2f})" if isinstance(sure, float) else str(said)


def _shown(value: Any) -> str:
    """An input on a line."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"a picture of {len(value):,} bytes"
    return " ".join((value if isinstance(value, str) else " ".join(value)).split())
