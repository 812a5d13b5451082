"""``luthier monitor``: what a served model is asked and says, held against what it was tested on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli import options as o

if TYPE_CHECKING:
    from luthier.monitor.account import Account

HARM = 3
"""Exit code where the harm alarm is on."""


def monitor(
    name: o.Watched,
    url: o.Url = None,
    registry: o.Registry = None,
    model: o.Recorded = None,
    version: Annotated[
        str | None,
        typer.Option(
            help="Version of the model; the one in full charge, or the one seen last, if not given."
        ),
    ] = None,
    window: Annotated[int | None, typer.Option(help="Requests that are judged; 1000 if not given.")] = None,
    as_json: o.AsJson = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on looking until interrupted; at a canary and a shadow, too.")
    ] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks of --watch.")] = 60.0,
    page: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also write a page that opens in a browser.")
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Told, by POST of JSON, when an alarm begins and when it ends."),
    ] = None,
) -> None:
    """Look whether requests have changed, and whether that hurts.

    The exit code is 3 while the harm alarm is on."""
    from pathlib import Path

    from luthier.cli.output import print_json
    from luthier.errors import SettingError
    from luthier.run.monitor import watch as looks

    if every <= 0:
        raise SettingError(f"--every {every} is no time between two looks.", "Give seconds above 0.")
    reports = looks(
        name, every=every if watch else 0.0, url=url, registry=registry, model=model, version=version,
        window=window, course=page is not None, hook=webhook,
    )  # fmt: skip
    for report in reports:
        # One page is of one version.
        if page is not None and (version is not None or report.role in ("", "full")):
            from luthier.report.monitoring import render
            from luthier.run.folder import write_text

            write_text(Path(page), render(report))
        if as_json:
            print_json(report.to_json(), indent=None if watch else 2)
        else:
            show(report)
        if not watch:
            raise typer.Exit(HARM if report.looked.harm else 0)


def show(report: Account) -> None:
    """Prints what a look found, a line a thing."""
    from luthier.cli.output import console
    from luthier.report.monitored import lines

    out = console()
    first, *rest = lines(report)
    out.print(first, style="bold", soft_wrap=True)
    for line in rest:
        out.print(line, soft_wrap=True)


VERB = monitor
