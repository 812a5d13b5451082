"""``luthier evaluate``: a run's model on further labelled data."""

from __future__ import annotations

from typing import Annotated

import typer

from luthier.cli import options as o


def evaluate(
    run: o.Run,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Labelled data: a file, a folder or a hub id.")],
    as_json: o.AsJson = False,
) -> None:
    """Evaluate a run's model on further labelled data."""
    from luthier.cli.output import decimal, metric_rows, print_json, print_table
    from luthier.run.result import Result

    rows = metric_rows(Result.load(run).evaluate(data))
    if as_json:
        print_json(
            {row["metric"]: {key: row[key] for key in ("value", "low", "high")} for row in rows}, indent=2
        )
        return
    print_table(
        ["metric", "value", "95% interval"],
        [
            [row["metric"], decimal(row["value"]), f"{decimal(row['low'])} to {decimal(row['high'])}"]
            for row in rows
        ],
    )


VERB = evaluate
