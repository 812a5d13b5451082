"""What a server is told: `ServeSettings`, checked before anything is loaded."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from luthier.deploy.versions import NAME, Deployment
from luthier.errors import SettingError

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable by which prometheus-client knows the folder that worker processes share; set
before it is imported."""
BACKLOG = 2048
"""Connections that wait to be accepted at most."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class ServeSettings:
    """Settings of ``luthier serve``. Plain values, which travel to worker processes.

    Attributes:
        place: A run folder, a model folder, an export, or the name of a deployment.
        host: Address to listen at.
        port: Port; 0 takes a free one.
        token_file: File with the tokens that open, one a line.
        allow_hosts: Names under which it may be asked, beside ``localhost`` and addresses.
        workers: Processes that share the port.
        max_batch: Inputs a batch at most.
        queue: Inputs accepted and not yet answered at most, in each worker.
        timeout: Seconds after which a request is given up.
        drain: Seconds in which accepted requests are finished when the server stops.
        name: The model's; None: the folder's.
        backend: ``auto``, ``torch`` or ``onnx``.
        device: For torch: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        threads: CPU threads a worker; None: its share of the usable cores.
        connections: At a time, in each worker.
        access_log: Whether each request becomes a line.
        registry: Folder of deployments, of which ``place`` names one; None: it does so only where it is no
            folder.
        probation: Seconds in which the server itself relieves a version that took full charge and is bad.
        probation_errors: See `luthier.deploy.serve.probation.Limits.errors`.
        probation_slower: See `luthier.deploy.serve.probation.Limits.slower`.
        record: Path or URL of the records that observations are written to; None: none are.
        keep_inputs: Whether the inputs are recorded, too.
        record_share: Of requests that are recorded.
    """

    place: str
    host: str = "127.0.0.1"
    port: int = 8080
    token_file: str | None = None
    allow_hosts: tuple[str, ...] = ()
    workers: int = 1
    max_batch: int = 32
    queue: int = 1024
    timeout: float = 30.0
    drain: float = 30.0
    name: str | None = None
    backend: str = "auto"
    device: str = "auto"
    threads: int | None = None
    connections: int = 1000
    access_log: bool = False
    record: str | None = None
    keep_inputs: bool = False
    record_share: float = 1.0
    registry: str | None = None
    probation: float = 600.0
    probation_errors: float = 0.02
    probation_slower: float = 2.0

    @property
    def deployment(self) -> Deployment | None:
        """The deployment that is served; None where it is a folder's model.

        Raises:
            SettingError: ``place`` cannot be a deployment's name, and a registry was given.
        """
        if self.registry is not None:
            return Deployment(self.place, self.registry)
        if not NAME.fullmatch(self.place) or Path(self.place).exists():
            return None
        found = Deployment(self.place)
        return found if found.exists else None

    def check(self) -> None:
        """Raises SettingError where a value is not what its setting expects."""
        from luthier.deploy.serve.guard import is_local, read_tokens

        for what, value, low, high in (
            ("--port", self.port, 0, 65535),
            ("--workers", self.workers, 1, 256),
            ("--max-batch", self.max_batch, 1, 4096),
            ("--queue", self.queue, 1, 1_000_000),
            ("--timeout", self.timeout, 0.001, 86400),
            ("--drain", self.drain, 0, 86400),
            ("--probation", self.probation, 0, 31 * 86400),
            ("--probation-errors", self.probation_errors, 0, 1),
            ("--probation-slower", self.probation_slower, 1, 1000),
            ("--threads", self.threads if self.threads is not None else 1, 1, 1024),
            ("--connections", self.connections, 1, 1_000_000),
        ):
            if not low <= value <= high:
                raise SettingError(f"{what} cannot be {value}.", f"Expected {low:g} to {high:g}.")
        if self.workers > 1 and not hasattr(socket, "SO_REUSEPORT"):
            raise SettingError("--workers above 1 needs a system on which processes share a port.")
        if not _NAME.fullmatch(self.model_name):
            raise SettingError(
                f"The model cannot be named {self.model_name!r}.",
                "Give --name letters, digits, dots, hyphens and underscores, 64 at most.",
            )
        if not 0 < self.record_share <= 1:
            raise SettingError(
                f"--record-share cannot be {self.record_share}.", "Expected more than 0, and 1 at most."
            )
        if self.record is None and (self.keep_inputs or self.record_share < 1):
            raise SettingError(
                "--keep-inputs and --record-share say how requests are recorded, and they are not.",
                "Say where to with --record, for example --record records.sqlite.",
            )
        if self.token_file is not None:
            read_tokens(self.token_file)
        elif not is_local(self.host):
            raise SettingError(
                f"--host {self.host} can be reached from other machines, and anybody there could ask.",
                "Give --token-file FILE with a token of at least 16 characters; clients send it as"
                " Authorization: Bearer TOKEN.",
            )

    @property
    def model_name(self) -> str:
        """As clients name the model."""
        if self.name is not None:
            return self.name
        if (deployment := self.deployment) is not None:
            return deployment.name
        folder = Path(self.place).resolve()
        plain = folder.parent.name if folder.name == "model" else folder.name
        return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-.")[:64] or "model"

    @property
    def share(self) -> int:
        """CPU threads of each worker."""
        if self.threads is not None:
            return self.threads
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, usable // self.workers)

    def reserve(self) -> socket.socket:
        """A socket at the address: it listens where there is one worker, and keeps the port for them where
        there are several, of which each opens its own by `listen`.

        Raises:
            SettingError: The port is in use, or there is no such address.
        """
        # First without sharing: a port that another server shares out would else be joined unseen.
        first = self._socket(self.port, share=False)
        if self.workers == 1:
            first.listen(BACKLOG)
            return first
        port = first.getsockname()[1]
        first.close()
        return self._socket(port, share=True)

    def listen(self, port: int) -> socket.socket:
        """A worker's own socket at the port. The system shares connections out among those that listen, and
        no longer counts in one whose process is gone."""
        found = self._socket(port, share=True)
        found.listen(BACKLOG)
        return found

    def _socket(self, port: int, *, share: bool) -> socket.socket:
        try:
            family, kind, _, _, address = socket.getaddrinfo(self.host, port, type=socket.SOCK_STREAM)[0]
            found = socket.socket(family, kind)
        except (OSError, UnicodeError) as error:
            raise SettingError(f"--host {self.host!r} is no address: {error}.") from None
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if share:
                found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            found.bind(address)
        except OSError as error:
            found.close()
            raise SettingError(
                f"Cannot listen at {self.host}:{port}: {error.strerror}.",
                "Another program may be using the port; choose another with --port.",
            ) from None
        return found
