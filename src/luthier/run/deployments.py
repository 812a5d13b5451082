"""Deployments of runs, exports and models: gathers what goes along with a model; the work is in
`deploy.versions`."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from luthier.deploy.listing import summary
from luthier.deploy.opening import kind_of, prove
from luthier.deploy.packing import Candidate
from luthier.deploy.serve.opening import find
from luthier.deploy.state import Role
from luthier.deploy.versions import Change, Deployment
from luthier.deploy.versions import deployments as all_deployments
from luthier.errors import ModelError, RunError, SettingError
from luthier.run.folder import MANIFEST, RunFolder

REFERENCE = "reference"
_TOLD = ("run", "name", "created", "task", "metric", "score", "trials", "spent", "best", "ensemble")


def deploy_model(
    source: str | Path,
    to: str,
    *,
    role: str | None = None,
    onnx: bool = False,
    registry: str | Path | None = None,
    force: bool = False,
    reason: str = "",
) -> Change:
    """Copies a finished model into a deployment, as its next version, once it has answered.

    An ONNX export of the model in float32 that lies in its folder or beside it comes along.

    Args:
        source: A run folder, an export, or a model folder.
        to: Name of the deployment.
        role: ``full``, ``canary:10%``, ``shadow`` or ``staged``; None: the first version is in full charge,
            a later one waits.
        onnx: Whether such an export is made where there is none, and checked as `export` does. A server takes
            it where it is the faster.
        registry: Folder of all deployments; None: ``LUTHIER_REGISTRY``, or ``deployments``.
        force: Puts it in charge against the gate.
        reason: For the history.

    Returns:
        ``.version``, ``.changed`` (False where the same content was there already), ``.said`` by the gate,
        and the ``.state``.

    Raises:
        SettingError: There is no such role, or ``onnx`` was asked for of an export.
        MissingExtra: The packages that ONNX needs are not installed.
        RunError: The run has no finished model, or the registry cannot be written.
        ModelError: The model does not open, or does not answer.
        Refused: The gate does not let it in charge, or the export does not repeat the model.
    """
    wanted = None if role is None else Role.parse(role)
    place = Deployment(to, registry)
    with tempfile.TemporaryDirectory() as scratch:
        found = candidate(source)
        if onnx and found.graph is None:
            found = replace(found, graph=_graph(source, found, Path(scratch) / "onnx"))
        return place.add(found, prove, role=wanted, force=force, reason=reason)


def promote(
    name: str,
    version: int,
    role: str = "full",
    *,
    registry: str | Path | None = None,
    force: bool = False,
    reason: str = "",
) -> Change:
    """Gives a deployed version another role; servers follow within seconds.

    Args:
        name: Of the deployment.
        version: Its number.
        role: ``full``, ``canary:10%``, ``shadow`` or ``staged``.
        registry: As in `deploy_model`.
        force: Against the gate, and though the version has failed.
        reason: For the history.

    Raises:
        SettingError: There is no such version, it has failed, or it is the one in full charge.
        Refused: The gate does not let it in charge.
    """
    return Deployment(name, registry).promote(version, Role.parse(role), force=force, reason=reason)


def rollback(
    name: str, to: int | None = None, *, registry: str | Path | None = None, reason: str = ""
) -> Change:
    """Ends a canary where one is running, otherwise puts the version before in full charge again.

    Args:
        name: Of the deployment.
        to: Puts this version in full charge instead.
        registry: As in `deploy_model`.
        reason: For the history.

    Returns:
        ``.version``, the one in full charge, and the ``.state``.

    Raises:
        SettingError: There is nothing to go back to, no such version, or it has failed.
    """
    return Deployment(name, registry).rollback(to, reason=reason)


def deployments(name: str | None = None, *, registry: str | Path | None = None) -> list[dict[str, Any]]:
    """What is deployed: versions, who is in charge, test results, what servers counted, and the history.

    Args:
        name: Of one deployment; None: all of them.
        registry: As in `deploy_model`.

    Returns:
        Plain values, as `luthier.deploy.listing.summary` gives them.

    Raises:
        RunError: There is no such deployment.
    """
    found = all_deployments(registry) if name is None else [Deployment(name, registry)]
    return [summary(deployment) for deployment in found]


def candidate(source: str | Path) -> Candidate:
    """What a run, an export or a model folder brings to a deployment.

    Raises:
        RunError: The run has no finished model.
        ModelError: It is none of the three.
    """
    place = Path(source)
    reference = place / REFERENCE
    if (place / MANIFEST).is_file():
        return _of_run(RunFolder(place))
    kind = kind_of(place)
    if kind is None:
        raise ModelError(
            f"'{source}' is no run, no export and no finished model.", "`luthier runs` lists the runs here."
        )
    return Candidate(
        place,
        str(place.resolve()),
        reference=reference if reference.is_dir() else None,
        graph=None if kind == "export" else _beside(place),
    )


def _of_run(folder: RunFolder) -> Candidate:
    manifest = folder.read_manifest()
    if not folder.model.is_dir() or not folder.evaluation.is_file():
        raise RunError(
            f"The run '{folder.path}' has no finished model yet (status: {manifest.get('status')}).",
            f"Finish it with: luthier resume {folder.path}",
        )
    reference = folder.path / REFERENCE
    return Candidate(
        folder.model,
        str(folder.path.resolve()),
        json.loads(folder.evaluation.read_text(encoding="utf-8")),
        str(manifest.get("data_fingerprint") or ""),
        # Not its settings: a store's URL among them may hold a password.
        {name: manifest.get(name) for name in _TOLD} | {"parent": (manifest.get("from") or {}).get("run")},
        reference if reference.is_dir() else None,
        _beside(folder.path),
    )


def _beside(place: Path) -> Path | None:
    """The ONNX export of a run or a model that a server of it would find."""
    return next((one.folder for one in find(place) if one.kind == "export"), None)


def _graph(source: str | Path, candidate: Candidate, to: Path) -> Path:
    """Makes an ONNX export."""
    if kind_of(candidate.model) == "export":
        raise SettingError(
            f"'{source}' is an export already, and is served as it is.", "Leave --onnx out, or name the run."
        )
    from luthier.run.export import export

    return export(source, to, format="onnx").folder
