"""From a folder to a `Backend`: what the folder holds, which exports of it lie beside, and which of them is
the faster here.

`find` looks at file names and manifests alone and imports nothing heavy, so that a wrong folder is told at
once.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from luthier.errors import ModelError, RunError, SettingError

if TYPE_CHECKING:
    import torch

    from luthier.deploy.export.base import Inputs, Logits
    from luthier.deploy.serve.backend import Backend, Encoded, Limits, Run

log = logging.getLogger("luthier.serve")

BACKENDS = ("auto", "torch", "onnx")
RUN, MODEL, ENSEMBLE, EXPORT = "run.json", "luthier.json", "ensemble.json", "export.json"
NEIGHBOURS = 500
"""Folders that are looked through for exports at most."""
ROUNDS = 3
"""Each made batch is computed so often by each backend, in turn; the shortest time counts."""


@dataclass(frozen=True)
class Candidate:
    """Something that can be served.

    Attributes:
        folder: A model folder or an export.
        kind: Which of the two.
        backend: ``torch`` for a model, the format for an export.
        alone: Whether an export was looked for beside it and none was there.
    """

    folder: Path
    kind: Literal["model", "export"]
    backend: str
    alone: bool = False


def find(place: str | Path, backend: str = "auto") -> list[Candidate]:
    """What a folder offers, the folder's own model first.

    Args:
        place: A run folder, a model folder (one network or an ensemble), or an export.
        backend: ``torch`` or ``onnx`` leaves those only; ``auto`` all that give the model's own numbers.

    Raises:
        SettingError: There is no such folder, or nothing of that backend in it.
        RunError: A run that has no model yet.
        ModelError: It holds nothing that can be served.
    """
    if backend not in BACKENDS:
        raise SettingError(f"There is no backend {backend!r}.", f"Known: {', '.join(BACKENDS)}.")
    folder = Path(place)
    if not folder.is_dir():
        raise SettingError(
            f"There is no folder {str(place)!r}.", "Give the folder of a finished run, a model or an export."
        )
    if (folder / EXPORT).is_file():
        return _export(folder, backend)
    model = folder
    if (folder / RUN).is_file():
        model = folder / "model"
        if not model.is_dir():
            raise RunError(
                f"The run {str(place)!r} has no finished model yet.",
                f"Finish it with: luthier resume {place}",
            )
    if not ((model / MODEL).is_file() or (model / ENSEMBLE).is_file()):
        raise ModelError(
            f"'{place}' is no finished model: it has neither {RUN} nor {MODEL}, {ENSEMBLE} or {EXPORT}.",
            "Give the folder of a finished run, the model/ folder in it, or an export.",
        )
    beside = [] if backend == "torch" else _beside(folder, model)
    own = Candidate(model, "model", "torch", alone=backend == "auto" and not beside)
    if backend == "onnx" and not beside:
        raise SettingError(
            f"No ONNX export of this model lies in '{folder}' or beside it.",
            f"Make one: luthier export {place} --to {folder.with_name(folder.name + '-onnx')} --format onnx",
        )
    return beside[:1] if backend == "onnx" else [own, *beside[:1]]


def open_backend(
    candidates: list[Candidate],
    *,
    threads: int | None = None,
    device: str = "auto",
    limits: Limits | None = None,
) -> Backend:
    """The fastest of some candidates on this machine, loaded.

    Args:
        candidates: As `find` gives them; if there are several, they are timed on made inputs.
        threads: CPU threads; None leaves them as they are.
        device: For torch; exports run on the CPU.
        limits: Inputs beyond are refused.

    Raises:
        ModelError: Damaged, changed, or not of a kind that can be loaded.
        MissingExtra: It needs a package that is not installed.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    if device == "auto" and torch.cuda.is_available():
        # An export runs on the CPU: there is nothing to be timed.
        candidates, device = candidates[:1], "cuda"
    opened = [_open(candidates[0], device)]
    if candidates[0].alone and device in ("auto", "cpu"):
        log.info(
            "an ONNX export beside the model would be timed, and is often faster: luthier export, or"
            " luthier deploy --onnx"
        )
    for other in candidates[1:]:
        try:
            opened.append(_open(other, device))
        except Exception as error:
            log.warning("the export in %s is left aside: %s", other.folder, str(error).splitlines()[0])
    chosen = _faster(opened)
    if limits is not None:
        chosen.limits = limits
    return chosen


def made_inputs(backend: Backend) -> list[list[Encoded]]:
    """Batches of encoded made inputs, of several lengths and sizes, to warm up with and to time."""
    from luthier.deploy.serve.base import Refused

    inputs = [_made(backend, words) for words in ((4, 16, 64) if backend.task.modality == "text" else (1,))]
    encoded = [one for one in backend.encode(inputs) if not isinstance(one, Refused)]
    return [[one] * rows for one, rows in itertools.product(encoded, (1, 8))]


# -- finding -----------------------------------------------------------------------------------------------


def _export(folder: Path, backend: str) -> list[Candidate]:
    target = _target(folder)
    if backend != "auto" and (backend == "onnx") != (target == "onnx"):
        raise SettingError(
            f"'{folder}' is an export to {target}, which --backend {backend} does not run.",
            "Leave --backend out, or give the folder of the run.",
        )
    return [Candidate(folder, "export", target)]


def _target(folder: Path) -> str:
    try:
        return str(json.loads((folder / EXPORT).read_text(encoding="utf-8"))["target"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"'{folder / EXPORT}' is damaged: {error!r}.", "Export the model again.") from None


def _beside(folder: Path, model: Path) -> list[Candidate]:
    """ONNX exports in float32 of exactly this model, in the folder or next to it."""
    wanted = _digests(model)
    places = [folder, folder.resolve().parent]
    if folder == model and (folder.resolve().parent / RUN).is_file():
        places.append(folder.resolve().parent.parent)
    found: list[Candidate] = []
    for place in places:
        for child in itertools.islice(sorted(_folders(place)), NEIGHBOURS):
            if child / EXPORT not in [one.folder / EXPORT for one in found] and _same(child, wanted):
                found.append(Candidate(child, "export", "onnx"))
    return found


def _folders(place: Path) -> list[Path]:
    try:
        return [child for child in place.iterdir() if (child / EXPORT).is_file()]
    except OSError:
        return []


def _same(folder: Path, wanted: list[str]) -> bool:
    try:
        values = json.loads((folder / EXPORT).read_text(encoding="utf-8"))
        models = [str(network["model"]) for network in values["networks"]]
        return bool(values["target"] == "onnx" and values["precision"] == "fp32" and models == wanted)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _digests(model: Path) -> list[str]:
    """Of each network's manifest, which holds the sums of all its files; an export names them."""
    if (model / ENSEMBLE).is_file():
        manifests = sorted((model / "parts").glob(f"*/{MODEL}"), key=lambda path: (len(path.parts[-2]), path))
    else:
        manifests = [model / MODEL]
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in manifests]


# -- loading -----------------------------------------------------------------------------------------------


def _open(candidate: Candidate, device: str) -> Backend:
    if candidate.kind == "export":
        return _open_export(candidate.folder)
    return _open_model(candidate.folder, device)


def _open_export(folder: Path) -> Backend:
    from luthier.deploy.runtime import Exported
    from luthier.deploy.serve.backend import Backend, Pass, Reading

    exported = Exported.load(folder)
    readings = [
        Reading(network.processor, network.recipe.max_length, network.recipe.image_size)
        for network in exported.networks
    ]
    passes = [
        Pass(place, (place,), _graph(network.logits)) for place, network in enumerate(exported.networks)
    ]
    task, combination = exported.task, exported.combination
    return Backend(
        exported.target.name, task, readings, passes, lambda parts: combination.outputs(task, parts)
    )


def _open_model(folder: Path, device: str) -> Backend:
    from luthier.deploy.predictor import Predictor
    from luthier.deploy.serve.backend import Backend, Pass, Reading
    from luthier.ensemble.saved import SavedEnsemble
    from luthier.monitor.features import reader

    predictor = Predictor.load(folder, device)
    saved, task, where = predictor.saved, predictor.task, predictor.device
    tokens = 4096 if where.type == "cpu" else 65536
    # Of texts, every number of rows up to the largest batch's is going to occur.
    rows = tokens if task.modality == "text" else 0
    passes: list[Pass] = []
    if not isinstance(saved, SavedEnsemble):
        reading = Reading(saved.processor, saved.recipe.max_length, saved.recipe.image_size)
        passes.append(Pass(0, (0,), _network(saved, where, reader(saved), rows)))
        return Backend("torch", task, [reading], passes, lambda parts: list(parts[0]), tokens)
    keys: dict[tuple[Any, ...], int] = {}
    readings: list[Reading] = []
    for body, group in saved.passes:
        first = saved.parts[group[0]]
        key = first.base["fingerprint"], first.recipe.max_length, first.recipe.image_size
        if key not in keys:
            keys[key] = len(readings)
            readings.append(Reading(first.processor, first.recipe.max_length, first.recipe.image_size))
        head = reader(saved) if 0 in group else None
        passes.append(Pass(keys[key], tuple(group), _network(body, where, head, rows)))
    return Backend("torch", task, readings, passes, lambda parts: saved.combined(task, parts), tokens)


def _graph(network: Logits) -> Run:
    """An export's network, as a `Pass` runs it."""
    from luthier.deploy.export.base import Featured

    def run(inputs: Inputs, features: bool) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        if features and isinstance(network, Featured):
            logits, read = network.both(inputs)
            return [logits], read
        return [network(inputs)], None

    return run


def _network(module: Any, device: Any, head: Any, rows: int = 0) -> Run:
    """A module, as a `Pass` runs it: it gives logits, or a list with those of each of its parts.

    Args:
        module: Is put on the device.
        device: Of torch.
        head: The layer in it whose input the features are, or None.
        rows: See `luthier.engine.packed.pack`.
    """
    import torch

    from luthier.engine.forward import place, precise, to_device, type_of
    from luthier.engine.packed import pack
    from luthier.monitor.features import Tap

    kind = type_of(place(module, device).eval())
    pack(module, rows)
    tap = Tap(head)

    @torch.inference_mode()
    def run(inputs: Inputs, features: bool) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        said = module(**to_device(inputs, device, kind))
        seen = tap.take(inputs.get("attention_mask")) if features and head is not None else None
        return [precise(part).cpu() for part in (said if isinstance(said, list) else [said])], seen

    return run


# -- timing ------------------------------------------------------------------------------------------------


def _faster(opened: list[Backend]) -> Backend:
    """The one whose times on the same made inputs have the lowest geometric mean."""
    if len(opened) == 1:
        return opened[0]
    batches = [made_inputs(backend) for backend in opened]
    times = [[math.inf] * len(batches[0]) for _ in opened]
    for _ in range(ROUNDS):
        for backend, items, best in zip(opened, batches, times, strict=True):
            for place, batch in enumerate(items):
                start = time.perf_counter()
                backend.compute(batch)
                best[place] = min(best[place], time.perf_counter() - start)
    means = [math.exp(sum(map(math.log, best)) / len(best)) for best in times]
    chosen = opened[means.index(min(means))]
    said = ", ".join(
        f"{backend.name} {1000 * mean:.1f} ms a batch" for backend, mean in zip(opened, means, strict=True)
    )
    log.info("timed on made inputs: %s; serving with %s", said, chosen.name)
    return chosen


def _made(backend: Backend, words: int) -> Any:
    kind = backend.task.input_kind
    if kind == "tokens":
        return ["made"] * words
    if kind == "text":
        return " ".join(["made"] * words)
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (256, 256), (120, 130, 140)).save(file, "PNG")
    return file.getvalue()
