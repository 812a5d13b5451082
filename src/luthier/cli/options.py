"""Options that several verbs share, and how they become `Settings`. Values are checked there, not here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier.errors import SettingError

if TYPE_CHECKING:
    from luthier.run.settings import Settings

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A file, a folder or a hub id; or a settings file (.yaml), which options override.",
    ),
]
OptionalData = Annotated[
    str | None,
    typer.Argument(
        metavar="[DATA]",
        help="A file, a folder or a hub id; or a settings file (.yaml), which options override.",
        show_default=False,
    ),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run folder.")]
Task = Annotated[str | None, typer.Option(help="Task by name; inferred from the data if not given.")]
Target = Annotated[str | None, typer.Option(help="Column to predict; inferred if not given.")]
Column = Annotated[
    list[str] | None,
    typer.Option(
        "--column", metavar="ROLE=NAME", help="Column of a role, such as input=question; repeatable."
    ),
]
Group = Annotated[str | None, typer.Option(help="Column whose equal values stay in one split.")]
SplitColumn = Annotated[str | None, typer.Option(help="Column that says train, validation or test.")]
Validation = Annotated[float | None, typer.Option(help="Share of training rows set aside to choose by.")]
Test = Annotated[
    float | None, typer.Option(help="Share of rows set aside for the test, where none are given.")
]
DropLeaks = Annotated[
    bool | None,
    typer.Option("--drop-leaks/--keep-leaks", help="Drop test rows that also occur in the training rows."),
]
Model = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="A folder, a hub id or a short name such as minilm; repeatable.",
    ),
]
Seed = Annotated[int | None, typer.Option(help="Seed of splits, search and training.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; one for each usable core if not given.")]
Stack = Annotated[
    int | None,
    typer.Option(help="Trials trained as one network at most; 1 gives the same to the last bit each time."),
]
Slice = Annotated[
    list[str] | None,
    typer.Option(
        "--slice",
        metavar="COLUMN",
        help="Tell the result apart by a column, beside classes and lengths; repeatable.",
    ),
]
Watched = Annotated[
    str, typer.Argument(metavar="NAME_OR_RUN", help="A run folder, an export, or the name of a deployment.")
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="Records: a path or a database URL; records.sqlite in that folder if not given.",
    ),
]
Recorded = Annotated[
    str | None, typer.Option("--model", help="Name in the records, where they are of several models.")
]
Deployment = Annotated[str, typer.Argument(metavar="NAME", help="Name of a deployment.")]
Registry = Annotated[
    str | None,
    typer.Option(
        metavar="DIR", help="Folder of all deployments; LUTHIER_REGISTRY or deployments, if not given."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Put it in charge though the gate says no.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why, for the history.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def gather(data: str | None, column: list[str] | None, **options: Any) -> Settings:
    """Settings from a DATA argument and the options given; an option left out is None or an empty list.

    Raises:
        SettingError: A value is not what its setting expects.
    """
    from luthier.run.settings import Settings

    overrides = {name: value for name, value in options.items() if value is not None and value != []}
    if column:
        overrides["columns"] = parse_columns(column)
    return Settings.gather(data, overrides)


def parse_columns(pairs: list[str]) -> dict[str, str | list[str]]:
    """Columns by role from ``role=name`` pairs; a role that is given more than once gets all its names.

    Raises:
        SettingError: A pair lacks its role or its name.
    """
    columns: dict[str, str | list[str]] = {}
    for pair in pairs:
        role, equals, name = pair.partition("=")
        if not (role and equals and name):
            raise SettingError(
                f"--column {pair!r} is not of the form role=name.", "For example: --column input=question"
            )
        before = columns.get(role)
        columns[role] = name if before is None else [*([before] if isinstance(before, str) else before), name]
    return columns
