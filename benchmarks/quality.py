"""How good the model is after five minutes: ours against what people use today, with the same weights, the
same rows and the same two cores (`contenders`).

A row is a contender on a dataset. All are given the rows that Luthier trains and chooses on, and answer the
same test rows, of which only the inputs are given away. A peer's row says what we gain over it on these rows,
with the paired bootstrap interval; a dataset's ``ensemble`` is what combining the trials of our run gained
over its best one.

ROW picks datasets or contenders (trec6, cifar10/sklearn), all if it is not given; SEEDS is how often each is
run, once if it is not given. BUDGET makes the time shorter, to see that it works; nothing is recorded then.
What each answered is kept in ``results/quality`` by budget, so that rows can be run alone. Data and the image
model lie in ../shared beside the checkout, or where SHARED says.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import contenders
import table
from luthier.evaluate.combined import Combined
from luthier.evaluate.intervals import Interval, metric_intervals, paired_difference
from luthier.run.duration import parse_budget
from outside.environment import Unavailable

SHARED = Path(os.environ.get("SHARED", Path(__file__).parents[1].parent / "shared"))
TEXTS, IMAGES = ("trec6", "sst2", "banking77"), ("cifar10",)
# SetFit tunes sentence encoders; why AutoGluon has no images is said in its script.
PEERS = dict.fromkeys(TEXTS, ("setfit", "sklearn", "trainer", "autogluon")) | dict.fromkeys(
    IMAGES, ("sklearn", "trainer")
)
MODELS = dict.fromkeys(TEXTS, "minilm") | dict.fromkeys(
    IMAGES, str(SHARED / "models" / "mobilenet_v2_1.0_224")
)
TITLES = {
    "setfit": "SetFit",
    "sklearn": "logistic regression on embeddings",
    "trainer": "Optuna and Trainer",
    "autogluon": "AutoGluon",
}
FULL = 300.0
BUDGET = parse_budget(os.environ.get("BUDGET") or f"{FULL:g}s")
LIMITED = BUDGET != FULL
SEEDS = int(os.environ.get("SEEDS") or 1)
LEFT = Path(os.environ.get("LEFT", table.RESULTS / "quality")) / f"{BUDGET:g}s"
# The budget is kept within 5%, as in `tune`.
SLACK = 1.05

Found = dict[str, Any]


def rows_known() -> list[str]:
    """The names of all rows that can be run."""
    return [f"{data}/{name}" for data, peers in PEERS.items() for name in ("luthier", *peers)]


def chosen(wanted: list[str]) -> list[str]:
    """The rows to run, in their order, for names of rows or datasets; all for none.

    Raises:
        ValueError: A name is unknown; lists the known ones.
    """
    known = rows_known()
    if unknown := sorted(set(wanted) - {*known, *PEERS}):
        raise ValueError(f"No such row: {', '.join(unknown)}. There are {', '.join([*PEERS, *known])}.")
    return [row for row in known if not wanted or row in wanted or row.split("/")[0] in wanted]


@cache
def prepared(data: str, seed: int) -> Any:
    """The splits of a dataset, as the command makes them with this seed."""
    from luthier.run.prepare import prepare
    from luthier.run.settings import Settings

    return prepare(Settings(data=str(SHARED / "data" / data), model=[MODELS[data]], seed=seed))


def carry_out(row: str, seed: int) -> None:
    """Runs a contender, and keeps what it answered, or why it could not."""
    data, name = row.split("/")
    given, names, truth = contenders.handed(prepared(data, seed), seed=seed, started=0.0, budget=BUDGET)
    found: Found
    try:
        if name == "luthier":
            found = contenders.ours(SHARED / "data" / data, MODELS[data], names, seed=seed, budget=BUDGET)
        else:
            found = contenders.theirs(name, given)
        found["truth"] = [names.index(label) if label in names else -1 for label in truth]
        print(f"{row} seed {seed}: {right(found).mean():.4f} in {found['seconds']:.0f} s", file=sys.stderr)
    except Unavailable as error:
        found = {"unavailable": str(error)}
        print(f"{row} seed {seed}: {error}", file=sys.stderr)
    LEFT.mkdir(parents=True, exist_ok=True)
    (LEFT / f"{data}-{name}-{seed}.json").write_text(json.dumps(found) + "\n")


def left(data: str, name: str) -> dict[int, Found]:
    """What a contender left, by seed."""
    paths = {seed: LEFT / f"{data}-{name}-{seed}.json" for seed in range(SEEDS)}
    return {seed: json.loads(path.read_text()) for seed, path in paths.items() if path.exists()}


def right(found: Found) -> np.ndarray:
    """(n,) 1 for each test row that is answered right, 0 for others."""
    return (np.array(found["answers"]) == np.array(found["truth"])).astype(float)


def answered(found: dict[int, Found]) -> dict[int, Found]:
    """Those with answers."""
    return {seed: each for seed, each in found.items() if "answers" in each}


def shares(found: dict[int, Found]) -> np.ndarray:
    """(n, 2) the share of seeds that answer a test row right, and 1: whose totals make an accuracy. Test rows
    are what is resampled, so a row counts once however many seeds answered it."""
    mean = np.mean([right(each) for each in found.values()], axis=0)
    return np.column_stack([mean, np.ones(len(mean))])


def accuracy(totals: np.ndarray) -> float:
    """From summed `shares`."""
    return float(totals[0] / totals[1])


def interval(found: dict[int, Found]) -> Interval:
    """95% of an accuracy."""
    return metric_intervals(shares(found), lambda totals: {"accuracy": accuracy(totals)})["accuracy"]


def compared(ours: dict[int, Found], theirs: dict[int, Found]) -> tuple[float, Interval] | None:
    """How much more accurate ours is, of the seeds that both have, with the paired 95% interval; None if
    there are none.

    Raises:
        AssertionError: They were judged on different rows.
    """
    both = sorted(answered(ours).keys() & answered(theirs).keys())
    if not both:
        return None
    for seed in both:
        assert ours[seed]["truth"] == theirs[seed]["truth"], "They were judged on different rows."
    first, second = (shares({seed: side[seed] for seed in both}) for side in (ours, theirs))
    return paired_difference(first, second, accuracy)


def our_row(data: str, found: dict[int, Found]) -> Found:
    """Accuracy, and whether the budget was kept."""
    low, high = interval(found)
    seconds = max(each["seconds"] for each in found.values())
    return table.row(
        f"{data}/luthier", accuracy(shares(found).sum(axis=0)), "accuracy",
        peer=f"budget {BUDGET:.0f} s, the command took {seconds:.0f} s; {notes(found)}",
        ratio=seconds / BUDGET,
        spread=f"{low:.4f} to {high:.4f}", bar=f"time over budget at most {SLACK}",
        met=seconds <= SLACK * BUDGET,
    ) | {"seeds": sorted(found)}  # fmt: skip


def peer_row(data: str, name: str, theirs: dict[int, Found], ours: dict[int, Found]) -> Found:
    """A peer's accuracy, and what ours gains over it."""
    there = answered(theirs)
    if not there:
        reasons = {each["unavailable"] for each in theirs.values()}
        return table.row(f"{data}/{name}", math.nan, "accuracy", peer=f"{TITLES[name]}: {'; '.join(reasons)}")
    value, (low, high) = accuracy(shares(there).sum(axis=0)), interval(there)
    seconds = max(each["seconds"] for each in there.values())
    about = f"{TITLES[name]}, {seconds:.0f} s; {notes(there)}"
    found = compared(ours, theirs)
    row = table.row(
        f"{data}/{name}", value, "accuracy", peer=about, spread=f"{low:.4f} to {high:.4f}",
        bar="ours at least equal",
    )  # fmt: skip
    if found is None:
        return row | {"peer": f"{about}; ours was not run beside it"}
    gain, ends = found
    mine = accuracy(shares(answered(ours)).sum(axis=0))
    return row | {
        "peer": f"{about}; ours {mine:.4f}, {points(gain, ends)}", "ratio": mine / value, "met": equal(ends),
        "gain": gain, "interval": list(ends), "seeds": sorted(there),
    }  # fmt: skip


def ensemble_row(data: str, ours: dict[int, Found]) -> Found | None:
    """What combining gained over the best single trial of the same run; None if nothing was combined."""
    best = [found for each in answered(ours).values() if (found := combined(each.get("combined", [])))]
    if not best:
        return None
    gain = statistics.mean(each["test_gain"] for each in best)
    ends = Combined.from_json(best[0]).test_interval
    if len(best) > 1:
        ends = min(each["test_gain"] for each in best), max(each["test_gain"] for each in best)
    single = statistics.mean(each["test"] - each["test_gain"] for each in best)
    each_of = ", ".join(
        f"{each['name']} {each['test']:.4f} at {each['cost']:.2f} times the cost"
        f"{', shipped' if each['chosen'] else ''}"
        for each in best
    )
    return table.row(
        f"{data}/ensemble", 100 * gain, "points", peer=f"best single trial {single:.4f}; {each_of}",
        ratio=statistics.mean(each["test"] for each in best) / single,
        spread=f"{100 * ends[0]:+.1f} to {100 * ends[1]:+.1f}{' over seeds' if len(best) > 1 else ''}",
        bar="at least equal", met=equal(ends),
    ) | {"combined": best}  # fmt: skip


def combined(rows: list[Found]) -> Found | None:
    """The ensemble to be judged: what was shipped, or what gains most by validation; the test has no say."""
    judged = [each for each in rows if each["test_gain"] is not None and math.isfinite(each["test_gain"])]
    if shipped := [each for each in judged if each["chosen"]]:
        return shipped[0]
    return max(judged, key=lambda each: -math.inf if each["gain"] is None else each["gain"], default=None)


def summary(rows: list[Found]) -> Found | None:
    """Over how many peers ours is at least equal, and over how many ahead; None where none was compared."""
    known = [each for each in rows if "gain" in each]
    if not known:
        return None
    equals = [each for each in known if equal(each["interval"])]
    ahead = [each for each in known if each["interval"][0] > 0]
    behind = ", ".join(each["name"] for each in known if each not in equals)
    return table.row(
        "summary", len(equals), "comparisons",
        peer=f"at least equal on {len(equals)} of {len(known)}, ahead on {len(ahead)}"
        + (f"; behind on {behind}" if behind else ""),
        ratio=len(equals) / len(known),
        spread=f"{sum(each['gain'] > 0 for each in known)} differences above zero",
        bar="at least equal on all", met=len(equals) == len(known),
    )  # fmt: skip


def equal(ends: Any) -> bool:
    """Whether a difference's interval reaches zero, or lies above it."""
    return bool(ends[1] >= 0)


def points(gain: float, ends: Interval) -> str:
    """A difference of accuracies in words."""
    return f"{100 * gain:+.1f} points, {100 * ends[0]:+.1f} to {100 * ends[1]:+.1f}"


def notes(found: dict[int, Found]) -> str:
    """What contenders said of themselves."""
    return "; ".join(dict.fromkeys(each["note"] for each in found.values()))


def rows_of(data: str) -> list[Found]:
    """All rows of a dataset, from what was left."""
    ours = left(data, "luthier")
    made = []
    if there := answered(ours):
        made.append(our_row(data, there))
        made.append(ensemble_row(data, there))
    elif ours:
        reason = "; ".join({each["unavailable"] for each in ours.values()})
        made.append(table.row(f"{data}/luthier", math.nan, "accuracy", peer=reason, met=False))
    made += [peer_row(data, name, found, ours) for name in PEERS[data] if (found := left(data, name))]
    return [each for each in made if each is not None]


def main() -> None:
    try:
        rows = chosen(os.environ.get("ROW", "").split())
    except ValueError as error:
        sys.exit(str(error))
    for row in rows:
        for seed in range(SEEDS):
            carry_out(row, seed)
        if not LIMITED:
            table.merge("quality", rows_of(row.split("/")[0]))
    if LIMITED:
        made = [each for data in dict.fromkeys(row.split("/")[0] for row in rows) for each in rows_of(data)]
    else:
        made = table.load("quality")
    total = summary(made)
    if total is not None:
        made = [*made, total] if LIMITED else table.merge("quality", [total])
    table.show(made)
    if LIMITED:
        print(f"Not recorded: BUDGET is {BUDGET:g} s, not {FULL:g}.", file=sys.stderr)


if __name__ == "__main__":
    main()
