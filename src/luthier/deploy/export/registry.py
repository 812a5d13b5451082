"""Finds export targets by name, and says which formats, precisions and adapters go together."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from luthier.deploy.export.base import PRECISIONS, ExportTarget
from luthier.errors import SettingError

GROUP = "luthier.exporters"
"""The entry point group under which a package names its targets: ``name = "module:Class"``."""

# Found also where the package runs from a source tree that was never installed.
_BUILT_IN = {
    "safetensors": "luthier.deploy.export.plain:Safetensors",
    "onnx": "luthier.deploy.export.graph:Onnx",
    "torch": "luthier.deploy.export.program:TorchProgram",
}


@cache
def _entries() -> dict[str, EntryPoint]:
    found = {name: EntryPoint(name, value, GROUP) for name, value in _BUILT_IN.items()}
    for entry in entry_points(group=GROUP):
        found.setdefault(entry.name, entry)
    return found


def names() -> list[str]:
    """Names of all targets, built-in ones first."""
    return list(_entries())


def get(name: str) -> ExportTarget:
    """The target of that name.

    Raises:
        SettingError: There is none, or it does not load, or it is not a target.
    """
    entries = _entries()
    if name not in entries:
        raise SettingError(f"Unknown export format {name!r}.", f"Known formats: {', '.join(entries)}.")
    module, _, attribute = entries[name].value.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SettingError(
            f"Export format {name!r} ({entries[name].value}) does not load: {error}."
        ) from error
    if not (isinstance(found, type) and issubclass(found, ExportTarget)):
        raise SettingError(
            f"Export format {name!r} ({entries[name].value}) is not a subclass of"
            " luthier.deploy.export.base.ExportTarget."
        )
    return found()


def resolve(name: str, precision: str, merge: bool) -> ExportTarget:
    """The target of that name, once it is sure that it can do what is asked.

    Raises:
        SettingError: The combination does not exist; lists those that do.
        MissingExtra: An optional dependency is not installed.
    """
    target = get(name) if name in names() else None
    if target is None:
        said = f"There is no export format {name!r}."
    elif precision not in target.precisions:
        known = "" if precision in PRECISIONS else "is no precision that is known, and "
        said = f"Precision {precision!r} {known}does not go with the format {name!r}."
    elif not (merge or target.adapters):
        said = f"The format {name!r} cannot keep an adapter apart (--no-merge)."
    else:
        target.require()
        return target
    raise SettingError(said, "What goes together: " + "; ".join(filter(None, map(_line, names()))) + ".")


def _line(name: str) -> str:
    """What a format goes together with; nothing of one from another package that does not load."""
    try:
        target = get(name)
    except SettingError:
        return ""
    kept = " (also with --no-merge)" if target.adapters else ""
    return f"{name} with {', '.join(target.precisions)}{kept}"
