"""``luthier runs``: all runs under a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from luthier.cli import options as o


def runs(
    root: Annotated[str, typer.Option(help="Folder that holds run folders.")] = "runs",
    as_json: o.AsJson = False,
) -> None:
    """List runs, the newest first."""
    from luthier.cli.output import clean, print_json, print_table
    from luthier.run.duration import format_duration
    from luthier.run.folder import list_runs

    found = sorted(list_runs(Path(root)), key=lambda run: str(run["created"]), reverse=True)
    if as_json:
        print_json(found, indent=2)
        return
    if not found:
        typer.echo(f"No runs under {root}.")
        return
    lineage = any(run.get("from") for run in found)
    print_table(
        ["run", "status", "task", "score", "trials", "spent", "created", *(["continues"] if lineage else [])],
        [
            [
                str(run["folder"]),
                run["status"],
                run["task"],
                _score(clean(run["score"]), run["metric"]),
                run["trials"],
                format_duration(float(run["spent"] or 0.0)),
                str(run["created"])[:16].replace("T", " "),
                *([run.get("from")] if lineage else []),
            ]
            for run in found
        ],
    )


def _score(score: float | None, metric: str | None) -> str:
    return "" if score is None else f"{score:.3f} {metric or ''}".strip()


VERB = runs
