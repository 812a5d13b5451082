"""What monitoring says of streams whose truth is known: false alarms, what is found and how soon, estimates.

    make bench-monitor

A row is a question; ROW picks some by name, REPEATS makes each shorter or longer, and what is recorded says
how many there were. The streams are made (`streams`), but for ``sst2-to-trec6``, whose texts lie in ../shared
beside the checkout, or where SHARED says. See docs/monitoring_statistics.md.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import texts
from luthier.monitor.adwin import present
from luthier.monitor.judge import Judge
from luthier.monitor.judgement import Judgement, Settings
from luthier.monitor.priors import priors
from luthier.monitor.views import view
from streams import CLASSES, TOPICS, Rows, Shift, World, joined
from table import merge, row, show

SHARED = Path(os.environ.get("SHARED", Path(__file__).parents[1].parent / "shared"))
REPEATS = float(os.environ.get("REPEATS") or 1)
SETTINGS = Settings()
HELD_OUT = 2000
WORLDS = 4
LOOK = 500
MANY = 20_000
COST = 0.04
CLASS_SHARE = (0.3, 0.175, 0.175, 0.175, 0.175)
UNCHANGED = 1000
MISLEADING = "misleading words, -4 points"

Found = list[dict[str, Any]]


def times(count: int) -> int:
    """How often a row repeats."""
    return max(2, round(count * REPEATS))


@cache
def worlds() -> list[World]:
    """The worlds that rows share."""
    return [World(seed) for seed in range(WORLDS)]


@cache
def costing(world: World, kind: str, points: float) -> Shift:
    """Noise of a kind (``noise`` or ``confusing``) that costs so much accuracy, by bisection."""
    usual = world.right(world.draw(MANY, np.random.default_rng(0)))
    low, high = 0.0, 0.9
    for _ in range(8):
        middle = (low + high) / 2
        lost = usual - world.right(world.draw(MANY, np.random.default_rng(0), Shift(**{kind: middle})))
        low, high = (middle, high) if lost < points else (low, middle)
    return Shift(**{kind: high})


@cache
def harmless(world: World) -> Shift:
    """Two topics become five times as frequent, those whose accuracy is the most like the usual one."""
    best, found = math.inf, Shift()
    usual = world.right(world.draw(MANY, np.random.default_rng(0)))
    alone = [
        world.right(world.draw(MANY // 4, np.random.default_rng(0), Shift(topics=tuple(np.eye(TOPICS)[one]))))
        for one in range(TOPICS)
    ]
    for first in range(TOPICS):
        for second in range(first):
            off = abs((alone[first] + alone[second]) / 2 - usual)
            if off < best:
                shares = np.ones(TOPICS)
                shares[[first, second]] = 5
                best, found = off, Shift(topics=tuple(shares / shares.sum()))
    return found


def looks(
    world: World, rows: Rows, judge: Judge, *, after: int, every: int = LOOK, labels: bool = False
) -> list[Judgement]:
    """Judgements of a stream at every so many requests after the first ``after``."""
    requests = world.requests(rows, labels=labels)
    ends = range(after + every, len(requests) + 1, every)
    return [judge.judge(requests.at(np.arange(max(0, end - 3000), end)), new=every) for end in ends]


def false_alarms() -> Found:
    """How many of 1,000 windows of unchanged requests raise an alarm at any of the looks into them."""
    references, each = max(2, times(20)), 50
    drift, harm = np.zeros(references), np.zeros(references)
    for seed in range(references):
        world, rng = worlds()[seed % WORLDS], np.random.default_rng(1000 + seed)
        judge = Judge(world.reference(HELD_OUT, rng), SETTINGS)
        requests = world.requests(world.draw((each + 1) * SETTINGS.long, rng))
        for number in range(1, each + 1):
            told = [
                judge.judge(requests.at(np.arange(end - SETTINGS.long, end)), new=LOOK)
                for end in (number * SETTINGS.long + 500, (number + 1) * SETTINGS.long)
            ]
            drift[seed] += any(one.drifted for one in told)
            harm[seed] += any(one.harm for one in told)
    windows = references * each
    return [
        row(f"false-alarms: {name} in unchanged windows", 100 * counts.sum() / windows, "% of windows",
            spread=f"{windows} windows of 1,000 requests, looked at twice; {references} references, "
            f"{np.count_nonzero(counts)} of them with any, the worst {100 * counts.max() / each:.0f}%",
            bar="<= 1", met=bool(counts.sum() <= 0.01 * windows))
        for name, counts in (("drift", drift), ("harm", harm))
    ]  # fmt: skip


def first(told: list[Judgement], which: Callable[[Judgement], bool]) -> float:
    """Requests after which it was first said; infinite where it was not."""
    return next((LOOK * (at + 1) for at, one in enumerate(told) if which(one)), math.inf)


def found_within(
    shift: Callable[[World], Shift],
    which: Callable[[Judgement], bool],
    repeats: int,
    *,
    held_out: int = HELD_OUT,
    length: int = 1000,
    labels: bool = False,
    seed: int = 2000,
) -> tuple[np.ndarray, list[list[Judgement]], float]:
    """(repeats,) requests from a shift until it is said, the judgements, and what accuracy it cost."""
    made = {id(world): shift(world) for world in worlds()}
    after, told, lost = [], [], []
    for number in range(repeats):
        world, rng = worlds()[number % WORLDS], np.random.default_rng(seed + number)
        judge = Judge(world.reference(held_out, rng), SETTINGS)
        before, since = world.draw(UNCHANGED, rng), world.draw(length, rng, made[id(world)])
        told.append(looks(world, joined(before, since), judge, after=UNCHANGED, labels=labels))
        after.append(first(told[-1], which))
        lost.append(world.right(world.draw(2000, rng)) - world.right(since))
    return np.array(after), told, float(np.mean(lost))  # fmt: skip


def soon(after: np.ndarray) -> str:
    """How soon it was said, in words."""
    known = after[np.isfinite(after)]
    return f"after {np.median(known):.0f} requests in the median" if len(known) else "never"


def class_share() -> Found:
    """A class goes from 20% to 30% of requests."""
    found = []
    for held_out in (HELD_OUT, 1000, 500):
        repeats = times(100 if held_out == HELD_OUT else 40)
        after, told, _ = found_within(
            lambda _: Shift(shares=CLASS_SHARE), lambda one: one.drifted, repeats, held_out=held_out
        )
        rate = float(np.isfinite(after).mean())
        named = np.mean([looked[-1].explanation.changed_class == CLASSES[0] for looked in told])
        main = held_out == HELD_OUT
        found.append(
            row(f"class-share: 20% to 30%, {held_out} rows held out, found within 1,000 requests",
                100 * rate, "%",
                spread=f"{repeats} repeats, {soon(after)}; the class named in {100 * named:.0f}%",
                bar=">= 95" if main else "", met=rate >= 0.95 if main else None)
        )  # fmt: skip
    return found


def noise() -> Found:
    """Unknown words cost 4 points of accuracy; the same done by known words that mislead."""
    repeats = times(60)
    after, told, lost = found_within(
        lambda world: costing(world, "noise", COST), lambda one: one.harm, repeats, length=1500, seed=3000
    )
    within = float((after <= 1000).mean())
    drifted = np.mean([first(looked, lambda one: one.drifted) <= 1000 for looked in told])
    found = [
        row("noise: 4 points of accuracy lost to unknown words, harm said within 1,000 requests",
            100 * within, "%", spread=f"{repeats} repeats, {soon(after)}, within 1,500 in "
            f"{100 * np.isfinite(after).mean():.0f}%; lost {100 * lost:.1f} points; "
            f"drift in {100 * drifted:.0f}%", bar=">= 90", met=within >= 0.9)
    ]  # fmt: skip
    repeats = times(30)
    after, told, lost = found_within(
        lambda world: costing(world, "confusing", COST), lambda one: one.harm, repeats, seed=3500
    )
    seen = np.mean([looked[-1].estimate.drop for looked in told if looked[-1].estimate])
    found.append(
        row("noise: 4 points lost to misleading words, harm said within 1,000 requests without labels",
            100 * float(np.isfinite(after).mean()), "%",
            spread=f"{repeats} repeats; lost {100 * lost:.1f} points, of which {100 * seen:.1f} are seen")
    )  # fmt: skip
    return found


def other_topics() -> Found:
    """Topics shift, the accuracy stays: drift without harm."""
    repeats = times(60)
    after, told, lost = found_within(harmless, lambda one: one.drifted, repeats, seed=4000)
    drift = float(np.isfinite(after).mean())
    quiet = float(np.mean([not any(one.harm for one in looked) for looked in told]))
    spread = f"{repeats} repeats of two looks; accuracy lost {100 * lost:.1f} points"
    return [
        row("harmless: other topics raise drift within 1,000 requests", 100 * drift, "%",
            spread=f"{spread}; {soon(after)}", bar=">= 90", met=drift >= 0.9),
        row("harmless: other topics raise no harm", 100 * quiet, "%", spread=spread, bar=">= 90",
            met=quiet >= 0.9),
    ]  # fmt: skip


def estimates() -> Found:
    """How far the estimated accuracy is off, and whether its interval holds what labels would show."""
    shifts: dict[str, Callable[[World], Shift]] = {
        "unchanged": lambda _: Shift(),
        "unknown words, -2 points": lambda world: costing(world, "noise", 0.02),
        "unknown words, -4 points": lambda world: costing(world, "noise", 0.04),
        "unknown words, -8 points": lambda world: costing(world, "noise", 0.08),
        MISLEADING: lambda world: costing(world, "confusing", 0.04),
        "shorter texts": lambda _: Shift(length=0.6),
        "longer texts": lambda _: Shift(length=1.5),
        "a class from 20% to 30%": lambda _: Shift(shares=CLASS_SHARE),
        "other topics": harmless,
    }
    repeats, found, all_off = times(40), [], []
    all_held: dict[str, float] = {}
    for name, make in shifts.items():
        made = [make(world) for world in worlds()]
        truth = [
            world.right(world.draw(MANY, np.random.default_rng(1), one))
            for world, one in zip(worlds(), made, strict=True)
        ]
        off, held = [], []
        for number in range(repeats):
            at, rng = number % WORLDS, np.random.default_rng(5000 + number)
            judge = Judge(worlds()[at].reference(HELD_OUT, rng, features=1), SETTINGS)
            rows = worlds()[at].draw(1000, rng, made[at])
            seen = view("class", CLASSES, worlds()[at].outputs(rows))
            told = judge.accuracy.estimate(
                seen.confidence,
                seen.example,
                {"length": rows.length, "unknown": rows.unknown},
                level=0.95,
                alpha=0.01,
            )
            assert told is not None
            off.append(told.value - truth[at])
            held.append(told.interval[0] <= worlds()[at].right(rows) <= told.interval[1])
        all_off.append(np.abs(off).mean())
        all_held[name] = float(np.mean(held))
        found.append(
            row(f"estimate: {name}", 100 * float(np.abs(off).mean()), "points off",
                spread=f"bias {100 * np.mean(off):+.1f}, worst {100 * np.abs(off).max():.1f}; interval of "
                f"labels held in {100 * np.mean(held):.0f}%; {repeats} repeats of 1,000 requests")
        )  # fmt: skip
    held_apart = float(np.mean([rate for name, rate in all_held.items() if name != MISLEADING]))
    return [
        *found,
        row("estimate: mean over all these shifts", 100 * float(np.mean(all_off)), "points off", bar="<= 2",
            met=bool(np.mean(all_off) <= 0.02)),
        row("interval: holds the accuracy that labels show, misleading words apart", 100 * held_apart, "%",
            spread=f"misleading words, which confidence does not show: {100 * all_held[MISLEADING]:.0f}%",
            bar=">= 93", met=held_apart >= 0.93),
    ]  # fmt: skip


def class_priors() -> Found:
    """True class shares from answers: how far off, and whether their intervals hold."""
    repeats, off, held = times(100), [], []
    for number in range(repeats):
        world, rng = worlds()[number % WORLDS], np.random.default_rng(6000 + number)
        reference = world.reference(HELD_OUT, rng, features=1)
        assert reference.confusion is not None
        outputs = world.outputs(world.draw(1000, rng, Shift(shares=CLASS_SHARE)))
        answered = np.bincount(outputs.argmax(axis=1), minlength=len(CLASSES))
        for one, share in zip(priors(reference.confusion, answered, CLASSES), CLASS_SHARE, strict=True):
            off.append(abs(one.share - share))
            held.append(one.interval[0] <= share <= one.interval[1])
    rate = float(np.mean(held))
    return [
        row("priors: 95% intervals of class shares hold them", 100 * rate, "%", bar=">= 92", met=rate >= 0.92,
            spread=f"{repeats} repeats of 1,000 requests; {100 * np.mean(off):.1f} points off on average"),
    ]  # fmt: skip


def labels() -> Found:
    """Labels for all requests: misleading words cost 4 points; ADWIN on the right and wrong of a stream."""
    repeats = times(40)
    after, _, lost = found_within(
        lambda world: costing(world, "confusing", COST), lambda one: one.harm, repeats, length=2000,
        labels=True, seed=7000,
    )  # fmt: skip
    rng = np.random.default_rng(8000)
    repeats_adwin = times(200)
    steady = [
        bool(present((rng.random(4000) < 0.85).astype(float), SETTINGS.alpha)) for _ in range(repeats_adwin)
    ]
    starts = np.array(
        [
            present(np.r_[rng.random(2000) < 0.85, rng.random(1000) < 0.75].astype(float), SETTINGS.alpha)
            for _ in range(repeats_adwin)
        ]
    )
    found = float((starts > 0).mean())
    return [
        row("labels: 4 points lost to misleading words, harm said within 2,000 labels",
            100 * float(np.isfinite(after).mean()), "%",
            spread=f"{repeats} repeats, within 1,000 in {100 * np.mean(after <= 1000):.0f}%; "
            f"lost {100 * lost:.1f} points"),
        row("labels: ADWIN cuts 4,000 answers of one accuracy", 100 * float(np.mean(steady)), "%",
            spread=f"{repeats_adwin} repeats", bar="<= 1", met=float(np.mean(steady)) <= 0.01),
        row("labels: ADWIN finds 85% to 75% right within 1,000 labels", 100 * found, "%",
            spread=f"{repeats_adwin} repeats; begins {np.median(starts[starts > 0] - 2000):+.0f} labels from "
            "the change in the median" if found else ""),
    ]  # fmt: skip


def forms() -> Found:
    """A step and a ramp of noise over 2,000 requests are told apart, and begin when they did."""
    repeats, right, off = times(40), [], []
    for number in range(repeats):
        world, rng = worlds()[number % WORLDS], np.random.default_rng(9000 + number)
        judge = Judge(world.reference(HELD_OUT, rng), SETTINGS)
        levels = [0.25] * 20 if number % 2 else np.linspace(0.0125, 0.25, 20).tolist()
        parts = [world.draw(100, rng, Shift(noise=level)) for level in levels]
        told = judge.judge(world.requests(joined(world.draw(2000, rng), *parts)))
        right.append(told.onset is not None and (told.onset.form == "sudden") == bool(number % 2))
        off.append(math.nan if told.onset is None else abs(told.onset.began - 2000))
    return [
        row("form: step and ramp over 2,000 requests told apart", 100 * float(np.mean(right)), "%",
            spread=f"{repeats} repeats; the beginning is {np.nanmedian(off):.0f} requests off in the median"),
    ]  # fmt: skip


ROWS: dict[str, Callable[[], Found]] = {
    "false-alarms": false_alarms,
    "class-share": class_share,
    "noise": noise,
    "harmless": other_topics,
    "estimate": estimates,
    "priors": class_priors,
    "labels": labels,
    "form": forms,
    "sst2-to-trec6": lambda: texts.sst2_to_trec6(SHARED / "data"),
}


def main() -> None:
    """Measures the rows asked for, and writes each when it is there."""
    wanted = (os.environ.get("ROW") or "").split()
    found: Found = []
    for name, measure in ROWS.items():
        if wanted and name not in wanted:
            continue
        started = time.process_time()
        rows = measure()
        print(f"{name}: {time.process_time() - started:.0f} s of processor time", flush=True)
        merge("monitor", rows)
        found += rows
    show(found)
    if not all(one["met"] in (None, True) for one in found):
        sys.exit("a bar was missed")


if __name__ == "__main__":
    main()
