"""``luthier show``: one finished run, as it was printed when it ended."""

from __future__ import annotations

from typing import Annotated

import typer

from luthier.cli import options as o


def show(
    run: o.Run,
    as_json: o.AsJson = False,
    optuna: Annotated[
        str | None,
        typer.Option(
            "--optuna",
            metavar="STORAGE",
            help="Also write an Optuna study, such as sqlite:///study.db, for optuna-dashboard.",
        ),
    ] = None,
) -> None:
    """Show a run: its result, the baselines beside it, its files."""
    from luthier.cli.output import print_json, print_result
    from luthier.run.result import Result

    result = Result.load(run)
    url = None if optuna is None else result.to_optuna(optuna)
    if as_json:
        print_json(result.summary(), indent=2)
    else:
        print_result(result)
    if url is not None:
        typer.echo(f"As an Optuna study in {optuna}; see it with: optuna-dashboard {url}", err=True)


VERB = show
