"""Environments of programs that we are compared with and that do not fit into ours: made when first needed,
and kept in a cache folder. What runs in them is driven from `outsiders`.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


class Unavailable(Exception):
    """Something we are compared with cannot be had here; says why."""


def interpreter(requirements: Sequence[str]) -> Path:
    """The interpreter of an environment with these packages and no others.

    It lies under BENCH_CACHE, or in ``luthier-bench`` in the user's cache folder. PIP_FLAGS is given to pip.

    Raises:
        Unavailable: They cannot be installed; says why.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    base = os.environ.get("BENCH_CACHE") or caches / "luthier-bench"
    digest = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    place = Path(base) / digest
    python, done = place / "bin" / "python", place / "installed"
    if not done.exists():
        print(f"installing {', '.join(requirements)} into {place}", file=sys.stderr)
        flags = shlex.split(os.environ.get("PIP_FLAGS", ""))
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(place)],
            [str(python), "-m", "pip", "--disable-pip-version-check", "-q", "install", *flags, *requirements],
        ):
            made = subprocess.run(command, capture_output=True, text=True, check=False)
            if made.returncode:
                last = (made.stderr.strip().splitlines() or ["no message"])[-1]
                raise Unavailable(f"{', '.join(requirements)} cannot be installed: {last}")
        done.touch()
    return python
