"""One version's folder: what goes into it, and whether it is still what was put there.

    model/            a copy of the model folder
    onnx/             an ONNX export of it, where there is one; a server takes it where it is faster
    reference/        what monitoring compares with
    evaluation.json   of its run
    version.json      checksums and facts, written last

Which versions there are, and what they do, is the affair of `luthier.deploy.versions`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from luthier.deploy import content
from luthier.deploy.gate import Beside, Facts
from luthier.deploy.opening import Proof
from luthier.deploy.state import Version, now
from luthier.errors import ModelError

MODEL, GRAPH, REFERENCE = "model", "onnx", "reference"
MANIFEST = "version.json"
FORMAT = 1


@dataclass(frozen=True)
class Candidate:
    """What is deployed.

    Attributes:
        model: Its model folder.
        source: Where it is from, in words.
        evaluation: What ``evaluation.json`` of its run holds, or None.
        data_fingerprint: Of the data of its run; empty where it is not known.
        run: Further values of its run, for the record: ``run``, its id; ``parent``, that of the run that it
            continued; and others.
        reference: A folder of reference statistics for monitoring, or None.
        graph: An ONNX export of exactly this model, or None.
    """

    model: Path
    source: str
    evaluation: dict[str, Any] | None = None
    data_fingerprint: str = ""
    run: dict[str, Any] | None = None
    reference: Path | None = None
    graph: Path | None = None

    @property
    def digest(self) -> str:
        """One sha256 over all that answers."""
        return _digest(content.sums(self.model), None if self.graph is None else content.sums(self.graph))


def pack(candidate: Candidate, place: Path, prove: Callable[[Path], Proof]) -> Version:
    """Fills a folder with all that belongs to a version.

    Args:
        candidate: What is deployed.
        place: An empty folder.
        prove: Opens the copy of the model and has it answer, as `luthier.deploy.opening.prove` does.

    Returns:
        The version, not numbered yet.

    Raises:
        ModelError: The model does not open, or does not answer.
        OSError: It cannot be read or written.
    """
    files = content.copy(candidate.model, place / MODEL)
    graph = None if candidate.graph is None else content.copy(candidate.graph, place / GRAPH)
    proof = prove(place / MODEL)
    if candidate.evaluation is not None:
        content.write(place / "evaluation.json", json.dumps(candidate.evaluation, indent=1) + "\n")
    reference = candidate.reference or place / MODEL / REFERENCE
    if reference.is_dir():
        content.copy(reference, place / REFERENCE)
    size = sum(row["bytes"] for row in [*files.values(), *(graph or {}).values()])
    version = Version(
        0, _digest(files, graph), now(), candidate.source, proof.kind, size, _facts(candidate, proof)
    )
    about = {"format": FORMAT, **asdict(version), "run": candidate.run, "files": files}
    del about["number"], about["failed"]
    if graph is not None:
        about[GRAPH] = graph
    content.write(place / MANIFEST, json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    return version


def check(place: Path) -> None:
    """Makes sure that what a version answers with is what was deployed.

    Raises:
        ModelError: A file is missing, changed or added.
    """
    path = place / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        expected, known = {MODEL: dict(values["files"])}, values["format"]
        if GRAPH in values:
            expected[GRAPH] = dict(values[GRAPH])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"'{path}' cannot be read: {error}.", "Deploy the model again.") from None
    if known != FORMAT:
        raise ModelError(f"'{path}' is of format {known!r}; this version reads {FORMAT}.", "Upgrade Luthier.")
    for folder in (MODEL, GRAPH):
        wanted = expected.get(folder, {})
        found = content.sums(place / folder) if folder in expected or (place / folder).exists() else {}
        for name in sorted({*wanted, *found}):
            if found.get(name) != wanted.get(name):
                how = "missing" if name not in found else "added" if name not in wanted else "changed"
                raise ModelError(f"'{place / folder / name}' was {how} since it was deployed.")


def _digest(files: dict[str, Any], graph: dict[str, Any] | None) -> str:
    return content.digest({**files, **{f"../{GRAPH}/{name}": row for name, row in (graph or {}).items()}})


def _facts(candidate: Candidate, proof: Proof) -> Facts:
    """What the gate will go by: the run's evaluation, or what an export says of it."""
    recorded = proof.recorded or {}
    told = candidate.evaluation or recorded.get("evaluation") or {}
    return Facts(
        task=proof.task,
        labels=proof.labels,
        metric=str(told.get("metric") or ""),
        maximize=bool(told.get("maximize", proof.maximize)),
        metrics=dict(told.get("metrics") or {}),
        intervals={name: (low, high) for name, (low, high) in (told.get("intervals") or {}).items()},
        n=int(told.get("n") or 0),
        data_fingerprint=candidate.data_fingerprint or str(recorded.get("data_fingerprint") or ""),
        run=str((candidate.run or {}).get("run") or (recorded.get("run") or {}).get("id") or ""),
        beside=_beside(candidate),
    )


def _beside(candidate: Candidate) -> Beside | None:
    """What a run that continued another one says of the two on the test rows of that one."""
    parent = (candidate.run or {}).get("parent")
    told = ((candidate.evaluation or {}).get("continued") or {}).get("old")
    if not parent or not told:
        return None
    low, high = told.get("interval") or (None, None)
    return Beside(str(parent), int(told["n"]), float(told["gain"]), (low, high))
