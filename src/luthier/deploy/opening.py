"""Opens a finished model folder of any kind, and proves that it answers."""

from __future__ import annotations

import io
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from luthier.errors import LuthierError, ModelError

if TYPE_CHECKING:
    from luthier.deploy.predicts import Predicts

Kind = Literal["model", "ensemble", "export"]
# Written last by whoever writes such a folder. Named here, so that a look at a folder imports no torch.
MANIFESTS: dict[Kind, str] = {"export": "export.json", "ensemble": "ensemble.json", "model": "luthier.json"}


@dataclass(frozen=True)
class Proof:
    """What was found of a model that answers.

    Attributes:
        kind: Of its folder.
        task: Name of its task.
        labels: Of its outputs, in order.
        maximize: Whether more of its task's metric is better.
        recorded: What an export's manifest says of its run: ``evaluation``, ``data_fingerprint``; empty of
            others.
    """

    kind: Kind
    task: str
    labels: tuple[str, ...]
    maximize: bool = True
    recorded: dict[str, Any] | None = None


def kind_of(folder: Path) -> Kind | None:
    """What a folder holds, by its manifest; None where it is no finished model."""
    return next((kind for kind, name in MANIFESTS.items() if (folder / name).is_file()), None)


def open_model(folder: Path) -> Predicts:
    """A model, an ensemble or an export on the CPU, checked against its own checksums.

    Raises:
        ModelError: It is none, or files were changed.
        MissingExtra: Its format needs a package that is not installed.
    """
    if kind_of(folder) == "export":
        from luthier.deploy.runtime import Exported

        return Exported.load(folder)
    from luthier.deploy.predictor import Predictor

    return Predictor.load(folder, "cpu")


def prove(folder: Path) -> Proof:
    """Opens a model and has it answer one made input.

    Raises:
        ModelError: It does not open, or what it says is no number.
    """
    opened = open_model(folder)
    try:
        _answer(opened)
    except LuthierError:
        raise
    except Exception as error:
        raise ModelError(f"'{folder}' opens, but does not answer a made input: {error!r}.") from error
    task, kind, recorded = opened.task, kind_of(folder) or "model", None
    if kind == "export":
        manifest = json.loads((folder / MANIFESTS["export"]).read_text(encoding="utf-8"))
        recorded = {name: manifest.get(name) for name in ("evaluation", "data_fingerprint", "run")}
    return Proof(kind, task.name, tuple(map(str, task.label_names)), task.maximize, recorded)


def _answer(opened: Predicts) -> None:
    """Has a model answer one made input.

    Raises:
        ModelError: What it says is no number.
    """
    import numpy as np

    with tempfile.TemporaryDirectory() as place:
        made = made_input(opened.task.input_kind)
        if isinstance(made, bytes):
            (Path(place) / "made.png").write_bytes(made)
            made = "made.png"
        frame = opened.frame([made])
        outputs = opened.outputs(frame, place)
        opened.task.decode(outputs, frame)
    if not all(np.isfinite(output).all() for output in outputs):
        raise ModelError("What the model says of a made input is no number.", "Train it again.")


def made_input(kind: str) -> Any:
    """An input that any model reads.

    Args:
        kind: ``text``, ``tokens`` or ``image``.

    Returns:
        A text, a list of words, or the bytes of a PNG file of 64 by 64 pixels.
    """
    if kind == "tokens":
        return ["one", "made", "input"]
    if kind == "image":
        from PIL import Image

        file = io.BytesIO()
        Image.new("RGB", (64, 64), (96, 128, 160)).save(file, "PNG")
        return file.getvalue()
    return "one made input"
