"""What is monitored: from a run, an export or a deployment's name to its reference and its records. Judging
lives in `luthier.monitor`, what is done with it in `run.monitor` and `run.labels`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from luthier.deploy.versions import NAME, Deployment
from luthier.errors import RunError, SettingError
from luthier.monitor.records import Records
from luthier.monitor.reference import FOLDER, Kept, read

RECORDS = "records.sqlite"
"""The records' name in the folder of a run or deployment, unless another place is named."""
_EXPORT = "export.json"


@dataclass(frozen=True)
class Place:
    """What was named, found.

    Attributes:
        name: As it was named.
        reference: The folder of its reference.
        url: Path or URL of its records.
        version: Of a deployment; None for any other.
        role: What that version is to do; empty for any other.
    """

    name: str
    reference: Path
    url: str
    version: str | None = None
    role: str = ""


@dataclass(frozen=True)
class Watched:
    """Records and the reference that they are held against.

    Attributes:
        place: What was named.
        kept: The reference.
        records: Opened.
        model: Name in the records.
        version: Of the model that is looked at.
    """

    place: Place
    kept: Kept
    records: Records
    model: str
    version: str


def locate(
    named: str | Path, *, url: str | None = None, registry: str | None = None, version: str | None = None
) -> Place:
    """Finds the reference and the records of what was named.

    Args:
        named: A run folder, an export, a folder with ``reference/`` in it, or the name of a deployment.
        url: Where the records are; None: ``records.sqlite`` in the folder of the run or deployment.
        registry: The folder of deployments; None: what LUTHIER_REGISTRY says, or ``deployments``.
        version: Of a deployment; None: the one in full charge.

    Raises:
        SettingError: There is nothing of that name, or an export and no URL.
        RunError: A run without a reference, or a deployment that cannot be read.
    """
    folder = Path(named)
    if folder.is_dir():
        if not (folder / FOLDER).is_dir():
            raise RunError(
                f"'{named}' has no {FOLDER}/, which records are held against.",
                "A run writes it when it is proven: repeat that with luthier resume RUN --budget +1m.",
            )
        if url is None and (folder / _EXPORT).is_file():
            raise SettingError(
                f"'{named}' is an export, in which no records can lie.", "Say where they are with --url."
            )
        return Place(str(named), folder / FOLDER, url or str(folder / RECORDS))
    deployment = _deployment(named, registry)
    if deployment is None:
        raise SettingError(
            f"There is neither a folder {str(named)!r} nor a deployment of that name.",
            "Give a run folder, or a name that luthier deployments lists.",
        )
    state = deployment.state
    known = [number for number in state.versions if str(number) == version]
    return _version(deployment, known[0] if known else state.full, url)


def beside(named: str | Path, *, url: str | None = None, registry: str | None = None) -> list[Place]:
    """The versions of a deployment that are in use beside the one in full charge, a canary and a shadow;
    those without a reference are left out. None of anything else.

    Args:
        named: As for `locate`.
        url: As for `locate`.
        registry: As for `locate`.
    """
    deployment = None if Path(named).is_dir() else _deployment(named, registry)
    if deployment is None:
        return []
    state = deployment.state
    numbers = [None if state.canary is None else state.canary.version, state.shadow]
    return [
        _version(deployment, number, url)
        for number in numbers
        if number is not None and (deployment.place(number) / FOLDER).is_dir()
    ]


def _deployment(named: str | Path, registry: str | None) -> Deployment | None:
    found = Deployment(str(named), registry) if NAME.fullmatch(str(named)) else None
    return found if found is not None and found.exists else None


def _version(deployment: Deployment, number: int, url: str | None) -> Place:
    """One version, as a place.

    Raises:
        RunError: It has no reference.
    """
    reference = deployment.place(number) / FOLDER
    if not reference.is_dir():
        raise RunError(
            f"Version {number} of {deployment.name!r} has no {FOLDER}/, which records are held against.",
            "Deploy the run folder, not its model/ alone: luthier deploy RUN --to NAME.",
        )
    return Place(
        deployment.name, reference, url or str(deployment.folder / RECORDS), str(number),
        deployment.state.role(number),
    )  # fmt: skip


@contextmanager
def opened(place: Place, *, model: str | None = None, version: str | None = None) -> Iterator[Watched]:
    """The records and the reference of a place.

    Args:
        place: As `locate` gives it.
        model: Name in the records; None where they are of one model only.
        version: None: that of the place, where it was seen, or the one seen last.

    Raises:
        ModelError: The reference is damaged.
        RunError: The records cannot be read, or have none of that model and version.
        SettingError: They are of several models and none is named.
    """
    kept = read(place.reference)
    with Records(place.url, exists=True) as records:
        name = records.model(model)
        known = records.versions(name)
        wanted = version or (place.version if place.version in known else None) or list(known)[-1]
        if wanted not in known:
            raise RunError(
                f"{records.location!r} has no observations of version {wanted!r}.",
                f"It has those of: {', '.join(known)}.",
            )
        yield Watched(place, kept, records, name, wanted)
