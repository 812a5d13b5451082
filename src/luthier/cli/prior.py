"""``luthier prior fit``: lets the strategy ``auto`` learn from finished studies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli import options as o
from luthier.errors import SettingError

if TYPE_CHECKING:
    from luthier.search.past import PastStudy

VERBS = typer.Typer(help="What the strategy auto knows before a search.", no_args_is_help=True)


@VERBS.callback()
def prior() -> None:
    """What the strategy auto knows before a search."""


@VERBS.command()
def fit(
    studies: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STUDIES",
            help="Run folders, folders of runs, study databases or their URLs; runs if nothing is given.",
        ),
    ] = None,
    quicktune: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="A folder of QuickTune runs to learn from as well.")
    ] = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="Leave out what ships with Luthier: learn from these only.")
    ] = False,
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="FILE", help="Where to write; your own prior if not given."),
    ] = None,
    as_json: o.AsJson = False,
) -> None:
    """Learn from finished STUDIES what makes a good recipe; the strategy auto starts from it.

    Writes your own prior, which takes the place of the one that ships with Luthier and has its runs in it.
    Studies of fewer than eight trials are left out.
    """
    from luthier.cli.output import print_json, print_table
    from luthier.search.prior import FEWEST, SHIPPED, Prior, own_path
    from luthier.search.quicktune import PROVENANCE, read

    given = studies or ([] if quicktune else ["runs"])
    past = [study for location in given for study in _read(location)]
    sources = [f"Studies of {location}." for location in given]
    if quicktune:
        past, sources = [*past, *read(quicktune)], [*sources, PROVENANCE]
    learnt = Prior.from_studies(past, sources)
    if not learnt.studies:
        most = max((len(study.recipes) for study in past), default=0)
        raise SettingError(
            f"There is nothing to learn from: a study needs {FEWEST} trials, and the largest has {most}.",
            "Name run folders with finished searches, or run longer ones first.",
        )
    whole = learnt if alone else Prior.load(SHIPPED).joined(learnt)
    target = Path(out) if out else own_path()
    whole.save(target)
    counts = {name: int((learnt.study == at).sum()) for at, name in enumerate(learnt.studies)}
    if as_json:
        print_json({"file": str(target), "trials": len(whole.study), "learnt": counts}, indent=2)
        return
    print_table(["study", "trials"], [[name, count] for name, count in counts.items()])
    typer.echo(f"{target}: {len(whole.study):,} trials of {len(whole.studies)} studies")


def _read(location: str) -> list[PastStudy]:
    """The studies of a run folder, of all under a folder, or of a database.

    Raises:
        SettingError: There is none.
    """
    from luthier.run.folder import RunFolder
    from luthier.study.past import past_studies
    from luthier.study.store import Store

    place = Path(location)
    if "://" in location:
        databases = [location]
    elif place.is_dir():
        databases = [str(file) for file in sorted(place.rglob(RunFolder(place).database.name))]
    else:
        databases = [location] if place.is_file() else []
    if not databases:
        raise SettingError(
            f"{location!r} holds no study.", "Name a run folder, a folder of runs, or a study database."
        )
    found = []
    for database in databases:
        with Store(database) as store:
            found += past_studies(store)
    return found
