"""Continuing a finished run: its rows and further ones, its weights as one more model to start from, its
recipe first. How it is opened is in `origin`; what was forgotten is judged in `forgetting`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from luthier import data as reading
from luthier.data.dataset import ROW
from luthier.data.join import Parts, join
from luthier.errors import DataError, SettingError
from luthier.run.origin import Origin, open_origin
from luthier.run.prepare import Prepared, prepare, trained_recipe
from luthier.run.settings import Settings
from luthier.tasks import registry as tasks
from luthier.tasks.base import Task

# New answers that a note names.
NAMED = 8
# Below this a task's claim on a table is a guess.
SURE = 0.5


@dataclass(frozen=True)
class Onward:
    """A run that continues another, before it begins.

    Attributes:
        prepared: The rows of both, and the models.
        about: What its manifest says of the run that it continues, in JSON values.
        space: The user's own space of that run, in plain values, which holds where no other is given.
    """

    prepared: Prepared
    about: dict[str, Any]
    space: dict[str, Any] | None = None


def onward(
    settings: Settings, say: Callable[[str], None] = lambda message: None, added: Sequence[Any] | None = None
) -> Onward:
    """Reads the run to continue and the rows to add, and checks that they go together.

    Args:
        settings: With ``from``; what they leave out of data, task and goals is as it was there.
        say: Told what was found.
        added: Tables that take the place of ``settings.add``.

    Raises:
        LuthierError: The run cannot be continued, the rows are of another task, or the settings contradict.
    """
    if settings.data is not None:
        raise SettingError(
            f"The data are those of the run {settings.from_!r}, but {settings.data!r} was given, too.",
            "Give further rows with --add, or leave --from out.",
        )
    assert settings.from_ is not None
    before = open_origin(settings.from_)
    settings = inherited(settings, before)
    notes = [f"Continues {before.name} ({before.folder.path})."]
    files = list(settings.add) if added is None else list(added)
    dataset = before.prepared.dataset
    for place, file in enumerate(files):
        dataset = _joined(dataset, _read(file, settings, before), before, settings, place)
        notes += dataset.notes
    if not files:
        notes.append("No rows were added: it is searched further on the same rows.")
    dataset = reading.Dataset(
        dataset.name, dataset.splits, dataset.modality, dataset.root, dataset.source, notes
    )
    prepared = prepare(settings.model_copy(update={"split_column": None}), dataset, say=say)
    old = before.prepared.task
    new = [name for name in prepared.task.label_names if name not in set(old.label_names)]
    if new:
        shown = ", ".join(map(repr, new[:NAMED])) + (
            f" and {len(new) - NAMED} more" if len(new) > NAMED else ""
        )
        notes = [*notes, f"New answers: {shown}. The head grows by {len(new)}."]
        prepared.notes.append(notes[-1])
        say(notes[-1])
    offset = max(int(frame[ROW].max()) for frame in before.prepared.dataset.splits.values())
    splits = prepared.dataset.splits
    prepared.known = {name: int((frame[ROW] <= offset).sum()) for name, frame in splits.items()}
    about = _about(settings, before, prepared, new) | {"notes": notes}
    return Onward(prepared, about, before.manifest["space"])


def inherited(settings: Settings, before: Origin) -> Settings:
    """Settings with what they leave open as it was in the run before.

    Raises:
        SettingError: They say otherwise of what cannot change.
    """
    roles, earlier = dict(before.prepared.task.columns.roles), before.settings
    fixed: list[tuple[str, Any, Any]] = [("task", settings.task, before.prepared.task.name)]
    fixed += [(f"the {role} column", name, roles.get(role)) for role, name in settings.hints.items()]
    fixed += [("group", settings.group, earlier.group)]
    for what, given, known in fixed:
        if given is not None and given != known:
            raise SettingError(
                f"{what} is {given!r}, but it was {known!r} in the run that is continued.",
                "Leave it out: old and new rows are of one task, in the same columns.",
            )
    names = [str(before.weights), *(settings.model or _anew(before))]
    kept: dict[str, Any] = {
        "task": before.prepared.task.name, "target": None, "columns": roles, "group": earlier.group,
        "model": list(dict.fromkeys(names)),
    }  # fmt: skip
    for name in ("slices", "objectives", "constraints", "drop_leaks"):
        if name not in settings.model_fields_set:
            kept[name] = getattr(earlier, name)
    return settings.model_copy(update=kept)


def _anew(before: Origin) -> list[str]:
    """The pre-trained models that its winner came from, as they are called here."""
    winner, chain = before.recipe.model, before.manifest.get("from")
    names = chain["anew"] if chain and winner == chain["model"] else [winner]
    return [before.here(name) for name in names]


def _read(file: Any, settings: Settings, before: Origin) -> reading.Dataset:
    """Rows to be added, which are of the same task.

    Raises:
        DataError: They cannot be read, lack a column, or are of another task.
    """
    column = settings.split_column
    new = reading.read(file, split_column=column)
    earlier = before.settings.split_column
    if column is None and earlier in new.splits.get("train", pd.DataFrame()):
        new = reading.read(file, split_column=earlier)
    task, named = before.prepared.task, new.source or new.name
    frame = pd.concat(new.splits.values(), ignore_index=True)
    if new.modality == before.prepared.dataset.modality and not _missing(frame, task):
        try:
            tasks.infer(frame, new.modality, dict(task.columns.roles), name=task.name)  # type: ignore[arg-type]
            targets = task.targets(frame)
        except DataError as error:
            raise DataError(f"{named}: {error.message}", _other_task(task)) from None
        _same_answers(frame, targets, new, task)
    return new


def _missing(frame: pd.DataFrame, task: Task) -> bool:
    """Whether a column lacks, of which joining will tell."""
    names = [name for role in task.columns.roles.values() for name in _list(role)]
    return any(name not in frame.columns for name in names)


def _same_answers(frame: pd.DataFrame, targets: list[np.ndarray], new: reading.Dataset, task: Task) -> None:
    """New answers are welcome; but rows of which none has a known one, and which look like another task, are
    of another.
    """
    # With any outputs at all: whether an answer has a loss is up to the answer.
    if np.isfinite(task.example_losses(task.majority(targets, targets), targets)).any():
        return
    kind, claimed = tasks.infer(frame, new.modality, dict(task.columns.roles))  # type: ignore[arg-type]
    if kind.name != task.name and claimed.confidence >= SURE:
        raise DataError(
            f"{new.source or new.name} is for {kind.name} ({claimed.why}), and the run that is continued for "
            f"{task.name}: none of its {len(frame):,} rows has an answer that is known there.",
            _other_task(task),
        )


def _other_task(task: Task) -> str:
    columns = " and ".join(map(repr, _list(task.columns.roles["target"])))
    return f"Add rows for {task.name}, with answers in {columns}."


def _joined(
    dataset: reading.Dataset, new: reading.Dataset, before: Origin, settings: Settings, place: int
) -> reading.Dataset:
    """Rows of one more file added to those so far."""
    old = before.prepared.task
    roles = old.columns.roles
    parts = Parts(
        roles["input"], _list(roles["target"]), old.input_kind, settings.group, tuple(settings.slices)
    )

    def strata(frame: pd.DataFrame) -> np.ndarray | None:
        columns = [name for role in roles.values() for name in _list(role)]
        both = pd.concat([dataset.splits["train"][columns], frame[columns]], ignore_index=True)
        task = type(old)(old.columns)
        task.fit(both)
        return task.strata(frame)

    given = settings.model_fields_set
    return join(
        dataset, new, parts, strata=strata,
        validation=settings.validation if "validation" in given else None,
        test=settings.test if "test" in given else None,
        seed=settings.seed + place,
    )  # fmt: skip


def _about(settings: Settings, before: Origin, prepared: Prepared, new: list[str]) -> dict[str, Any]:
    """The parent as the manifest keeps it."""
    deployed, winner = str(before.weights), before.recipe
    source, base = prepared.sources[deployed], before.here(winner.model)
    going_on = winner.model_copy(update={"model": deployed, "init": "pretrained"})
    if trained := trained_recipe(source):
        going_on = going_on.model_copy(
            update={"head": trained.head, "pooling": trained.pooling, "head_init": "model"}
        )
    first = [going_on]
    if base in prepared.sources and base != deployed:
        head_init = "probe" if winner.head_init == "model" else winner.head_init
        first.append(winner.model_copy(update={"model": base, "head_init": head_init}))
    splits = prepared.dataset.splits
    return {
        "run": before.manifest["run"],
        "name": before.name,
        "folder": str(before.folder.path.resolve()),
        "given": settings.from_,
        "add": list(settings.add),
        "metric": before.manifest["metric"],
        "score": before.manifest["score"],
        "rows": prepared.known,
        "added": {name: len(frame) - prepared.known[name] for name, frame in splits.items()},
        "labels": new,
        "model": deployed,
        "fingerprint": source.fingerprint,
        "anew": [name for name in prepared.sources if name != deployed],
        "models": {name: before.here(name) for name in (*before.settings.model, winner.model)},
        "first": [recipe.model_dump() for recipe in first],
    }


def _list(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
