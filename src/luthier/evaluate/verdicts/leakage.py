"""Rules on answers that leak into what they are judged on: rows in two splits, a mark that says them."""

from __future__ import annotations

from luthier.evaluate.verdict import Verdict
from luthier.evaluate.verdicts.case import Case, percent

GRAVE = 0.02
"""From this share of a held-out split on, rows that also stand in training are a fault."""


def rows_in_two_splits(case: Case) -> Verdict | None:
    """Held-out rows that stand in an earlier split too, or nearly do."""
    found = [one for one in case.findings if one.kind in ("leak", "near-leak") and one.split]
    if not found:
        return None
    shares = {
        split: sum(one.share for one in found if one.split == split) for split in ("test", "validation")
    }
    grave = max(shares.values()) >= GRAVE
    told = " and ".join(f"{percent(share)} of {split}" for split, share in shares.items() if share)
    return Verdict(
        "leakage",
        "fault" if grave else "advice",
        "Rows that it is judged on also stand in the training data",
        f"{told}: {' '.join(one.message for one in found)} The figure is flattered by what it knows by "
        "heart.",
        "Run again with `--drop-leaks`, which drops equal rows from the later split; where nearly equal rows "
        "belong together, name the column that says so with `--group`.",
    )


def answer_in_input(case: Case) -> Verdict | None:
    """One word, or one trait of a file, for each class gives the answer away."""
    found = case.giveaway
    if found is None:
        return None
    marks = ", ".join(f"“{mark}” says {name}" for name, mark in list(found.marks.items())[:3])
    more = f" and {len(found.marks) - 3} more" if len(found.marks) > 3 else ""
    low, high = found.interval
    return Verdict(
        "leakage",
        "fault",
        "The input seems to contain the answer",
        f"One mark a class answers {percent(found.share)} of {found.n:,} validation rows right, without any "
        f"model (95% interval {percent(low)} to {percent(high)}): {marks}{more}.",
        "Ask whether these marks will be there when the model is used. If not, take them out of the input "
        "and run again; if so, a rule does this job.",
    )
