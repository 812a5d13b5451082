"""Has the C library keep what is freed for the next tensors, instead of giving it back to the system.

Memory that is new from the system is filled with zeros page by page when it is first touched. glibc takes
each large block anew, and gives it back when it is freed, so that a network pays that for each activation,
again and again: of the forward pass of an image network it can be two thirds of the time.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform

# Of mallopt, from malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX, ARENA_MAX = -1, -2, -4, -8
PAD = 64 * 2**20
"""Bytes that the heap grows by at least."""


@functools.cache
def keep_memory() -> bool:
    """Sets it for this process, once; gives whether that was possible.

    Blocks of any size come from the heap, of which up to 2 GiB stay when they are free. Threads that are yet
    to begin share it, since no block of a heap of their own can be above 64 MiB. Nothing is done where the
    user has set up the allocator by the environment (``MALLOC_...``, ``GLIBC_TUNABLES``, ``LD_PRELOAD``), and
    where the C library is not glibc. What the settings do is in mallopt(3).
    """
    if platform.libc_ver()[0] != "glibc" or _told(os.environ):
        return False
    library = ctypes.CDLL(None)
    # What does not fit an int is the largest of them.
    settings = ((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, PAD))
    done = [library.mallopt(which, ctypes.c_int(value)) == 1 for which, value in settings]
    return all(done)


def unused() -> int:
    """Bytes that the heap holds and nobody uses: what the system counts as used and can be allocated all the
    same. 0 where the C library does not tell."""
    heap = _information()
    return 0 if heap is None else int(heap.fordblks)


class _Information(ctypes.Structure):
    """``struct mallinfo2``."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
            "keepcost",
        )
    ]  # fmt: skip


def _information() -> _Information | None:
    """What the C library tells of its heap, if it does."""
    if os.name != "posix":
        return None
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        return None
    library.mallinfo2.restype = _Information
    found: _Information = library.mallinfo2()
    return found


def _told(environment: os._Environ[str] | dict[str, str]) -> bool:
    """Whether the user has chosen how memory is allocated."""
    return (
        any(name.startswith("MALLOC_") for name in environment)
        or "glibc.malloc" in environment.get("GLIBC_TUNABLES", "")
        or "malloc" in environment.get("LD_PRELOAD", "")
    )
