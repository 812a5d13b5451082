"""`Origin`: the finished run that another continues, with its rows as it had them. What the other makes of it
is in `onward`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.deploy import content
from luthier.deploy.versions import NAME, Deployment
from luthier.ensemble import saved as ensembles
from luthier.errors import LuthierError, RunError
from luthier.recipe import Recipe
from luthier.run.folder import MANIFEST, RunFolder
from luthier.run.prepare import Prepared, data_fingerprint, prepare
from luthier.run.result import Result
from luthier.run.settings import Settings
from luthier.search.past import PastStudy
from luthier.study.past import past_studies
from luthier.study.store import Store


@dataclass(frozen=True)
class Origin:
    """A run that can be continued.

    Attributes:
        folder: Its folder.
        manifest: Its ``run.json``.
        settings: What it was told.
        prepared: Its rows, in the splits that they had there.
    """

    folder: RunFolder
    manifest: dict[str, Any]
    settings: Settings
    prepared: Prepared

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.manifest["name"])

    @property
    def recipe(self) -> Recipe:
        """The recipe that won."""
        return Recipe.parse(self.manifest["best"]["recipe"])

    @property
    def weights(self) -> Path:
        """The network whose weights can be trained on."""
        return weights_of(self.folder)

    def here(self, model: str) -> str:
        """What a model of its is called in this process, whose relative paths may start elsewhere."""
        with started_in(self.manifest):
            path = Path(model).expanduser()
            if not path.is_dir():
                return model
            there = path.resolve()
        here = Path(model).expanduser()
        return model if here.is_dir() and here.resolve() == there else str(there)


def origin(place: str | Path) -> Path:
    """The run folder that a name or path stands for.

    Args:
        place: A run folder; or a deployment, which stands for the run of its version in full charge.

    Raises:
        RunError: It is neither, or that run is not there any more, or has another model by now.
    """
    path = Path(place).expanduser()
    if (path / MANIFEST).is_file():
        return path
    if (found := _deployed(str(place))) is not None:
        return found
    hint = (
        "Name the folder of a finished run, or a deployment; `luthier runs` and `luthier deployments` list "
        "those here."
    )
    if (path.parent / MANIFEST).is_file():
        hint = f"Name the run that it is from: --from {path.parent}"
    raise RunError(f"There is no run {str(place)!r} to continue from.", hint)


def _deployed(name: str) -> Path | None:
    """The run of a deployment's version in full charge; None where there is no such deployment."""
    if not NAME.fullmatch(name) or not (deployment := Deployment(name)).exists:
        return None
    state = deployment.state
    version = state.known(state.full)
    folder, what = Path(version.source), f"version {version.number} of {name!r}"
    if not (folder / MANIFEST).is_file():
        raise RunError(
            f"The run of {what} is not there: {version.source!r} is no run folder.",
            "Bring it back to where it was, or name the folder where it is now.",
        )
    if content.digest(content.sums(RunFolder(folder).model)) != version.digest:
        raise RunError(
            f"The run {version.source!r} has another model by now than {what}.",
            f"Deploy it first, luthier deploy {version.source} --to {name}, or name the run itself.",
        )
    return folder


def open_origin(place: str | Path) -> Origin:
    """A finished run with its rows, read again.

    Raises:
        RunError: There is no such run, it is not finished, or its rows cannot be read again or have changed.
    """
    folder = RunFolder(origin(place))
    manifest = Result(folder.path).manifest
    if manifest["status"] not in ("finished", "interrupted"):
        raise RunError(
            f"The run {str(folder.path)!r} is not finished (status: {manifest['status']}).",
            f"Finish it with: luthier resume {folder.path}",
        )
    settings = Settings.parse(manifest["settings"])
    # Rows do not depend on models, and those that it began with may be gone: its own is at hand.
    reading = settings.model_copy(update={"model": [str(weights_of(folder).resolve())]})
    hint = "Restore its data; without the rows that it was trained and tested on nothing can be compared."
    try:
        with started_in(manifest):
            prepared = prepare(reading)
            dataset = prepared.dataset
            dataset.root = dataset.root.resolve()
    except LuthierError as error:
        raise RunError(
            f"The data of {str(folder.path)!r} cannot be read again: {error.message}", hint
        ) from error
    if data_fingerprint(prepared) != manifest["data_fingerprint"]:
        raise RunError(f"The data of {str(folder.path)!r} changed since it ran: {settings.data!r}.", hint)
    return Origin(folder, manifest, settings, prepared)


def weights_of(folder: RunFolder) -> Path:
    """The network of a run whose weights can be trained on: the model, of an ensemble the best single one."""
    return folder.single if ensembles.is_ensemble(folder.model) else folder.model


def studies(about: dict[str, Any]) -> list[PastStudy]:
    """The study of the run that was continued, its models named as in the run that continues it.

    Args:
        about: What the manifest says of the continued run.

    Raises:
        LuthierError: It cannot be read any more.
    """
    folder = RunFolder(about["folder"])
    manifest = folder.read_manifest()
    settings = Settings.parse(manifest["settings"])
    with started_in(manifest), Store(settings.store or folder.database.resolve()) as store:
        found = past_studies(store, {manifest["run"]})
    names = about["models"]
    return [
        PastStudy(
            study.name,
            [
                recipe.model_copy(update={"model": names.get(recipe.model, recipe.model)})
                for recipe in study.recipes
            ],
            study.scores,
            study.seconds,
        )
        for study in found
    ]


@contextlib.contextmanager
def started_in(manifest: dict[str, Any]) -> Iterator[None]:
    """In the folder that a run's relative paths start at, where it is still there."""
    directory = Path(manifest["directory"])
    with contextlib.chdir(directory if directory.is_dir() else "."):
        yield
