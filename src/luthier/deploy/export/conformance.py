"""What every export target must keep to, as checks that any implementation can run; a stranger's package too.

With pytest, one export being written for all of them::

    @pytest.fixture(scope="module")
    def trial(tmp_path_factory):
        return carry_out(Case(MyTarget(), model_directory, tmp_path_factory.mktemp("export")))

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_conforms(trial, check):
        check(trial)
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from luthier.deploy.export import sample as samples
from luthier.deploy.export.base import PRECISIONS, ExportTarget, Featured, Inputs, Job, Logits, Written
from luthier.deploy.export.check import LIMITS, compare
from luthier.errors import ModelError
from luthier.models.saved import SavedModel, load
from luthier.monitor.features import sampled


@dataclass(frozen=True)
class Case:
    """A target and a model for it.

    Attributes:
        target: The target.
        source: A finished model's directory.
        scratch: An empty folder to write in.
        precision: One of the target's.
        merge: As in `Job`.
        calibration: As in `Job`.
    """

    target: ExportTarget
    source: Path
    scratch: Path
    precision: str = "fp32"
    merge: bool = True
    calibration: Sequence[Inputs] = ()


@dataclass(frozen=True)
class Trial:
    """A case that was written, and what changed meanwhile.

    Attributes:
        case: The case.
        model: As it is loaded.
        given: The network that the target was given, after it wrote.
        folder: The export.
        source_changed: Whether the model's directory is another than before.
    """

    case: Case
    model: SavedModel
    given: SavedModel
    folder: Path
    source_changed: bool

    @property
    def written(self) -> Written:
        """What the export is opened by."""
        model, case = self.model, self.case
        return Written.of(model.form, model.recipe, model.processor, case.precision, case.merge)

    def open(self, folder: Path | None = None) -> Logits:
        """The export, or a copy of it, opened."""
        return self.case.target.open(folder or self.folder, self.written)

    @property
    def batches(self) -> list[Inputs]:
        """Inputs that try all axes that are free."""
        axes = self.case.target.axes(self.folder, self.written)
        return [samples.ready(inputs, self.model.processor) for inputs in samples.made(self.model, axes)]

    @contextmanager
    def copy(self) -> Iterator[Path]:
        """A copy in another place, to be changed at will; the first is away meanwhile."""
        away = self.folder.with_name("away")
        with tempfile.TemporaryDirectory() as elsewhere:
            copied = Path(shutil.copytree(self.folder, Path(elsewhere) / "copy"))
            self.folder.rename(away)
            try:
                yield copied
            finally:
                away.rename(self.folder)


def carry_out(case: Case) -> Trial:
    """Writes the export that the checks look at."""
    given = load(case.source)
    before = _contents(case.source)
    folder = case.scratch / "export"
    folder.mkdir()
    case.target.write(Job(given, case.source, folder, case.precision, case.merge, list(case.calibration)))
    if not (folder / "config.json").is_file():
        shutil.copyfile(case.source / "config.json", folder / "config.json")
    return Trial(case, load(case.source), given, folder, _contents(case.source) != before)


def repeats_the_logits(trial: Trial) -> None:
    """Also of padded, odd-sized, single-item, shortest and longest batches, and of all sizes that are
    free."""
    _agree(trial, trial.open())


def says_which_axes_are_free(trial: Trial) -> None:
    """Every input of the model is named, and no batch is of a fixed size."""
    axes = trial.case.target.axes(trial.folder, trial.written)
    batch = trial.batches[0]
    _require(set(axes) == set(batch), f"the inputs are {sorted(batch)}, the axes those of {sorted(axes)}")
    for name, sizes in axes.items():
        _require(len(sizes) == batch[name].ndim, f"{name} has {batch[name].ndim} axes, not {len(sizes)}")
        _require(isinstance(sizes[0], str), f"{name} takes batches of {sizes[0]} only")
        _require(all(isinstance(size, int | str) and size for size in sizes), f"{name} has axes {sizes}")


def gives_float32_on_the_cpu(trial: Trial) -> None:
    """Whatever it computes in."""
    logits = trial.open()(trial.batches[0])
    _require(logits.dtype == torch.float32, f"logits are {logits.dtype}")
    _require(logits.device.type == "cpu", f"logits are on {logits.device}")
    _require(not logits.requires_grad, "logits carry a graph")


def tells_what_the_head_reads(trial: Trial) -> None:
    """Where it tells that at all: the same as monitoring has of the model itself, and the same logits."""
    opened = trial.open()
    if not isinstance(opened, Featured):
        return
    precision = trial.case.precision
    calibrated = trial.case.target.needs_calibration(trial.written.family, precision)
    for inputs in trial.case.calibration if calibrated else trial.batches:
        logits, features = opened.both(inputs)
        _require(torch.equal(logits, opened(inputs)), "logits are others when features are asked for")
        rows = len(logits)
        with torch.inference_mode(), sampled(trial.model, rows, rows) as expected:
            trial.model(**inputs)
        _, relative = compare(torch.from_numpy(np.stack(expected)), features)
        _require(relative <= LIMITS[precision], f"features differ by {relative:.2g} of their size")


def writes_plain_files_and_only_in_its_folder(trial: Trial) -> None:
    """No links, nothing beside the folder, and the model's directory untouched."""
    beside = [path.name for path in trial.case.scratch.iterdir() if path != trial.folder]
    _require(not beside, f"{beside} lie beside the folder")
    everything = list(trial.folder.rglob("*"))
    strange = [path for path in everything if path.is_symlink() or not (path.is_file() or path.is_dir())]
    _require(not strange, f"{strange} are no plain files")
    _require(not trial.source_changed, "the model's own directory changed")


def names_no_files_of_this_machine(trial: Trial) -> None:
    """Where it was written, and the Python that wrote it, are nobody's business."""
    names = [str(trial.case.scratch), str(Path(torch.__file__).parents[1])]
    for path in trial.folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        found = [name for name in names if name.encode() in content]
        _require(not found, f"{path.name} names {found}")


def leaves_the_model_as_it_was(trial: Trial) -> None:
    """Weights, types and mode of the network that it was given."""
    before, after = trial.model.state_dict(), trial.given.state_dict()
    same = [name for name in before if name in after and torch.equal(before[name], after[name])]
    types = all(after[name].dtype == before[name].dtype for name in same)
    _require(len(same) == len(before) == len(after) and types, "the network's weights changed")
    _require(not any(module.training for module in trial.given.modules()), "the network is in training mode")


def opens_wherever_it_is_put(trial: Trial) -> None:
    """Nothing in it remembers where it was written."""
    with trial.copy() as copied:
        logits = trial.open(copied)
    _agree(trial, logits)


def refuses_a_folder_without_its_files(trial: Trial) -> None:
    """With an error that a user can read."""
    with trial.copy() as copied:
        for path in copied.rglob("*"):
            if path.is_file() and path.name != "config.json":
                path.unlink()
        try:
            trial.open(copied)
        except ModelError:
            return
    raise AssertionError("an empty folder opened")


def declares_what_it_can(trial: Trial) -> None:
    """Its name and precisions, of which float32 is always one, and that what it needs is there."""
    target = trial.case.target
    _require(
        bool(target.name) and set(target.precisions) <= set(PRECISIONS), "its precisions are unknown ones"
    )
    _require("fp32" in target.precisions, "it cannot write float32")
    target.require()


CHECKS: tuple[Callable[[Trial], None], ...] = (
    repeats_the_logits,
    says_which_axes_are_free,
    gives_float32_on_the_cpu,
    tells_what_the_head_reads,
    writes_plain_files_and_only_in_its_folder,
    names_no_files_of_this_machine,
    leaves_the_model_as_it_was,
    opens_wherever_it_is_put,
    refuses_a_folder_without_its_files,
    declares_what_it_can,
)


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _agree(trial: Trial, logits: Logits) -> None:
    """Compares with the model itself."""
    precision = trial.case.precision
    calibrated = trial.case.target.needs_calibration(trial.written.family, precision)
    for inputs in trial.batches:
        _require(bool(logits(inputs).isfinite().all()), "logits are not finite")
    # Random inputs lie outside ranges that were measured.
    for inputs in trial.case.calibration if calibrated else trial.batches:
        with torch.inference_mode():
            expected = trial.model(**inputs)
        mask = inputs.get("attention_mask") if trial.model.form.level == "token" else None
        _, relative = compare(expected, logits(inputs), mask)
        shapes = {name: tuple(value.shape) for name, value in inputs.items()}
        _require(relative <= LIMITS[precision], f"logits of {shapes} differ by {relative:.2g} of their size")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)
