"""The ``torch`` target: a ``torch.export`` program in a ``.pt2`` archive, read without pickle.

`torch.export.load` unpickles example inputs and some constants, and hands expressions in the archive's JSON
to sympy, which evaluates them. So the archive is written with none of the first, and looked through before
loading.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch

from luthier.deploy.export.base import ExportTarget, Featured, Inputs, Job, Logits, Written
from luthier.deploy.export.traced import silent, trace
from luthier.errors import LuthierError, ModelError

FILE = "model.pt2"
_AXES = "axes.json"
_PLAIN = re.compile(
    r"archive_format|archive_version|byteorder|\.data/version|\.data/serialization_id"
    r"|models/model\.json"
    r"|data/weights/model_weights_config\.json|data/weights/weight_\d+"
    r"|data/constants/model_constants_config\.json|data/constants/tensor_\d+"
    r"|data/sample_inputs/model\.pt"
)
_OPERATOR = re.compile(
    r"torch\.ops\.aten\.\w+\.\w+|_operator\.(?:getitem|add|sub|mul|floordiv|mod|neg|eq|ne|lt|le|gt|ge|and_)"
    r"|torch\.sym_(?:max|min|not|int|float|ite|sum)|math\.(?:ceil|floor|trunc)"
)
# What sympy writes: constructors of numbers, symbols and a few functions, nothing with a dot or an
# underscore in front.
_EXPRESSION = re.compile(r"(?:[A-Za-z0-9(),=' +*/-]|(?<=\d)\.(?=\d))*")
_WORDS = {
    "Symbol", "Integer", "Rational", "Float", "Add", "Mul", "Pow", "Max", "Min", "Mod", "PythonMod",
    "FloorDiv", "CeilDiv", "CleanDiv", "CeilToInt", "FloorToInt", "TruncToInt", "RoundToInt", "ToFloat",
    "IntTrueDiv", "FloatTrueDiv", "PowByNatural", "FloatPow", "Identity", "Where", "ModularIndexing", "Eq",
    "Ne", "Equality", "Unequality", "GreaterThan", "LessThan", "StrictGreaterThan", "StrictLessThan", "And",
    "Or", "Not", "positive", "nonnegative", "integer", "precision", "evaluate", "True", "False", "true",
    "false",
}  # fmt: skip
_SYMBOL = re.compile(r"[suz]\d+")


class TorchProgram(ExportTarget):
    """A graph of ATen operators that `torch.export.load` reads where torch is all there is. It gives the
    logits and, where they come from a linear layer, what that reads.
    """

    name: ClassVar[str] = "torch"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16")

    def write(self, job: Job) -> None:
        """See `ExportTarget.write`."""
        traced = trace(job)
        # Example inputs would be a pickle; guards would be Python code, and repeat what the input shapes say.
        traced.program._example_inputs = None
        traced.program._guards_code = []
        with silent():
            torch.export.save(traced.program, job.directory / FILE)
        (job.directory / _AXES).write_text(json.dumps(traced.axes), encoding="utf-8")

    def open(self, directory: Path, written: Written) -> Logits:
        """See `ExportTarget.open`."""
        path = directory / FILE
        inspect(path)
        try:
            with silent():
                program = torch.export.load(path)
                module = program.module(check_guards=False)
        except (OSError, ValueError, KeyError, RuntimeError, AssertionError, TypeError) as error:
            raise ModelError(f"'{path}' does not load: {error}") from error

        featured = len(program.graph_signature.user_outputs) > 1

        @torch.inference_mode()
        def both(inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
            first, second = module(**inputs)
            return first, second

        @torch.inference_mode()
        def logits(inputs: Inputs) -> torch.Tensor:
            found: torch.Tensor = module(**inputs)[0] if featured else module(**inputs)
            return found

        return Featured(logits, both) if featured else logits

    def axes(self, directory: Path, written: Written) -> dict[str, list[Any]]:
        """See `ExportTarget.axes`."""
        found: dict[str, list[Any]] = json.loads((directory / _AXES).read_text(encoding="utf-8"))
        return found


def inspect(path: Path) -> None:
    """Looks through an archive for all that loading it would run or unpickle.

    Raises:
        ModelError: It holds any such thing, or is no such archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = {_below_root(info.filename): info for info in archive.infolist()}
            for name, info in records.items():
                if not _PLAIN.fullmatch(name) or (name.endswith(".pt") and info.file_size):
                    raise _refused(path, f"the record {name!r}, which may be a pickle or code")
            if len(records) != len(archive.infolist()):
                raise _refused(path, "two records of one name")
            for kind in ("weights", "constants"):
                for entry in _json(archive, records, f"data/{kind}/model_{kind}_config.json")[
                    "config"
                ].values():
                    if entry["use_pickle"] or not re.fullmatch(r"(?:weight|tensor)_\d+", entry["path_name"]):
                        raise _refused(path, f"the pickle {entry['path_name']!r}")
            _inspect_graph(path, _json(archive, records, "models/model.json"))
    except LuthierError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ModelError(f"'{path}' is not a torch.export archive, or a damaged one: {error!r}.") from None


def _below_root(name: str) -> str:
    """A record's name without the folder that torch puts all of them in."""
    return name.partition("/")[2]


def _json(archive: zipfile.ZipFile, records: dict[str, zipfile.ZipInfo], name: str) -> dict[str, Any]:
    return dict(json.loads(archive.read(records[name])))


def _inspect_graph(path: Path, model: dict[str, Any]) -> None:
    if model.get("guards_code"):
        raise _refused(path, "guards, which are Python code")
    for key, value in _walk(model):
        if key == "target" and not _OPERATOR.fullmatch(str(value)):
            raise _refused(path, f"the operator {value!r}")
        if key == "expr_str" and not _is_expression(str(value)):
            raise _refused(path, f"the expression {value!r}")
        # The trees' reader imports the module that such a value names.
        if key in {"in_spec", "out_spec"} and "__enum__" in str(value):
            raise _refused(path, "a tree with values of a class of its own")
        if key in {"as_custom_obj", "as_operator"} and value is not None:
            raise _refused(path, f"an object of a class of its own ({key})")


def _is_expression(text: str) -> bool:
    """Whether a text says no more than arithmetic on sizes."""
    words = re.findall(r"[A-Za-z_]\w*", text)
    return bool(_EXPRESSION.fullmatch(text)) and all(
        word in _WORDS or _SYMBOL.fullmatch(word) for word in words
    )


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, however deep."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key, item
            yield from _walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item)


def _refused(path: Path, what: str) -> ModelError:
    return ModelError(
        f"'{path}' holds {what}: loading it could run code, so it is refused.", "Export the model again."
    )
