"""What verbs print when they are done: tables, JSON, a finished run. Progress lives in `cli.progress`."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from luthier.evaluate.baselines import Baseline
    from luthier.evaluate.evaluation import Evaluation
    from luthier.run.result import Result

WIDE = 160  # columns where nobody looks at a screen: lines in files and pipes are not folded

FILES = {
    "model": "the model, for from_pretrained",
    "single": "the best single model, for from_pretrained",
    "model/README.md": "its model card",
    "report.html": "the report; opens in a browser",
    "trials.csv": "every trial: settings, score, cost",
    "predictions.csv": "its answers on the test rows",
    "suspects.csv": "labels that may be mistakes",
    "evaluation.json": "the test result, for programs",
    "reference": "what luthier monitor holds requests against",
    "study.sqlite": "the study, for luthier resume",
}


def console() -> Console:
    """A console on standard output that takes users' texts as they are; rich minds NO_COLOR and pipes."""
    from rich.console import Console

    return Console(
        file=sys.stdout,
        markup=False,
        emoji=False,
        highlight=False,
        width=None if sys.stdout.isatty() else WIDE,
    )


def clean(value: Any) -> Any:
    """JSON values: data classes become mappings, arrays lists, paths text, and what is not finite None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: clean(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [clean(item) for item in value]
    if hasattr(value, "tolist"):
        return clean(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def print_json(value: Any, indent: int | None = None) -> None:
    """Prints one JSON value, on one line unless ``indent`` is given."""
    sys.stdout.write(json.dumps(clean(value), indent=indent, ensure_ascii=False) + "\n")


def print_table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints a table; columns of numbers stand to the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for position, header in enumerate(headers):
        numbers = bool(rows) and all(_is_number(row[position]) for row in rows)
        table.add_column(header, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(text(cell) for cell in row))
    console().print(table)


def decimal(value: float | None, places: int = 3) -> str:
    """A number with fixed places; a dash where there is none."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{places}f}"


def text(value: Any) -> str:
    """A cell: lists joined by commas, nothing for None."""
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def metric_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Name, value and 95% interval of each metric, the optimised one first."""
    unknown = (math.nan, math.nan)
    intervals = {name: evaluation.intervals.get(name, unknown) for name in evaluation.metrics}
    return [
        {"metric": name, "value": value, "low": intervals[name][0], "high": intervals[name][1]}
        for name, value in evaluation.metrics.items()
    ]


def print_result(result: Result) -> None:
    """Prints a finished run: the test result, the baselines beside it, the files, and what to do next."""
    from luthier.cli.judged import lines

    out = console()
    evaluation = result.evaluation
    out.print()
    out.print(_headline(evaluation), style="bold")
    _print_comparison(evaluation)
    if evaluation.selection is not None:
        from luthier.report.words import choice

        out.print(choice(evaluation))
    for line in lines(evaluation):
        out.print(line, soft_wrap=True)
    summary = result.summary()
    for line in _facts(summary):
        out.print(line, soft_wrap=True)
    _print_verdicts(evaluation)
    _print_front(summary)
    folder = Path(result.folder)
    out.print()
    out.print(f"{folder}/", style="bold")
    for name, meaning in FILES.items():
        if name == "model" and (folder / name / "ensemble.json").exists():
            meaning = "the ensemble; each network of it in parts/, for from_pretrained"
        if (folder / name).exists():
            out.print(f"  {name:<16} {meaning}")
    out.print()
    out.print("next", style="bold")
    for command in next_commands(folder):
        out.print(f"  {command}", soft_wrap=True)


def next_commands(folder: Path) -> list[str]:
    """Commands that make sense after a run, as they can be typed here."""
    program, run = shlex.quote(_program()), shlex.quote(str(folder))
    return [
        f"{program} predict {run} INPUT",
        f"{program} evaluate {run} DATA",
        f"{program} resume {run} --budget +10m",
    ]


def _program() -> str:
    """How this program is called: by its name if the shell finds it so, otherwise by its path."""
    called = Path(sys.argv[0])
    found = shutil.which("luthier")
    if called.name != "luthier" or (found and Path(found).resolve() == called.resolve()):
        return "luthier"
    return os.path.relpath(called)


def _headline(evaluation: Evaluation) -> str:
    low, high = evaluation.interval
    interval = (
        f" (95% interval {low:.3f} to {high:.3f})" if math.isfinite(low) and math.isfinite(high) else ""
    )
    return f"test {evaluation.metric} {decimal(evaluation.value)}{interval}, {evaluation.n:,} examples"


def _print_comparison(evaluation: Evaluation) -> None:
    if not evaluation.baselines:
        return
    low, high = evaluation.interval
    rows = [["this run", decimal(evaluation.value), _range(low, high), "", ""]]
    rows += [_baseline_row(baseline, evaluation.metric) for baseline in evaluation.baselines]
    print_table(["", evaluation.metric, "95% interval", "this run is better by", "seconds"], rows)


def _baseline_row(baseline: Baseline, metric: str) -> list[str]:
    by = ""
    if baseline.difference is not None:
        by = f"{baseline.difference:+.3f}"
        if baseline.difference_interval is not None:
            by += f" ({_range(*baseline.difference_interval)})"
    return [
        baseline.name,
        decimal(baseline.metrics.get(metric)),
        _range(*baseline.interval),
        by,
        decimal(baseline.seconds, 1),
    ]


def _print_verdicts(evaluation: Evaluation) -> None:
    """What is to be made of it: title, figures, and what to do, a line each."""
    if not evaluation.verdicts:
        return
    out = console()
    out.print()
    for verdict in evaluation.verdicts:
        mark = {"fault": "!", "advice": "-", "good": "+"}[verdict.gravity]
        out.print(f"{mark} {verdict.title}", style="bold")
        for line in (verdict.evidence, verdict.step):
            if line:
                out.print(f"  {line}", soft_wrap=True)


def _print_front(summary: Mapping[str, Any]) -> None:
    """The trials between which only taste decides, where more than scores counted."""
    if not (rows := summary.get("pareto")):
        return
    out = console()
    out.print()
    out.print("on the front: no other trial is better in all of this", style="bold")
    headers = {"number": "trial", "score": "score", "latency_ms": "latency, ms", "memory_mb": "memory, MB"}
    headers |= {"size_mb": "size, MB", "model": "model"}
    cells = [
        [
            row["number"],
            decimal(row["score"]),
            *(f"{row[name]:.4g}" for name in list(headers)[2:5]),
            row["model"],
        ]
        for row in rows
    ]
    print_table(list(headers.values()), cells)


def _facts(summary: Mapping[str, Any]) -> list[str]:
    """What the summary says of the winner and of the search; what it leaves out is not mentioned."""
    from luthier.run.duration import format_duration

    lines = []
    chosen = ", ".join(text(summary[key]) for key in ("model", "recipe") if summary.get(key))
    if chosen:
        lines.append(f"{'best trial' if summary.get('ensemble') else 'chosen'}: {chosen}")
    if summary.get("ensemble"):
        lines.append(_ensemble(summary["ensemble"]))
    if parent := summary.get("from"):
        rows = ", ".join(f"{count:,} {name}" for name, count in parent["added"].items())
        lines.append(f"continues: {parent['name']} ({parent['folder']}); rows added: {rows}")
    if summary.get("trials") is not None:
        failed = f", {summary['failed']} failed" if summary.get("failed") else ""
        spent = f" in {format_duration(summary['spent'])}" if summary.get("spent") is not None else ""
        lines.append(f"trials: {summary['trials']}{failed}{spent}")
    return lines


def _ensemble(shipped: Mapping[str, Any]) -> str:
    """What the ensemble is, what it gains and what it costs."""
    parts = len(shipped["parts"])
    what = f"{parts} networks" if parts > 1 else "one network"
    line = f"ensemble: {shipped['name']}, {what}, {shipped['cost']:.1f} times the time at inference"
    for place, gain, interval in (
        ("validation rows left out", "gain", "interval"),
        ("test", "test_gain", "test_interval"),
    ):
        if shipped.get(gain) is not None and None not in shipped[interval]:
            low, high = shipped[interval]
            line += f"; {shipped[gain]:+.3f} ({low:+.3f} to {high:+.3f}) on {place}"
    return f"{line}, against the best trial"


def _range(low: float, high: float) -> str:
    return f"{low:.3f} to {high:.3f}" if math.isfinite(low) and math.isfinite(high) else "-"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (
        isinstance(value, str) and value[:1].lstrip("-+").isdigit() and " " not in value
    )
