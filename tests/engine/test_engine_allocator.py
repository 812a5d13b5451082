"""Memory that is freed stays with the process and is available; what the user set up is left alone."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")

SCRIPT = """
import json, resource, sys, threading
from luthier.engine import allocator

BYTES = 100 * 2**20

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        # Each page is written to, and all is freed at once.
        bytearray(BYTES)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given = faults()
kept = allocator.keep_memory()
faults()
found = [faults()]
thread = threading.Thread(target=lambda: found.append(faults()))
thread.start()
thread.join()
print(json.dumps({"kept": kept, "given": given, "found": found, "unused": allocator.unused()}))
"""


def run(**environment: str) -> dict[str, object]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        check=True,
        env={**clean, **environment},
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_freed_memory_is_kept_by_all_threads() -> None:
    found = run()
    assert found["kept"] is True
    pages = 5 * 100 * 2**20 // os.sysconf("SC_PAGE_SIZE")
    assert isinstance(found["given"], int) and found["given"] > pages / 2, "the system gave all of it anew"
    assert isinstance(found["found"], list)
    assert all(each < pages / 100 for each in found["found"]), found
    assert isinstance(found["unused"], int) and found["unused"] >= 100 * 2**20


@pytest.mark.parametrize(
    "environment", [{"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}], ids=str
)
def test_what_the_user_set_up_is_left_alone(environment: dict[str, str]) -> None:
    assert run(**environment)["kept"] is False
