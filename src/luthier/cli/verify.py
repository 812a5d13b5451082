"""``luthier verify``: whether an export still says, on this machine, what the evaluated model said."""

from __future__ import annotations

from typing import Annotated

import typer

from luthier.cli import options as o


def verify(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="An export.")], as_json: o.AsJson = False
) -> None:
    """Check an export: its files, and what it answers."""
    from luthier.cli.export import print_check
    from luthier.cli.output import console, print_json
    from luthier.run.export import verify as run

    done = run(folder)
    if as_json:
        print_json(done, indent=2)
        return
    console().print(f"{done.folder}: {done.target}, {done.precision}, verified", style="bold")
    print_check(done.check)


VERB = verify
