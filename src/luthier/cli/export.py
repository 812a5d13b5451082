"""``luthier export``: a run's model in another format, verified or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli import options as o

if TYPE_CHECKING:
    from luthier.deploy.export.check import Check
    from luthier.deploy.export.export import Export


def export(
    source: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or a model folder.")],
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="A new or empty folder.")],
    format: Annotated[str, typer.Option("--format", help="safetensors, onnx or torch.")] = "safetensors",
    precision: Annotated[
        str, typer.Option(help="fp32, fp16, bf16 or int8; not all formats have all.")
    ] = "fp32",
    merge: Annotated[
        bool, typer.Option("--merge/--no-merge", help="Merge a LoRA adapter, or keep it apart from its base.")
    ] = True,
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="Labelled rows to check on, in place of the test rows.")
    ] = None,
    sample: Annotated[
        bool,
        typer.Option(
            "--sample/--no-sample", help="Keep 64 of these rows, encoded, in the export for luthier verify."
        ),
    ] = True,
    as_json: o.AsJson = False,
) -> None:
    """Write a run's model in another format, verified or refused."""
    from luthier.cli.output import console, print_json
    from luthier.run.export import export as run

    done = run(source, to, format=format, precision=precision, merge=merge, data=data, sample=sample)
    if as_json:
        print_json(done, indent=2)
        return
    out = console()
    out.print(f"{done.folder}: {done.target}, {done.precision}, {done.bytes / 2**20:.1f} MB", style="bold")
    print_check(done.check)
    if done.stored:
        out.print(
            f"kept in it: {done.stored} of these rows, encoded, with their true answers, for luthier verify;"
            " --no-sample leaves them out"
        )
    else:
        out.print("kept in it: no row of the data; luthier verify goes by made inputs")
    for line in _fixed(done):
        out.print(line)


def print_check(check: Check) -> None:
    """Prints what a check compared and found."""
    from luthier.cli.output import console

    out = console()
    rows = f"{check.rows} {check.source}" if check.rows else "no held-out row"
    out.print(f"compared on: {rows}, and {check.made} batches of made inputs")
    out.print(
        f"largest difference of a logit: {check.difference:.2g}, {check.relative:.1g} of the largest logit"
        f" (limit {check.limit:.0e})"
    )
    if check.change is None:
        out.print("metric: not compared, for want of rows with true answers")
        return
    change = check.change
    low, high = change.interval
    out.print(
        f"{change.metric}: {change.before:.4f} before, {change.after:.4f} after; worse by {change.fall:.4f}"
        f" (95% interval {low:.4f} to {high:.4f}; refused if all of it is above {change.allowed:.2g});"
        f" {change.flips:.1%} of answers differ"
    )


def _fixed(done: Export) -> list[str]:
    """Says where a graph takes one size only, though the architecture would take others."""
    sizes = [axes["pixel_values"][2:] for axes in done.axes if "pixel_values" in axes]
    return [
        f"reads images of {size[0]} by {size[1]} pixels only" for size in sizes if isinstance(size[0], int)
    ]


VERB = export
