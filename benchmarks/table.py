"""Rows of a benchmark: printed as a table, and merged into its JSON file, so that each can run alone."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("name", "value", "unit", "peer", "ratio", "spread", "bar", "met")


def row(
    name: str, value: float, unit: str, *, peer: str = "", ratio: float | None = None, spread: str = "",
    bar: str = "", met: bool | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One measurement.

    Args:
        name: What was measured; rows of the same name replace each other.
        value: The figure.
        unit: Of the value.
        peer: What it is compared with, and the peer's figure, measured in the same run.
        ratio: Value over the peer's.
        spread: An interval or range, in words.
        bar: What it should reach, in words.
        met: Whether it does.
    """
    found = {"name": name, "value": value, "unit": unit, "peer": peer, "ratio": ratio, "spread": spread}
    return {**found, "bar": bar, "met": met, "machine": machine()}


def machine() -> str:
    """One line on what the figures were measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def processor() -> str:
    """The processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def load(name: str) -> list[dict[str, Any]]:
    """The rows measured so far."""
    path = RESULTS / f"{name}.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return rows


def merge(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Puts rows in the place of those of the same name, writes all, and gives them back."""
    merged = {old["name"]: old for old in load(name)} | {new["name"]: new for new in rows}
    RESULTS.mkdir(exist_ok=True)
    found = sorted(merged.values(), key=lambda each: each["name"])
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    return found


def show(rows: list[dict[str, Any]]) -> None:
    """Prints rows as a table."""
    cells = [COLUMNS, *(tuple(_cell(each[column]) for column in COLUMNS) for each in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(COLUMNS))]
    for line in cells:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
