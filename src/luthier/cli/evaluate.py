"""``luthier evaluate``: a run's model on further labelled data."""

from __future__ import annotations

from typing import Annotated

import typer

from luthier.cli import options as o


def evaluate(
    run: o.Run,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Labelled data: a file, a folder or a hub id.")],
    slice_: o.Slice = None,
    as_json: o.AsJson = False,
) -> None:
    """Evaluate a run's model on further labelled data."""
    from luthier.cli.judged import lines
    from luthier.cli.output import console, decimal, metric_rows, print_json, print_table
    from luthier.run.result import Result

    evaluation = Result.load(run).evaluate(data, slices=slice_)
    rows = metric_rows(evaluation)
    if as_json:
        metrics = {row["metric"]: {key: row[key] for key in ("value", "low", "high")} for row in rows}
        told = {
            name: getattr(evaluation, name) for name in ("n", "unseen", "groups", "calibration", "slices")
        }
        print_json(metrics | told, indent=2)
        return
    intervals = [(decimal(row["low"]), decimal(row["high"])) for row in rows]
    print_table(
        ["metric", "value", "95% interval"],
        [
            [row["metric"], decimal(row["value"]), "unknown" if "-" in ends else " to ".join(ends)]
            for row, ends in zip(rows, intervals, strict=True)
        ],
    )
    out = console()
    units = "" if evaluation.groups is None else f" in {evaluation.groups:,} groups"
    out.print(f"{evaluation.n:,} {'example' if evaluation.n == 1 else 'examples'}{units}")
    for line in lines(evaluation):
        out.print(line, soft_wrap=True)


VERB = evaluate
