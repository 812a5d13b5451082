"""The verbs in Python: `tune`, `resume`, `load`, `export`, `verify`. Only gathers arguments; the work is in
`run.tune` and `run.export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, Unpack

from luthier.errors import SettingError
from luthier.run.settings import TABLE, Baseline, Device, Settings

if TYPE_CHECKING:
    import datasets
    import pandas as pd

    from luthier.deploy.export.export import Export
    from luthier.run.progress import Progress
    from luthier.run.result import Result

    Data: TypeAlias = (
        str | Path | pd.DataFrame | dict[str, pd.DataFrame] | datasets.Dataset | datasets.DatasetDict
    )


class Options(TypedDict, total=False):
    """Keywords of `tune`: the fields of `Settings`, where each is described and has its default."""

    from_: str | Path | None
    task: str | None
    target: str | None
    columns: dict[str, str | list[str]]
    group: str | None
    split_column: str | None
    validation: float | None
    test: float
    drop_leaks: bool
    model: str | list[str]
    budget: str | float
    trials: int | None
    repeats: int | None
    strategy: str
    objectives: str | list[str]
    constraints: str | list[str]
    space: str | dict[str, Any] | None
    seed: int
    out: str | Path | None
    name: str | None
    store: str | None
    keep: int | None
    ensemble: str
    baselines: list[Baseline]
    slices: str | list[str]
    device: Device
    threads: int | None
    stack: int | None


def tune(
    data: Data | None = None,
    *,
    add: Data | list[Data] | None = None,
    progress: Progress | None = None,
    **options: Unpack[Options],
) -> Result:
    """Finds, trains and proves the best fine-tuned model for a data set within a budget; or continues a
    finished run, with ``from_="runs/before", add="new.csv"``.

    Args:
        data: Path or hub id, a settings file (``.yaml``), a table, a dict of tables by split (``train``,
            ``validation``, ``test``), or an object of the ``datasets`` package. None where a run is
            continued.
        add: Further labelled rows for a run that is continued, in the same forms; several as a list.
        progress: Told what happens as it happens; None: nothing is shown.
        **options: As in `Settings`, such as ``budget="15m"`` (the default) or ``model=["minilm"]``.

    Returns:
        The finished run: ``.model``, ``.predict(inputs)``, ``.trials``, ``.report``, ``.evaluation``,
        ``.save(folder)``.

    Raises:
        LuthierError: Anything that a user can mend, before any training starts: settings, data, models.
    """
    given: dict[str, Any] = dict(options)
    if "data" in given:
        raise SettingError("data was given twice.", "Give it as the first argument only.")
    added = add if isinstance(add, list) else [] if add is None else [add]
    if added:
        given["add"] = [str(one) if isinstance(one, str | Path) else TABLE for one in added]
    if data is None or isinstance(data, str | Path):
        settings, table = Settings.gather(data, given), None
    else:
        settings, table = Settings.parse(given), data
    from luthier.run.tune import tune as run

    return run(settings, data=table, added=added or None, progress=progress)


def resume(folder: str | Path, *, budget: str | None = None, progress: Progress | None = None) -> Result:
    """Continues a run that was stopped or killed; no trial is lost or repeated.

    Args:
        folder: The run folder.
        budget: A new budget for the whole run, or ``+10m`` to add to the old one; None: what was left of it.
        progress: As in `tune`.

    Raises:
        LuthierError: The folder holds no run, or the budget is not a length of time.
    """
    from luthier.run.tune import resume as run

    return run(folder, budget=budget, progress=progress)


def load(folder: str | Path) -> Result:
    """A finished run, to predict with and to look at.

    Raises:
        RunError: The folder holds no run, or the run has no model yet.
    """
    from luthier.run.result import Result

    return Result.load(folder)


def export(
    source: str | Path,
    to: str | Path,
    *,
    format: str = "safetensors",
    precision: str = "fp32",
    merge: bool = True,
    data: Data | None = None,
    sample: bool = True,
) -> Export:
    """Writes a finished model in a format that another program runs, verified or refused.

    Args:
        source: A run folder, or a model folder.
        to: A new or empty folder.
        format: ``safetensors``, ``onnx`` or ``torch``.
        precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``; not all formats have all.
        merge: False keeps a LoRA adapter apart from its base.
        data: Labelled rows to check on in place of the run's test rows; a model folder has none without.
        sample: Whether up to 64 of these rows, encoded, are kept in the export for `verify`.

    Returns:
        ``.folder``, ``.bytes``, and ``.check``: what was compared and how far it differed.

    Raises:
        Refused: It does not say what the evaluated model says; nothing is left of it.
        LuthierError: Anything that a user can mend.
    """
    from luthier.run.export import export as run

    return run(source, to, format=format, precision=precision, merge=merge, data=data, sample=sample)


def verify(folder: str | Path) -> Export:
    """Repeats the check of an export on this machine, from what the export holds itself.

    Raises:
        ModelError: It is no export, or a file of it is missing, changed or added.
        Refused: It does not say what the evaluated model said.
    """
    from luthier.run.export import verify as run

    return run(folder)
