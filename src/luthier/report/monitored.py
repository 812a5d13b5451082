"""What a look at the records found, in sentences: shared by the command line and the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from luthier.monitor.account import Account
from luthier.monitor.judgement import Drift, Estimate, Judgement
from luthier.report import words

NAMED = 3
"""Comparisons that a sentence names."""
WHAT = {
    "classes": "the classes answered",
    "confidence": "the confidence",
    "output": "the output",
    "features": "what the head reads",
    "statistic": "the input's",
}


def headline(account: Account) -> str:
    """Whether it hurts, in one sentence."""
    said = account.looked.judgement
    best = said.counted or said.estimate
    if account.looked.harm:
        by = "by labels" if said.harm_by == "labels" else "as estimated without labels"
        return f"HARM: {metric(best)} is below what was tested, {by}" if best else "HARM"
    if not said.n:
        return "no requests to judge"
    if best is None:
        changed = "the requests have changed" if said.drifted else "no change in the requests"
        return f"{changed}; whether that hurts cannot be said without labels"
    return f"no harm: {metric(best)} is not clearly below what was tested" + (
        ", though the requests have changed" if said.drifted else ""
    )


def lines(account: Account) -> list[str]:
    """All that is to be said, the headline first, a line each."""
    looked, said = account.looked, account.looked.judgement
    found = [headline(account), f"requests: {span(said)} of {_version(account)}; {_kept(account)}"]
    if looked.began is not None:
        found.append(f"alarm: on since {moment(looked.began)}")
    if said.counted is not None:
        found.append(f"by labels: {estimate(said.counted)}")
    if said.estimate is not None:
        found.append(f"without labels: {estimate(said.estimate)}")
    found.append(f"change: {change(said)}")
    found += [f"  {sentence}" for sentence in why(said)]
    for one in account.examples:
        found.append(f"  {one.id}: {one.answer}{f', {words.cut(one.input, 80)}' if one.input else ''}")
    return found + [f"note: {note}" for note in said.notes]


def _version(account: Account) -> str:
    named = f"version {account.looked.version}"
    return f"{named} ({account.role})" if account.role else named


def metric(one: Estimate) -> str:
    """The metric with its value."""
    return f"{one.metric} {words.number(one.value)}"


def estimate(one: Estimate) -> str:
    """A value with its interval beside the tested one."""
    return (
        f"{metric(one)} (95% interval {words.between(one.interval)}), tested {words.number(one.tested)} "
        f"({words.between(one.tested_interval)}); from {words.count(one.n, 'request')}, {one.method}"
    )


def change(said: Judgement) -> str:
    """What changed, the clearest first, and since when."""
    drifted = [one for one in said.drifts if one.drifted]
    if not said.drifts:
        return "not looked for"
    if not drifted:
        return f"none is clear, in {words.count(len(said.drifts), 'comparison')}"
    seen: dict[str, Drift] = {}
    for one in drifted:
        seen.setdefault(compared(one), one)
    named = list(seen)[:NAMED]
    more = f" and {len(seen) - NAMED} more" if len(seen) > NAMED else ""
    since = ""
    if said.onset is not None:
        form = "at once" if said.onset.form == "sudden" else "slowly"
        when = "before the oldest request kept" if said.onset.before else moment(said.onset.began)
        since = f"; it began {form}, {when}" if said.onset.before else f"; it began {form} at {when}"
    return f"{', '.join(named)}{more}{since}"


def compared(one: Drift) -> str:
    """What a comparison is of."""
    return f"{WHAT[one.of]} {one.name}".strip()


def why(said: Judgement) -> list[str]:
    """The explanation, in sentences."""
    told = said.explanation
    found = []
    if told.changed_class and all(map(math.isfinite, told.change)):
        before, now = told.change
        shares = f"{words.share(before)} of the test rows, {words.share(now)} now"
        found.append(f"class {told.changed_class}: {shares}")
    if told.statistic:
        found.append(f"the most telling: {told.statistic}")
    if told.slice:
        found.append(f"where it falls the most: {told.slice}")
    if said.break_ is not None:
        one = said.break_
        values = f"from {words.number(one.before)} to {words.number(one.after)}"
        found.append(f"labels changed at {moment(one.time)}: {values}")
    return found


def span(said: Judgement) -> str:
    """How many requests, from when to when."""
    if not said.n:
        return "none"
    return f"the newest {said.n:,}, {moment(said.start)} to {moment(said.end)}"


def moment(seconds: float) -> str:
    """A time in UTC, to the minute."""
    if not math.isfinite(seconds):
        return words.UNKNOWN
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _kept(account: Account) -> str:
    looked = account.looked
    labels = f"{looked.labelled:,} of them with labels"
    return f"{looked.recorded:,} kept, {labels}, {looked.new:,} since the last look"


def worst(drifts: Sequence[Drift]) -> float:
    """The smallest corrected p value; 1 where nothing was compared."""
    return min((one.corrected for one in drifts), default=1.0)
