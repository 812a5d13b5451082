"""Numbers, durations and verdict sentences as people read them; shared by the HTML report and the model
card."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from luthier.evaluate.baselines import Baseline
from luthier.evaluate.combined import Combined
from luthier.evaluate.evaluation import Evaluation
from luthier.evaluate.intervals import Interval
from luthier.evaluate.verdict import Verdict
from luthier.report.story import Story

UNKNOWN = "–"


def number(value: Any, digits: int = 3) -> str:
    """A metric's value: fixed decimals up to 1000, otherwise four significant digits; a dash where there is
    none."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value != 0 and (abs(value) >= 1000 or abs(value) < 0.5 * 10**-digits):
        return f"{value:.4g}".replace("-", "−")
    return f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None) -> str:
    """A difference with its sign."""
    text = number(value)
    return text if text.startswith(("−", UNKNOWN)) else f"+{text}"


def between(interval: Interval | None, form: Any = number) -> str:
    """An interval as ``low to high``."""
    if interval is None or not all(math.isfinite(end) for end in interval):
        return UNKNOWN
    return f"{form(interval[0])} to {form(interval[1])}"


def duration(seconds: float | None) -> str:
    """Wall-clock time, which never breaks over lines: ``0.4 s``, ``12 s``, ``3 min 20 s``, ``1 h 5 min``."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    return _duration(seconds).replace(" ", "\u00a0")


def _duration(seconds: float) -> str:
    if seconds < 0.1:
        return "under 0.1 s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    return f"{whole // 3600} h" + (f" {whole % 3600 // 60} min" if whole % 3600 // 60 else "")


def share(value: float | None) -> str:
    """A share with two decimals, whatever its size."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def size(count: float | None, units: tuple[str, ...] = ("", "k", "M", "G")) -> str:
    """A count with a suffix of thousands, e.g. parameters: ``22.7 M``."""
    if count is None or not math.isfinite(count):
        return UNKNOWN
    step = 0
    while abs(count) >= 1000 and step < len(units) - 1:
        count, step = count / 1000, step + 1
    return f"{count:.3g} {units[step]}".strip()


def memory(count: float | None) -> str:
    """Bytes as MB or GB."""
    return size(count, ("B", "kB", "MB", "GB", "TB")) if count else UNKNOWN


def setting(value: Any) -> str:
    """One setting's value; floats are cut to three significant digits, what is not set is a dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return UNKNOWN
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(setting(item) for item in value)
    return str(value)


def cut(text: str, most: int = 40) -> str:
    """A text cut to ``most`` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def count(number_of: int, singular: str) -> str:
    """A number and its noun: ``1 trial``, ``1,000 trials``."""
    return f"{number_of:,} {singular}" + ("" if number_of == 1 else "s")


def plain_name(name: str) -> str:
    """A metric's, task's or setting's name with spaces."""
    return name.replace("_", " ").replace("-", " ")


def shown_score(story: Story, score: float) -> float:
    """The metric's own value for a score (which is higher-is-better)."""
    return score if story.maximize else -score


def sense(baseline: Baseline) -> str:
    """``up`` where the chosen model is better beyond chance, ``down`` where it is worse, otherwise
    ``same``."""
    low, high = baseline.difference_interval or (math.nan, math.nan)
    if low > 0:
        return "up"
    return "down" if high < 0 else "same"


def odds(p: float | None) -> str:
    """A p-value in two digits; below a ten-thousandth only that it is."""
    if p is None or not math.isfinite(p):
        return UNKNOWN
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}"


def unleaked(evaluation: Evaluation) -> str:
    """The metric without the test rows that training has seen, in a sentence; empty where there are none."""
    found = evaluation.leaked
    if found is None:
        return ""
    rows = f"{found.rows:,} test {'row' if found.rows == 1 else 'rows'}"
    if not found.n:
        return f"Training has seen all of the {rows} or what nearly equals them: nothing is left to judge by."
    interval = f"95% interval {between(found.interval)}, {count(found.n, 'example')}"
    return (
        f"Training has seen {rows} or what nearly equals them; without, {plain_name(evaluation.metric)} is "
        f"{number(found.value)} ({interval})."
    )


def gain(evaluation: Evaluation, baseline: Baseline) -> str:
    """What fine-tuning brought over one baseline, as a clause that follows the baseline's name."""
    if baseline.difference is None or not math.isfinite(baseline.difference):
        return f"{plain_name(evaluation.metric)} {number(baseline.metrics.get(evaluation.metric))}"
    said = difference(baseline.difference, baseline.difference_interval or (math.nan, math.nan))
    if baseline.p is None:
        return said
    shown = odds(baseline.p)
    # No line breaks within it.
    return f"{said}, " + f"p {shown if shown.startswith('<') else f'= {shown}'}".replace(" ", "\u00a0")


def difference(value: float, ends: Interval) -> str:
    """Better, worse or neither, as far as an interval lets one say so, with the figures."""
    low, high = ends
    interval = f" (95% interval {between(ends, signed)})" if math.isfinite(low) else ""
    if low <= 0 <= high:
        return f"not clearly different: {signed(value)}{interval}"
    verdict = "better" if value > 0 else "worse"
    return f"{verdict} by {number(abs(value))}{interval}"


def bottom_line(verdicts: Sequence[Verdict]) -> str:
    """What all verdicts come to, in one sentence."""
    faults = sum(one.gravity == "fault" for one in verdicts)
    advice = sum(one.gravity == "advice" for one in verdicts)
    if faults:
        also = f", and {count(advice, 'thing')} that could be better" if advice else ""
        return f"Not to be relied on as it is: {count(faults, 'fault')}{also}."
    if advice:
        return f"No fault was found; {count(advice, 'thing')} could be better."
    return "Nothing was found that speaks against it." if verdicts else ""


def sureness(evaluation: Evaluation) -> str:
    """How sure the model is and how right, in a sentence or two; empty where that is not known."""
    known = evaluation.calibration
    if known is None or not math.isfinite(known.error):
        return ""
    off = f"On average its confidence is off by {number(known.error)} (expected calibration error"
    interval = f", 95% interval {between(known.interval)}" if math.isfinite(known.interval[0]) else ""
    before = (
        f"; without that it would be off by {number(known.before)}" if math.isfinite(known.before) else ""
    )
    warm = f" Its logits are divided by {number(known.temperature, 2)}, as fitted on validation{before}."
    return f"{off}{interval}).{warm if known.temperature != 1 else ''}"


def more_data(evaluation: Evaluation) -> str:
    """What twice the training rows may bring, in a sentence; empty where it was not measured."""
    known, metric = evaluation.sizes, plain_name(evaluation.metric)
    if known is None or not known.rows:
        return ""
    if not math.isfinite(known.twice):
        return f"What more than {known.rows[-1]:,} training rows would bring cannot be said from this curve."
    return (
        f"Twice the training rows ({2 * known.rows[-1]:,}) may take {metric} from {number(known.values[-1])} "
        f"to {number(known.twice)} (95% interval {between(known.interval)}), with a head on the model's "
        "frozen features."
    )


def shipped(combined: Sequence[Combined]) -> str:
    """Which ensemble was shipped and what it brings, in a sentence."""
    chosen = next((one for one in combined if one.chosen), None)
    if chosen is None:
        return (
            f"None of the {len(combined)} ensembles tried was shipped: the model is a single network."
            if len(combined) != 1
            else "The one ensemble tried was not shipped: the model is a single network."
        )
    where = "test" if math.isfinite(chosen.test_gain) else "validation"
    gained = (chosen.test_gain, chosen.test_interval) if where == "test" else (chosen.gain, chosen.interval)
    return (
        f"Shipped is “{chosen.name}”: against the best single network it is {difference(*gained)} on "
        f"{where}, at {times(chosen.cost)} the cost of an answer."
    )


def times(ratio: float) -> str:
    """A multiple, as ``1.4×``."""
    if not math.isfinite(ratio):
        return UNKNOWN
    return f"{ratio:.1f}×" if ratio < 10 else f"{ratio:.0f}×"


def choice(evaluation: Evaluation) -> str:
    """The chosen model's value on the rows it was chosen on, what is to be expected of it after that, and its
    value on the test split, in one sentence; empty where nothing was chosen."""
    told, metric = evaluation.selection, plain_name(evaluation.metric)
    if told is None:
        return ""
    parts = [f"validation {metric} {number(told.validation)}"]
    if math.isfinite(told.expected):
        of = f"the best of {count(told.trials, 'trial')}" if told.trials > 1 else "the only trial"
        left = f", {told.left_out:,} left out" if told.left_out else ""
        parts.append(
            f"expected after choosing {of}{left} {number(told.expected)} "
            f"(95% interval {between(told.interval)})"
        )
    parts.append(f"test {metric} {number(evaluation.value)}")
    sentence = f"{'; '.join(parts)}."
    return sentence[:1].upper() + sentence[1:]


def headline(story: Story) -> str:
    """What was tuned on what, in one sentence."""
    return (
        f"{story.model.name} fine-tuned for {plain_name(story.task)} on {story.dataset.name}: {effort(story)}"
    )


def effort(story: Story) -> str:
    """How much was tried."""
    return f"the best of {count(len(story.trials), 'trial')} in {duration(story.spent)}."
