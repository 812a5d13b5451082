"""``luthier deployments``: what is deployed, who is in charge, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from luthier.cli import options as o
from luthier.errors import SettingError


def deployments(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One of them; all, if not given.")
    ] = None,
    prune: Annotated[
        int | None,
        typer.Option(metavar="N", help="Remove all versions but the last N and those in use."),
    ] = None,
    registry: o.Registry = None,
    as_json: o.AsJson = False,
) -> None:
    """List deployments, or the versions and the history of one."""
    from luthier.cli.output import print_json
    from luthier.deploy.versions import Deployment, registry_folder
    from luthier.run.deployments import deployments as run

    if prune is not None:
        if name is None:
            raise SettingError(
                "--prune needs the name of a deployment.", "luthier deployments NAME --prune 5"
            )
        gone = Deployment(name, registry).prune(prune)
        if not as_json:
            typer.echo(f"removed: {', '.join(map(str, gone)) or 'none'}")
    found = run(name, registry=registry)
    if as_json:
        print_json(found if name is None else found[0], indent=2)
    elif not found:
        typer.echo(f"No deployments in {registry_folder(registry)}.")
    elif name is None:
        _print_all(found)
    else:
        _print_one(found[0])


def _print_all(found: list[dict[str, Any]]) -> None:
    from luthier.cli.output import print_table

    rows = []
    for one in found:
        full = next(row for row in one["versions"] if row["version"] == one["full"])
        canary = one["canary"] and f"{one['canary']['version']} ({one['canary']['percent']:g}%)"
        rows.append(
            [one["name"], one["full"], _time(one["since"]), canary, one["shadow"], full["task"], _score(full)]
        )
    print_table(["deployment", "in charge", "since", "canary", "shadow", "task", "test score"], rows)


def _print_one(one: Mapping[str, Any]) -> None:
    from luthier.cli.output import console, print_table

    out = console()
    out.print(
        f"{one['name']}: version {one['full']} in full charge since {_time(one['since'])}", style="bold"
    )
    print_table(
        ["version", "role", "deployed", "test score", "requests", "errors", "MB", "from"],
        [
            [
                row["version"],
                row["role"],
                _time(row["deployed"]),
                _score(row),
                row["requests"],
                row["errors"],
                f"{row['bytes'] / 2**20:.1f}",
                row["source"],
            ]
            for row in one["versions"]
        ],
    )
    for row in one["versions"]:
        if row["failed"]:
            out.print(f"version {row['version']} failed: {row['failed']}", soft_wrap=True)
    if one["comparison"]:
        out.print(_compared(one["comparison"]), soft_wrap=True)
    out.print()
    print_table(
        ["time (UTC)", "what", "version", "became", "why"],
        [
            [_time(event["time"]), event["action"], event["version"], event["role"], event["reason"]]
            for event in one["history"]
        ],
    )


def _compared(found: Mapping[str, Any]) -> str:
    """What asking the shadow, too, has shown."""
    if not found["compared"]:
        return f"shadow {found['version']}: nothing compared yet"
    line = f"shadow {found['version']}: agrees in {found['agreement']:.1%} of {found['compared']:,} answers"
    line += f", confidence differs by {found['confidence_difference']:.3f} on average"
    line += f", {1000 * found['shadow_seconds']:.1f} ms against {1000 * found['seconds']:.1f} ms"
    return f"{line}; {found['dropped']:,} dropped, {found['failed']:,} failed"


def _score(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return ""
    low, high = row["interval"]
    interval = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return f"{row['metric']} {row['value']:.3f}{interval}"


def _time(text: str) -> str:
    return text[:19].replace("T", " ")


VERB = deployments
