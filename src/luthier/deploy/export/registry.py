"""Finds export targets by name, and says which formats, precisions and adapters go together."""

from __future__ import annotations

from luthier.deploy.export.base import PRECISIONS, ExportTarget
from luthier.errors import SettingError
from luthier.plugins import Plugins

GROUP = "luthier.exporters"
"""The entry point group under which a package names its targets: ``name = "module:Class"``."""

_BUILT_IN = {
    "safetensors": "luthier.deploy.export.plain:Safetensors",
    "onnx": "luthier.deploy.export.graph:Onnx",
    "torch": "luthier.deploy.export.program:TorchProgram",
}


_PLUGINS = Plugins(GROUP, "export format", "formats", _BUILT_IN)


def names() -> list[str]:
    """Names of all targets, built-in ones first."""
    return _PLUGINS.names()


def get(name: str) -> ExportTarget:
    """The target of that name.

    Raises:
        SettingError: There is none, or another package's does not load, or it is not a target.
    """
    kind: type[ExportTarget] = _PLUGINS.load(name, ExportTarget)
    return kind()


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
