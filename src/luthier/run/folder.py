"""The run folder: what lies where, and the manifest that says what the run is and how far it came."""

from __future__ import annotations

import datetime
import json
import re
import shutil
from pathlib import Path
from typing import Any

from luthier.errors import RunError

MANIFEST = "run.json"


class RunFolder:
    """Paths of one run, and its manifest. Every file is written whole or not at all.

    Args:
        path: The folder; it need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest = self.path / MANIFEST
        self.model = self.path / "model"
        self.single = self.path / "single"
        self.checkpoints = self.path / "checkpoints"
        self.outputs = self.path / "outputs"
        self.database = self.path / "study.sqlite"
        self.trials = self.path / "trials.csv"
        self.predictions = self.path / "predictions.csv"
        self.suspects = self.path / "suspects.csv"
        self.evaluation = self.path / "evaluation.json"
        self.report = self.path / "report.html"
        self.reference = self.path / "reference"
        self.data = self.path / "data"

    @classmethod
    def new(cls, wanted: str | None, name: str, *, needed: int) -> RunFolder:
        """Makes the folder of a new run.

        Args:
            wanted: The user's choice, or None for ``runs/<name>-<time>``.
            name: The run's name.
            needed: Bytes that the run may need.

        Raises:
            RunError: It holds something, cannot be written, or the disk has too little room.
        """
        if wanted is None:
            stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
            wanted = str(
                Path("runs") / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', name).strip('-.') or 'run'}-{stamp}"
            )
        path = Path(wanted)
        if path.exists() and not path.is_dir():
            raise RunError(f"The output folder {wanted!r} is a file.", "Give --out a new or empty folder.")
        if path.is_dir() and any(path.iterdir()):
            hint = "Give --out a new or empty folder"
            hint += (
                f", or continue that run with: luthier resume {path}" if (path / MANIFEST).exists() else "."
            )
            raise RunError(f"The output folder {wanted!r} is not empty.", hint)
        try:
            path.mkdir(parents=True, exist_ok=True)
            probe = path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise RunError(
                f"Cannot write to the output folder {wanted!r}: {error.strerror}.",
                "Give --out a folder you may write to.",
            ) from None
        if (free := shutil.disk_usage(path).free) < needed:
            raise RunError(
                f"The disk of {wanted!r} has {free / 2**20:.0f} MB free; "
                f"this run may need {needed / 2**20:.0f} MB.",
                "Free some space, give --out a folder on another disk, or keep fewer checkpoints (--keep 1).",
            )
        return cls(path)

    def write_manifest(self, values: dict[str, Any]) -> None:
        """Writes the manifest anew.

        Raises:
            RunError: It cannot be written.
        """
        write_text(self.manifest, json.dumps(values, indent=1, default=str) + "\n")

    def read_manifest(self) -> dict[str, Any]:
        """The manifest.

        Raises:
            RunError: The folder holds no run, or a damaged one.
        """
        try:
            values = json.loads(self.manifest.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(
                f"{str(self.path)!r} is not a run folder: it has no {MANIFEST}.",
                "`luthier runs` lists the runs here.",
            ) from None
        except (OSError, ValueError) as error:
            raise RunError(f"{str(self.manifest)!r} cannot be read: {error}.") from None
        if not isinstance(values, dict) or "settings" not in values:
            raise RunError(f"{str(self.manifest)!r} does not describe a run.")
        return values


def write_text(path: Path, text: str) -> None:
    """Replaces a file's text in one step, as UTF-8; what UTF-8 cannot say, as halves of surrogate pairs in a
    user's data, becomes a question mark.

    Raises:
        RunError: It cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        # Line ends stay as they are: a table's fields may hold some of their own.
        partial.write_text(text, encoding="utf-8", errors="replace", newline="")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise RunError(
            f"Cannot write {str(path)!r}: {error.strerror}.", "Free some space, then resume the run."
        ) from None


def list_runs(root: Path) -> list[dict[str, Any]]:
    """The runs directly below a folder, newest first.

    Each has name, folder, status, task, metric, score, trials, spent and created; and ``from``, the name of
    the run that it continues.

    Raises:
        RunError: There is no such folder.
    """
    if not root.is_dir():
        raise RunError(
            f"There is no folder {str(root)!r}.", "Runs are kept in ./runs unless --out said otherwise."
        )
    rows = []
    for manifest in root.glob(f"*/{MANIFEST}"):
        try:
            values = RunFolder(manifest.parent).read_manifest()
        except RunError:
            continue
        keys = ("name", "status", "task", "metric", "score", "trials", "spent", "created")
        parent = (values.get("from") or {}).get("name")
        found = {key: values.get(key) for key in keys} | {"from": parent}
        rows.append({"folder": str(manifest.parent), **found})
    return sorted(rows, key=lambda row: str(row["created"]), reverse=True)
