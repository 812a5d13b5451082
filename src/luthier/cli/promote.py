"""``luthier promote``: another role for a deployed version."""

from __future__ import annotations

from typing import Annotated

import typer

from luthier.cli import options as o


def promote(
    name: o.Deployment,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="Number of the version.")],
    role: Annotated[
        str, typer.Option("--as", metavar="ROLE", help="full, canary:10%, shadow or staged.")
    ] = "full",
    registry: o.Registry = None,
    force: o.Force = False,
    reason: o.Reason = "",
    as_json: o.AsJson = False,
) -> None:
    """Give a deployed version another role.

    Servers follow within seconds."""
    from luthier.cli.output import console, print_json
    from luthier.run.deployments import promote as run

    done = run(name, version, role, registry=registry, force=force, reason=reason)
    standing = done.state.role(version)
    if as_json:
        print_json(
            {"name": name, "version": version, "role": standing, "changed": done.changed, "gate": done.said},
            indent=2,
        )
        return
    out = console()
    already = "" if done.changed else " already; nothing was changed"
    out.print(f"{name}: version {version}, {standing}{already}", style="bold")
    if done.said:
        out.print(done.said)


VERB = promote
