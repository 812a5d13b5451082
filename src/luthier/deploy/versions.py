"""Deployments on disk: finished models in numbered versions, and the one file that says which is in charge.

    deployments/NAME/state.json             who does what, and the history
    deployments/NAME/versions/N/            a version's folder; see `luthier.deploy.packing`
    deployments/NAME/serving/               what servers have counted

What may follow what is `luthier.deploy.state`'s affair; nothing is served here, and no torch is imported.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from luthier.deploy import content, gate, packing
from luthier.deploy.gate import Facts, Verdict
from luthier.deploy.lock import locked
from luthier.deploy.opening import Proof
from luthier.deploy.packing import Candidate
from luthier.deploy.state import DeploymentState, Role, Version
from luthier.errors import LuthierError, Refused, RunError, SettingError

REGISTRY = "deployments"
VARIABLE = "LUTHIER_REGISTRY"
STATE = "state.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
SECONDS = 30.0
"""How long a change waits for another one: changes take milliseconds."""
COPYING = 600.0
"""How long a deploy waits for another one: that one copies a model and opens it."""


@dataclass(frozen=True)
class Change:
    """What a change came to.

    Attributes:
        state: Afterwards.
        version: The one that it was about.
        changed: False where all was so already.
        said: What the gate says; empty where it was not asked.
    """

    state: DeploymentState
    version: Version
    changed: bool
    said: str = ""


class Deployment:
    """One name's versions. Any number of processes may have one for the same name.

    Args:
        name: Letters, digits, ``_``, ``.`` and ``-``; at most 64.
        registry: The folder of all deployments; None: what the environment's ``LUTHIER_REGISTRY`` says, or
            ``deployments``.

    Raises:
        SettingError: The name is none.
    """

    def __init__(self, name: str, registry: str | Path | None = None) -> None:
        if not NAME.fullmatch(name):
            raise SettingError(
                f"{name!r} is not a name of a deployment.",
                "Use up to 64 letters, digits, '_', '.' and '-', the first a letter or a digit.",
            )
        self.name = name
        self.registry = registry_folder(registry)
        self.folder = self.registry / name
        self.versions = self.folder / "versions"
        self.serving = self.folder / "serving"
        self.file = self.folder / STATE

    @property
    def exists(self) -> bool:
        """Whether anything is deployed under the name."""
        return self.file.is_file()

    @property
    def state(self) -> DeploymentState:
        """As it is on disk.

        Raises:
            RunError: There is none, or it is damaged.
        """
        try:
            return DeploymentState.from_json(json.loads(self.file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise self._missing() from None
        except (OSError, ValueError) as error:
            raise RunError(f"'{self.file}' cannot be read: {error}.") from None
        except RunError as error:
            raise RunError(f"'{self.file}': {error.message}", error.hint) from None

    @property
    def stamp(self) -> tuple[int, int, int] | None:
        """Differs once the state was changed; costs one look at a file. None where there is no state."""
        try:
            found = self.file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def place(self, number: int) -> Path:
        """The folder of a version."""
        return self.versions / str(number)

    def model(self, number: int) -> Path:
        """The model folder of a version."""
        return self.place(number) / packing.MODEL

    def graph(self, number: int) -> Path | None:
        """The ONNX export that a version's model has beside it; None where there is none."""
        place = self.place(number) / packing.GRAPH
        return place if place.is_dir() else None

    # -- changes ----------------------------------------------------------------------------

    def change(self, how: Callable[[DeploymentState], DeploymentState]) -> DeploymentState:
        """Changes the state in one step: killed at any point, the old or the new one is there.

        Args:
            how: Given the state on disk, gives the new one, or the same; what it raises leaves all as it was.

        Raises:
            RunError: It cannot be written, or another process has it locked.
        """
        if not self.exists:
            raise self._missing()
        try:
            with locked(self.folder / "lock", seconds=SECONDS, what=f"The deployment {self.name!r}"):
                before = self.state
                after = how(before)
                if after is not before:
                    self._write(after)
                return after
        except OSError as error:
            raise self._unwritable(error) from error

    def add(
        self, candidate: Candidate, prove: Callable[[Path], Proof], *, role: Role | None = None,
        force: bool = False, reason: str = "",
    ) -> Change:  # fmt: skip
        """Copies a model in as the next version, which is there once it has answered, or not at all.

        Args:
            candidate: The model.
            prove: Opens the copy and has it answer, as `luthier.deploy.opening.prove` does.
            role: What the version is to be; the first one is in full charge all the same. None: staged.
            force: Lets it in charge against the gate.
            reason: For the history.

        Raises:
            ModelError: The model does not open, or does not answer.
            Refused: The gate does not let it in charge; then nothing is deployed.
            RunError: It cannot be written.
        """
        role = role or Role("staged")
        try:
            self.versions.mkdir(parents=True, exist_ok=True)
            content.sync(self.registry)
            with locked(self.folder / "deploying", seconds=COPYING, what=f"The deployment {self.name!r}"):
                before = self.state if self.exists else DeploymentState()
                self._sweep(before)
                known = before.find(candidate.digest)
                if known is not None:
                    return Change(before, known, changed=False)
                return self._add(candidate, prove, role, force=force, reason=reason)
        except OSError as error:
            raise self._unwritable(error) from error

    def promote(self, number: int, role: Role, *, force: bool = False, reason: str = "") -> Change:
        """Gives a version another role.

        Args:
            number: The version.
            role: What it is to be.
            force: Against the gate, and though it has failed.
            reason: For the history.

        Raises:
            SettingError: There is no such version, it has failed, or it is the one in full charge.
            Refused: The gate does not let it in charge.
        """
        found: list[Change] = []

        def how(state: DeploymentState) -> DeploymentState:
            version = state.known(number)
            after = state.promote(number, role, force=force, reason=reason)
            verdict = None if after is state else self._pass(version.facts, state, role, force=force)
            if verdict is not None and not verdict.passed and not reason:
                after = state.promote(number, role, force=force, reason=f"forced: {verdict.text}")
            said = verdict.text if verdict else ""
            found.append(Change(after, after.known(number), after is not state, said))
            return after

        self.change(how)
        return found[-1]

    def rollback(self, to: int | None = None, *, reason: str = "") -> Change:
        """Back to what was good; see `DeploymentState.rollback`."""
        found: list[Change] = []

        def how(state: DeploymentState) -> DeploymentState:
            after = state.rollback(to, reason=reason)
            found.append(Change(after, after.known(after.full), after is not state))
            return after

        self.change(how)
        return found[-1]

    def prune(self, keep: int) -> list[int]:
        """Removes all but the last versions and those in use.

        Args:
            keep: How many of the last ones stay.

        Returns:
            Numbers of those that went.

        Raises:
            SettingError: ``keep`` is negative.
        """
        if keep < 0:
            raise SettingError(f"{keep} versions cannot be kept.", "Give 0 or more.")
        gone: list[int] = []

        def how(state: DeploymentState) -> DeploymentState:
            after, numbers = state.prune(keep)
            gone.extend(numbers)
            return after

        if not self.exists:
            raise self._missing()
        with locked(self.folder / "deploying", seconds=COPYING, what=f"The deployment {self.name!r}"):
            # First the state: what it no longer names is rubbish, should this process end here.
            self._sweep(self.change(how))
        return gone

    def check(self, number: int) -> None:
        """Makes sure that what a version answers with is what was deployed.

        Raises:
            ModelError: A file is missing, changed or added.
        """
        packing.check(self.place(number))

    # -- how --------------------------------------------------------------------------------

    def _add(
        self, candidate: Candidate, prove: Callable[[Path], Proof], role: Role, *, force: bool, reason: str
    ) -> Change:
        partial = self.versions / f".partial-{os.getpid()}"
        try:
            partial.mkdir()
            version = packing.pack(candidate, partial, prove)
            return self._put(partial, version, role, force=force, reason=reason)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _put(self, partial: Path, version: Version, role: Role, *, force: bool, reason: str) -> Change:
        """Makes a version of a folder that is complete, and puts it in charge where it is let."""
        with locked(self.folder / "lock", seconds=SECONDS, what=f"The deployment {self.name!r}"):
            before = self.state if self.exists else DeploymentState()
            verdict = self._pass(version.facts, before, role, force=force)
            version = replace(version, number=before.next)
            if verdict is not None and not verdict.passed and not reason:
                reason = f"forced: {verdict.text}"
            partial.rename(self.place(version.number))
            content.sync(self.versions)
            after = before.add(version, role, reason=reason)
            self._write(after)
        return Change(after, version, changed=True, said=verdict.text if verdict else "")

    def _pass(self, facts: Facts, state: DeploymentState, role: Role, *, force: bool) -> Verdict | None:
        """What the gate says of a version that is to answer requests; None where it is not asked.

        Raises:
            Refused: No, and it is not forced.
        """
        if role.name not in ("full", "canary") or not state.line:
            return None
        verdict = gate.judge(facts, state.versions[state.full].facts)
        if not verdict.passed and not force:
            raise Refused(
                f"It does not become {role} of {self.name!r}: {verdict.text}.",
                "Give --force to put it there all the same.",
            )
        return verdict

    def _write(self, state: DeploymentState) -> None:
        content.write(self.file, json.dumps(state.to_json(), indent=1, ensure_ascii=False) + "\n")

    def _sweep(self, state: DeploymentState) -> None:
        """Removes what deploys left that were killed, and versions that the state does not name. Only for
        whoever has the lock of deploys."""
        for left in self.versions.iterdir() if self.versions.is_dir() else []:
            if not (left.name.isdigit() and int(left.name) in state.versions):
                shutil.rmtree(left, ignore_errors=True)

    def _missing(self) -> RunError:
        return RunError(
            f"There is no deployment {self.name!r} in '{self.registry}'.",
            "`luthier deployments` lists those that are there.",
        )

    def _unwritable(self, error: OSError) -> RunError:
        return RunError(
            f"'{error.filename or self.folder}' cannot be read or written: {error.strerror or error}.",
            "Name another folder with --registry, or free some space.",
        )


def registry_folder(registry: str | Path | None = None) -> Path:
    """The folder of all deployments: as given, as ``LUTHIER_REGISTRY`` says, or ``deployments``."""
    return Path(registry or os.environ.get(VARIABLE) or REGISTRY)


def deployments(registry: str | Path | None = None) -> list[Deployment]:
    """All deployments in a registry, by name; none where there is no such folder."""
    folder = registry_folder(registry)
    found = []
    for path in sorted(folder.glob(f"*/{STATE}")):
        with contextlib.suppress(LuthierError):
            found.append(Deployment(path.parent.name, folder))
    return found
