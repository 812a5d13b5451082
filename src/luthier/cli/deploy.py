"""``luthier deploy``: a finished model becomes the next version of a deployment."""

from __future__ import annotations

from typing import Annotated

import typer

from luthier.cli import options as o


def deploy(
    source: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, an export, or a model folder.")],
    to: Annotated[str, typer.Option("--to", metavar="NAME", help="Name of the deployment.")],
    role: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="ROLE",
            help="full, canary:10%, shadow or staged; a first version is in full charge, a later one waits.",
        ),
    ] = None,
    onnx: Annotated[
        bool,
        typer.Option(
            "--onnx",
            help="Make an ONNX export of it, too, which a server takes where it is faster; one that lies"
            " beside the run comes along anyway.",
        ),
    ] = False,
    registry: o.Registry = None,
    force: o.Force = False,
    reason: o.Reason = "",
    as_json: o.AsJson = False,
) -> None:
    """Copy a finished model into a deployment, as its next version."""
    from luthier.cli.output import console, print_json
    from luthier.deploy.versions import Deployment
    from luthier.run.deployments import deploy_model as run

    out = console()
    if onnx and not as_json:
        out.print("an ONNX export is written and checked, if there is none")
    done = run(source, to, role=role, onnx=onnx, registry=registry, force=force, reason=reason)
    number = done.version.number
    standing = done.state.role(number)
    graph = Deployment(to, registry).graph(number) is not None
    if as_json:
        print_json(
            {
                "name": to, "version": number, "role": standing, "onnx": graph, "changed": done.changed,
                "gate": done.said,
            },
            indent=2,
        )  # fmt: skip
        return
    if not done.changed:
        out.print(f"{to}: the same content is version {number} already ({standing}); nothing was changed")
    else:
        out.print(
            f"{to}: version {number}, {standing}{', with its ONNX export' if graph else ''}", style="bold"
        )
    if done.said:
        out.print(done.said)
    if standing in ("staged", "former"):
        out.print(
            f"it waits; next: luthier promote {to} {number} --as shadow|canary:10%|full", soft_wrap=True
        )


VERB = deploy
