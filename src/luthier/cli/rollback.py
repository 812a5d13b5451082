"""``luthier rollback``: back to the last good version."""

from __future__ import annotations

from typing import Annotated

import typer

from luthier.cli import options as o


def rollback(
    name: o.Deployment,
    to: Annotated[
        int | None, typer.Option("--to", metavar="VERSION", help="Put this version in full charge instead.")
    ] = None,
    registry: o.Registry = None,
    reason: o.Reason = "",
    as_json: o.AsJson = False,
) -> None:
    """Put what was good in full charge again.

    Ends a canary where one is running, otherwise the version before takes over."""
    from luthier.cli.output import console, print_json
    from luthier.run.deployments import rollback as run

    done = run(name, to, registry=registry, reason=reason)
    number = done.version.number
    if as_json:
        print_json({"name": name, "version": number, "role": "full", "changed": done.changed}, indent=2)
        return
    already = "" if done.changed else " already; nothing was changed"
    console().print(f"{name}: version {number} is in full charge{already}", style="bold")


VERB = rollback
