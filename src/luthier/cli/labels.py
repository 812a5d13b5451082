"""``luthier labels``: true answers of recorded requests, once they are known."""

from __future__ import annotations

from typing import Annotated

import typer

from luthier.cli import options as o


def labels(
    name: o.Watched,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="CSV, JSON lines or Parquet with the column id and the target column."
        ),
    ],
    url: o.Url = None,
    registry: o.Registry = None,
    model: o.Recorded = None,
    as_json: o.AsJson = False,
) -> None:
    """Give recorded requests their true answers.

    What is sent again replaces what was there."""
    from luthier.cli.output import print_json
    from luthier.run.labels import label

    done = label(name, file, url=url, registry=registry, model=model)
    if as_json:
        print_json(done, indent=2)
        return
    typer.echo(f"{done.new:,} new, {done.replaced:,} replaced, {done.same:,} as before")
    if done.unknown:
        typer.echo(f"{done.unknown:,} ids are not in the records: not recorded, or no longer kept")
    if done.empty:
        typer.echo(f"{done.empty:,} rows without a label were left out")
    if done.unseen:
        typer.echo(
            f"{done.unseen:,} labels that training never saw, answers to which count as wrong: "
            f"{', '.join(done.labels)}"
        )


VERB = labels
