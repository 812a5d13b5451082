"""`tune` and `resume`: a whole run, from data to a chosen, trained, proven and saved model.

Each stage hands on to the next.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from luthier.engine.precision import choose_device, measured
from luthier.ensemble import registry as ensembles
from luthier.errors import RunError, SettingError
from luthier.run import tell
from luthier.run.duration import new_budget
from luthier.run.folder import RunFolder
from luthier.run.goals import gather, screen
from luthier.run.inspect import set_threads
from luthier.run.onward import Onward, onward
from luthier.run.prepare import (
    Prepared,
    bytes_needed,
    data_fingerprint,
    prepare,
    read_space,
    save_table,
    search_space,
)
from luthier.run.progress import Progress, Silent
from luthier.run.result import Result
from luthier.run.settings import Settings
from luthier.run.stages import Run
from luthier.search import registry as strategies
from luthier.space import Space
from luthier.study.budget import Budget
from luthier.study.store import Store


def tune(
    settings: Settings, *, data: Any = None, added: Sequence[Any] | None = None,
    progress: Progress | None = None, spent: float = 0.0,
) -> Result:  # fmt: skip
    """Finds, trains and proves the best fine-tuned model within the budget.

    Args:
        settings: Of the run.
        data: A table or datasets object, in place of ``settings.data``.
        added: Tables and paths, in place of ``settings.add``.
        progress: Told what happens.
        spent: Seconds of the budget that are gone already, such as those that imports took.

    Raises:
        LuthierError: Something is wrong with settings, data or models, said before any training; or the run
            cannot go on.
    """
    clock = Budget(settings.budget_seconds, spent)
    watch = progress or Silent()
    watch.stage("Looking at data and models")
    # What can be wrong is found before anything is written or trained: strategy, device, data, models, space.
    strategies.resolve(settings.strategy)
    ensembles.resolve(settings.ensemble)
    device = choose_device(settings.device)
    set_threads(settings)
    space = None if settings.space is None else read_space(settings.space)
    parent: dict[str, Any] | None = None
    if settings.from_ is None:
        prepared = prepare(settings, data, say=watch.note)
    else:
        found = continued(settings, data, added, watch.note)
        prepared, parent = found.prepared, found.about
        settings, data = prepared.settings, prepared.dataset
        if space is None and found.space is not None:
            space = Space.from_dict(found.space)
    strategies.create(settings.strategy, search_space(prepared, space, list(prepared.sources)), settings.seed)
    goals = gather(settings, prepared, device, {})
    screen(goals, prepared, space, watch.note)
    name = settings.name or prepared.dataset.name
    needed = bytes_needed(settings, prepared)
    folder = RunFolder.new(settings.out, name, needed=needed)
    if data is not None:
        save_table(prepared.dataset, folder.data, link=parent is not None)
        settings = settings.model_copy(update={"data": str(folder.data)})
    fingerprint = data_fingerprint(prepared)
    store = open_store(settings, folder)
    run = store.create_run(
        name=name,
        settings=settings.model_dump(),
        seed=settings.seed,
        budget=clock.total,
        task=prepared.task.name,
        data_fingerprint=fingerprint,
        folder=str(folder.path.resolve()),
        versions=tell.versions(),
    )
    manifest = {
        "run": run,
        "name": name,
        "status": "running",
        "created": datetime.datetime.now().isoformat(timespec="seconds"),
        "task": prepared.task.name,
        "metric": prepared.task.metric,
        "settings": settings.model_dump(),
        # What relative paths in the settings start at, and the space as it was, whatever becomes of its file.
        "directory": str(Path.cwd()),
        "space": None if space is None else space.to_dict(),
        "data_fingerprint": fingerprint,
        # Measured once: a resumed run must train as it began.
        "precision": measured(device),
        "footprints": goals.footprints.known,
        "budget": clock.total,
        # The run that is continued, with what must be the same in a resumed run.
        "from": parent,
    }
    folder.write_manifest(manifest)
    return Run(prepared, folder, store, run, manifest, clock, watch, space, goals).carry_out()


def resume(folder: str | Path, *, budget: str | None = None, progress: Progress | None = None) -> Result:
    """Continues a run that was stopped or killed.

    Args:
        folder: The run folder.
        budget: New budget of the whole run, or ``+10m`` to add to it.
        progress: Told what happens.

    Raises:
        RunError: There is no run to continue, or its data changed.
    """
    place = RunFolder(Path(folder).resolve())
    manifest = place.read_manifest()
    with contextlib.chdir(manifest["directory"] if Path(manifest["directory"]).is_dir() else "."):
        return _resume(place, manifest, budget, progress or Silent())


def _resume(place: RunFolder, manifest: dict[str, Any], budget: str | None, watch: Progress) -> Result:
    """`resume`, in the directory that the run was started in."""
    folder = place.path
    settings = Settings.parse(manifest["settings"])
    total = float(manifest["budget"]) if budget is None else new_budget(budget, float(manifest["budget"]))
    if manifest["status"] == "finished" and budget is None:
        raise RunError(
            f"The run {str(folder)!r} is finished.",
            f"Give it more time with: luthier resume {folder} --budget +10m",
        )
    store = open_store(settings, place)
    run = manifest["run"]
    clock = Budget(total, store.run(run).spent)
    watch.stage("Looking at data and models")
    prepared = prepare(settings, say=watch.note)
    if parent := manifest.get("from"):
        take_up(prepared, parent)
    if data_fingerprint(prepared) != manifest["data_fingerprint"]:
        raise RunError(
            f"The data of the run {str(folder)!r} changed since it began: {settings.data!r}.",
            "Restore it, or start a new run; results on different data cannot be compared.",
        )
    space = None if manifest["space"] is None else Space.from_dict(manifest["space"])
    set_threads(settings)
    known = manifest.setdefault("footprints", {})
    goals = gather(settings, prepared, choose_device(settings.device), known)
    screen(goals, prepared, space, watch.note)
    manifest |= {"status": "running", "budget": total}
    place.write_manifest(manifest)
    store.save_progress(run, status="running")
    return Run(prepared, place, store, run, manifest, clock, watch, space, goals).carry_out()


def continued(
    settings: Settings, data: Any, added: Sequence[Any] | None, say: Callable[[str], None]
) -> Onward:
    """A run that continues another, before it begins.

    Raises:
        LuthierError: As for `onward`; or data of its own were given, too.
    """
    if data is not None:
        raise SettingError(
            f"The data are those of the run {settings.from_!r}, but a table was given, too.",
            "Give further rows with add, or leave from out.",
        )
    return onward(settings, say, added)


def take_up(prepared: Prepared, parent: dict[str, Any]) -> None:
    """What a resumed run has to know of the run that it continues.

    Raises:
        RunError: The weights that it goes on from are others by now.
    """
    prepared.known = parent["rows"]
    prepared.notes[:0] = parent["notes"]
    if prepared.sources[parent["model"]].fingerprint != parent["fingerprint"]:
        raise RunError(
            f"The model {parent['model']!r}, from which this run goes on, changed since it began.",
            "Restore it, or start a new run.",
        )


def open_store(settings: Settings, folder: RunFolder) -> Store:
    """The database of the study: the one named, or a file in the run folder."""
    return Store(settings.store or folder.database)
