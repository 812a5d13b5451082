"""``luthier resume``: continues a run that was stopped or killed."""

from __future__ import annotations

from typing import Annotated

import typer

from luthier.cli import options as o


def resume(
    run: o.Run,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            "-b",
            metavar="TIME",
            help="New budget of the whole run, or +10m to add to the old one.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but the result.")] = False,
) -> None:
    """Continue a run that was stopped or killed."""
    from luthier.run.duration import new_budget

    if budget is not None:
        new_budget(budget, 0.0)  # a wrong one is refused before anything heavy is imported
    from luthier.cli.output import print_result
    from luthier.cli.progress import showing
    from luthier.run.tune import resume as continue_run

    with showing(quiet) as progress:
        result = continue_run(run, budget=budget, progress=progress)
    print_result(result)


VERB = resume
