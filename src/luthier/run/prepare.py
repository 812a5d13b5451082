"""Reads data, task and models, and checks all that can go wrong there before anything expensive starts."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from luthier import data as reading
from luthier.data.check import Finding
from luthier.data.findings import in_order
from luthier.errors import DataError, SettingError
from luthier.evaluate.slices import check_columns
from luthier.models import families
from luthier.models import processor as processors
from luthier.models import source as models
from luthier.models.brought import brought, manifest_of
from luthier.models.network import build
from luthier.models.source import Source
from luthier.recipe import Recipe
from luthier.run import answers
from luthier.run.finalists import MOST
from luthier.run.settings import Settings
from luthier.search.defaults import default_space, going_on
from luthier.space import Space
from luthier.study.study import KEEP_BYTES, KEEP_LEAST, KEEP_MOST
from luthier.tasks import registry as tasks
from luthier.tasks.base import Columns, Task


@dataclass
class Prepared:
    """Checked data and models, ready to be trained on.

    Attributes:
        settings: As given.
        dataset: With train, validation and test splits, cleaned.
        task: Fitted to the training split.
        sources: Candidate models by the names the user gave.
        findings: What the data check found.
        notes: What was inferred or assumed, said to the user.
        known: Rows of each split, the first of it, that a run had which this one continues.
    """

    settings: Settings
    dataset: reading.Dataset
    task: Task
    sources: dict[str, Source]
    findings: list[Finding]
    notes: list[str] = field(default_factory=list)
    known: dict[str, int] = field(default_factory=dict)
    _blocks: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    def num_blocks(self, model: str) -> int:
        """Blocks of a model's body. Counting builds the network, so that it is done once."""
        if model not in self._blocks:
            task, source = self.task, self.sources[model]
            network = build(
                source, Recipe(model=model), level=task.level, num_outputs=task.num_outputs, seed=0
            )
            self._blocks[model] = network.num_blocks
        return self._blocks[model]

    def groups(self, split: str) -> np.ndarray | None:
        """(n,) group keys of a split's rows where a group column was named."""
        column = self.settings.group
        return None if column is None else self.dataset.splits[split][column].to_numpy()


def prepare(
    settings: Settings, data: Any = None, *, say: Callable[[str], None] = lambda message: None
) -> Prepared:
    """Reads, understands and checks.

    Args:
        settings: Of the run.
        data: A table or datasets object that takes the place of ``settings.data``.
        say: Told what was inferred, as it is.

    Raises:
        LuthierError: Something is wrong with settings, data or models; names it and says what to do.
    """
    notes: list[str] = []

    def note(message: str) -> None:
        notes.append(message)
        say(message)

    dataset = read(settings, data)
    for message in dataset.notes:
        note(message)
    kind, columns = understand(dataset, settings)
    note(f"Task: {kind.name}{f' ({columns.why})' if columns.why else ''}.")
    sources = find_models(settings, kind)
    task = kind(columns)
    findings = check_data(dataset, task, settings, next(iter(sources.values())))
    stop_on_errors(findings)
    dataset = reading.clean(dataset, findings)
    if settings.drop_leaks:
        dataset = reading.drop_leaks(dataset, findings)
    train = dataset.splits["train"]
    task.fit(train)
    said, given = len(dataset.notes), set(dataset.splits)
    dataset = reading.split(
        dataset,
        strata=task.strata(train),
        groups=settings.group,
        # Equal texts stay on one side; comparing images by their file names would say nothing.
        inputs=columns.roles["input"] if kind.modality == "text" else None,
        validation=settings.validation,
        test=settings.test,
        seed=settings.seed,
    )
    for message in dataset.notes[said:]:
        note(message)
    answers.fit(task, dataset, settings.group)
    # Which answers training never shows is known only now.
    kept = [one for one in findings if one.code != "class-unseen"]
    findings = in_order([*kept, *answers.unseen(task, dataset, given, settings.group)])
    stop_on_errors(findings)
    sources = {name: with_head(source, task) for name, source in sources.items()}
    note("Rows: " + ", ".join(f"{len(frame):,} {name}" for name, frame in dataset.splits.items()) + ".")
    for finding in findings:
        if finding.severity == "warning":
            say(f"Warning: {finding.message}")
    return Prepared(settings, dataset, task, sources, findings, notes)


def read(settings: Settings, data: Any = None) -> reading.Dataset:
    """The data, read but not yet understood."""
    given = data if data is not None else settings.data
    if given is None:
        raise SettingError("No data was given.", "Name a file or folder: luthier tune DATA")
    dataset = reading.read(given, split_column=settings.split_column)
    if settings.group is not None:
        for name, frame in dataset.splits.items():
            if settings.group not in frame.columns:
                raise DataError(
                    f"There is no group column {settings.group!r} in the {name} split.",
                    f"Its columns: {', '.join(c for c in frame.columns if not c.startswith('__'))}.",
                )
    judged = dataset.splits.get("test", next(iter(dataset.splits.values())))
    check_columns(settings.slices, judged, f"the rows of {dataset.source or dataset.name!r}")
    return dataset


def understand(dataset: reading.Dataset, settings: Settings) -> tuple[type[Task], Columns]:
    """The task and the columns that play its parts: as the user said, or inferred."""
    if dataset.modality == "audio":
        raise DataError(
            f"{dataset.source!r} holds audio, for which there is no task yet.",
            f"Known tasks: {', '.join(tasks.names())}.",
        )
    frame = dataset.splits["train"]
    if settings.group is not None:
        frame = frame.drop(columns=settings.group)
    return tasks.infer(frame, dataset.modality, settings.hints, name=settings.task)


def find_models(settings: Settings, kind: type[Task]) -> dict[str, Source]:
    """The candidate models, each checked."""
    names = settings.model or [name for name in [models.default(kind.modality)] if name]
    if not names:
        raise SettingError(
            f"No model was given, and there is no default one for {kind.modality} here.",
            "Name one with --model: a folder with config.json and model.safetensors, or a hub id.",
        )
    return {name: models.find(name, kind.modality) for name in names}


def with_head(source: Source, task: Task) -> Source:
    """A model with the head that it brings, where it is a finished model of this task that knows some of its
    answers.
    """
    manifest = manifest_of(source.path)
    if manifest is None or manifest["task_state"].get("task") != task.name:
        return source
    state = manifest["task_state"]
    carried = task.carried(tasks.get(state["task"]).from_state(state))
    if not carried.any:
        return source
    head = brought(source, manifest, carried.outputs, carried.factor, carried.shift)
    return replace(source, head=head)


def trained_recipe(source: Source) -> Recipe | None:
    """How a model was fine-tuned whose head is at hand; None of any other."""
    manifest = None if source.head is None else manifest_of(source.path)
    return None if manifest is None else Recipe.parse(manifest["recipe"])


def check_data(dataset: reading.Dataset, task: Task, settings: Settings, source: Source) -> list[Finding]:
    """Looks for what ruins a fine-tuning."""
    lengths, max_length = None, None
    processor = processors.load(source, task.modality)
    if isinstance(processor, processors.TextProcessor):
        lengths, max_length = _lengths(processor), processor.max_length
    return reading.check(
        dataset,
        input=task.columns.roles["input"],
        target=task.columns.roles.get("target"),
        kind=task.input_kind,
        target_kind=task.target_kind,
        lengths=lengths,
        max_length=max_length,
    )


def _lengths(processor: processors.TextProcessor) -> Callable[[list[Any]], np.ndarray]:
    """Counts the tokens of texts, or of lists of words."""
    return lambda rows: processor.lengths([row if isinstance(row, str) else " ".join(row) for row in rows])


def stop_on_errors(findings: list[Finding]) -> None:
    """Raises DataError with all that stands in the way of training."""
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise DataError(
            " ".join(finding.message for finding in errors),
            "Nothing was trained; `luthier check` lists all findings.",
        )


def save_table(dataset: reading.Dataset, folder: Path, *, link: bool = False) -> None:
    """Keeps data that came as Python objects, and the files it names, so that its run can be resumed.

    Args:
        dataset: With all its splits.
        folder: Where to.
        link: Whether files may be linked to where they lie on the same disk, rather than copied.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in dataset.splits.items():
        columns = [column for column in frame.columns if not str(column).startswith("__")]
        pd.DataFrame(frame[columns]).to_parquet(folder / f"{name}.parquet", index=False)
        for file in frame[dataset.modality] if dataset.modality != "text" else []:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            _keep_file(dataset.root / file, folder / file, link=link)


def _keep_file(file: Path, target: Path, *, link: bool) -> None:
    if link:
        with contextlib.suppress(OSError):
            target.hardlink_to(file)
            return
    shutil.copyfile(file, target)


def read_space(given: str | dict[str, Any]) -> Space:
    """A space from a YAML file or the same in plain values."""
    return Space.from_dict(given) if isinstance(given, dict) else Space.from_yaml(Path(given))


def search_space(prepared: Prepared, given: Space | None, names: list[str]) -> Space:
    """The user's space over these models, best first; or the default one for the task and the best."""
    if given is not None:
        return given.with_models(names)
    task, source = prepared.task, prepared.sources[names[0]]
    space = default_space(
        task.modality,
        task.level,
        names,
        num_examples=len(prepared.dataset.splits["train"]),
        num_blocks=prepared.num_blocks(names[0]),
        classification=task.target_kind != "number",
        image_size=getattr(processors.load(source, task.modality), "image_size", None),
        resizable=families.get(source.model_type).special_tokens == 0,
    )
    for name in names:
        if trained := trained_recipe(prepared.sources[name]):
            space = going_on(space, name, trained.head, trained.pooling)
    return space


def bytes_needed(settings: Settings, prepared: Prepared) -> int:
    """Bytes a run may take on disk: checkpoints, the saved model beside an older one, report and tables."""
    largest = max(sum(file.stat().st_size for file in source.weights) for source in prepared.sources.values())
    kept = 0 if settings.repeats == 1 else MOST
    if settings.keep is None:
        # As many as fit, of which each is at most as large as its model.
        kept = max(kept, KEEP_LEAST, min(KEEP_MOST, -(-KEEP_BYTES // max(1, largest))))
    else:
        kept = max(kept, settings.keep)
    # The least that an ensemble adds: a second network, and the best single one beside them. More are
    # combined only where there is room.
    kept += 0 if settings.ensemble == "none" else 2
    # With several objectives the trials on the front are kept too: one a structure, at most.
    kept += len(prepared.sources) if settings.objectives else 0
    return (kept + 3) * largest + 50 * 2**20


def data_fingerprint(prepared: Prepared) -> str:
    """Tells whether rows and splits are still the same: a hash of every split's columns of interest."""
    digest = hashlib.sha256()
    roles = prepared.task.columns.roles.values()
    columns = [name for names in roles for name in ([names] if isinstance(names, str) else names)]
    for split, frame in sorted(prepared.dataset.splits.items()):
        digest.update(split.encode())
        # Through text: hashing must not care whether a list came as an array, as it does from Parquet.
        texts = frame[columns].map(
            lambda value: (
                str(list(value)) if hasattr(value, "__len__") and not isinstance(value, str) else str(value)
            )
        )
        digest.update(pd.util.hash_pandas_object(texts, index=False).to_numpy().tobytes())
    return digest.hexdigest()
