"""``luthier check``: what is wrong with a data set, before anything is trained."""

from __future__ import annotations

import typer

from luthier.cli import options as o

ERRORS_FOUND = 2


def check(
    data: o.Data,
    task: o.Task = None,
    target: o.Target = None,
    column: o.Column = None,
    group: o.Group = None,
    split_column: o.SplitColumn = None,
    model: o.Model = None,
    validation: o.Validation = None,
    test: o.Test = None,
    seed: o.Seed = None,
    as_json: o.AsJson = False,
) -> None:
    """Check DATA for what ruins a fine-tuning.

    Ends with exit code 2 if a run would be refused.
    """
    settings = o.gather(
        data, column, task=task, target=target, group=group, split_column=split_column, model=model,
        validation=validation, test=test, seed=seed,
    )  # fmt: skip
    from luthier.cli.output import print_json, text
    from luthier.run.inspect import check as inspect

    checked = inspect(settings)
    if as_json:
        print_json(checked, indent=2)
    else:
        sizes = ", ".join(f"{count:,} {split}" for split, count in checked.rows.items())
        typer.echo(f"task: {checked.task}")
        typer.echo(
            "columns: " + ", ".join(f"{role} = {text(names)}" for role, names in checked.columns.items())
        )
        typer.echo(f"rows: {sizes}")
        for note in checked.notes:
            typer.echo(f"note: {note}")
        for finding in checked.findings:
            typer.echo(f"{finding.severity}: {finding.message}")
        if not checked.findings:
            typer.echo("nothing found that would harm a fine-tuning")
    if any(finding.severity == "error" for finding in checked.findings):
        raise typer.Exit(ERRORS_FOUND)


VERB = check
