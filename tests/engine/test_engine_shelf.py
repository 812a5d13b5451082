from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections import namedtuple
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from luthier.engine import shelf as shelf_module
from luthier.engine.shelf import META, VALUES, Shelf

LARGE = 10**9
Usage = namedtuple("Usage", "total used free")


def name(number: int) -> str:
    return f"{number:040x}"


def values(number: int, size: int = 250) -> torch.Tensor:
    return torch.arange(size, dtype=torch.float32) + number


def age(shelf: Shelf, number: int, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(shelf.folder / name(number) / META, (then, then))


def kept(shelf: Shelf) -> set[int]:
    return {number for number in range(20) if shelf.has(name(number))}


@pytest.mark.parametrize("largest", [LARGE, 0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_arrays_come_back_bit_by_bit(tmp_path: Path, dtype: torch.dtype, largest: int) -> None:
    wanted = torch.randn(3, 5, 2, 4).to(dtype)
    # Not all that is raw bytes is ordered as it looks.
    for number, array in enumerate([wanted, wanted.transpose(1, 3)]):
        assert Shelf(tmp_path, LARGE).put(name(number), array, {"depth": 3})
        found = Shelf(tmp_path, LARGE).get(name(number), largest)
        assert found is not None
        assert (found[0].dtype, found[1]) == (dtype, {"depth": 3})
        assert torch.equal(found[0], array)


def test_large_arrays_are_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(tmp_path, LARGE)
    shelf.put(name(1), values(1), {})
    monkeypatch.setattr(shelf_module, "_read", None)
    found = shelf.get(name(1), 999)
    assert found is not None
    assert torch.equal(found[0].index_select(0, torch.tensor([7, 3])), torch.tensor([8.0, 4.0]))
    # They outlive their removal, and are checked once only: what is mapped already cannot be taken back.
    monkeypatch.setattr(shelf_module, "_check", None)
    assert shelf.get(name(1), 999) is not None
    shelf.clear()
    assert shelf.get(name(1), 999) is None
    assert torch.equal(found[0], values(1))


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 4500)
    for number in range(3):
        shelf.put(name(number), values(number), {})
        age(shelf, number, 100 - number)
    assert shelf.get(name(0), LARGE) is not None
    assert shelf.put(name(3), values(3), {})
    assert kept(shelf) == {0, 2, 3}
    # Put again is used again; the limit is that of the folder, not of the object.
    age(shelf, 0, 90)
    assert Shelf(tmp_path, 4500).put(name(2), values(2), {})
    assert Shelf(tmp_path, 4500).put(name(4), values(4), {})
    assert kept(shelf) == {2, 3, 4}
    # Nothing is thrown away for what would not fit even so.
    assert not shelf.put(name(5), values(5, 2000), {})
    assert kept(shelf) == {2, 3, 4}


def test_free_space_is_left_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(tmp_path, LARGE)
    shelf.put(name(0), values(0), {})
    age(shelf, 0, 50)
    shelf.put(name(1), values(1), {})
    total = 100 * 2**30

    def leave(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(total, total - free, free))

    leave(total // 20 + 500)
    assert shelf.put(name(2), values(2), {})
    assert kept(shelf) == {1, 2}
    leave(total // 20 - 5000)
    assert not shelf.put(name(3), values(3), {})
    assert kept(shelf) == {1, 2}


def damaged(file: Path, position: int) -> bytes:
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    return bytes(content)


@pytest.mark.parametrize("largest", [LARGE, 0])
@pytest.mark.parametrize(
    ("file", "position"), [(VALUES, 0), (VALUES, 700), (VALUES, -1), (META, 1), (META, 20), (META, -9)]
)
def test_a_flipped_bit_is_found(tmp_path: Path, file: str, position: int, largest: int) -> None:
    shelf = Shelf(tmp_path, LARGE)
    shelf.put(name(1), values(1), {})
    path = tmp_path / name(1) / file
    path.write_bytes(damaged(path, position))
    assert shelf.get(name(1), largest) is None
    assert list(tmp_path.iterdir()) == []
    assert shelf.put(name(1), values(1), {})
    assert shelf.get(name(1), largest) is not None


@given(st.sampled_from([VALUES, META]), st.floats(0, 1, exclude_max=True), st.sampled_from([LARGE, 0]))
def test_a_file_cut_off_is_found(
    tmp_path_factory: pytest.TempPathFactory, file: str, share: float, largest: int
) -> None:
    shelf = Shelf(tmp_path_factory.mktemp("shelf"), LARGE)
    shelf.put(name(1), values(1), {})
    path = shelf.folder / name(1) / file
    # The last byte of the description is its line's end.
    path.write_bytes(path.read_bytes()[: int(share * (path.stat().st_size - (file == META)))])
    assert shelf.get(name(1), largest) is None
    assert not shelf.has(name(1))


@pytest.mark.parametrize("missing", [VALUES, META])
def test_what_lacks_a_file_is_replaced(tmp_path: Path, missing: str) -> None:
    shelf = Shelf(tmp_path, LARGE)
    shelf.put(name(1), values(1), {})
    (tmp_path / name(1) / missing).unlink()
    assert shelf.get(name(1), LARGE) is None
    assert shelf.put(name(1), values(1), {})
    assert shelf.get(name(1), LARGE) is not None


def test_an_array_under_another_name_is_not_taken_for_it(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, LARGE)
    shelf.put(name(1), values(1), {})
    shutil.copytree(tmp_path / name(1), tmp_path / name(2))
    assert shelf.get(name(2), LARGE) is None
    assert shelf.get(name(1), LARGE) is not None


def test_nothing_else_in_the_folder_is_touched(tmp_path: Path) -> None:
    others = [tmp_path / "notes.txt", tmp_path / "000" / "x", tmp_path / ".hidden" / META]
    for other in others:
        other.parent.mkdir(exist_ok=True)
        other.write_text("mine")
    shelf = Shelf(tmp_path, 1500)
    for number in range(3):
        shelf.put(name(number), values(number), {})
    shelf.clear()
    assert kept(shelf) == set()
    assert all(other.read_text() == "mine" for other in others)
    for wrong in ("../x", "notes.txt", name(1)[1:], name(1).upper().replace("0", "A")):
        with pytest.raises(ValueError, match="no key"):
            shelf.has(wrong)


def test_what_a_dead_process_left_goes_and_what_a_living_one_writes_counts(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 4000)
    for number, seconds in ((8, 10_000.0), (9, 1.0)):
        partial = tmp_path / f".{name(number)}.{number:032x}"
        partial.mkdir()
        (partial / VALUES).write_bytes(bytes(2000))
        for path in (partial / VALUES, partial):
            os.utime(path, (time.time() - seconds,) * 2)
    assert shelf.put(name(0), values(0), {})
    age(shelf, 0, 50)
    assert shelf.put(name(1), values(1), {})
    assert kept(shelf) == {1}
    assert {path.name[1:41] for path in tmp_path.glob(".*")} == {name(9)}


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, array: torch.Tensor) -> int:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shelf_module, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        Shelf(tmp_path, LARGE).put(name(1), values(1), {})
    assert list(tmp_path.iterdir()) == []


def write_and_read(folder: Path, start: Barrier, told: Queue[str]) -> None:
    """What two processes do at once: write the same arrays, read them, and throw some away."""
    shelf = Shelf(folder, 4500)
    try:
        start.wait(60)
        for round_ in range(10):
            for number in range(6):
                shelf.put(name(number), values(number, 250 + number), {"number": number})
                found = shelf.get(name((number + round_) % 6), LARGE if round_ % 2 else 0)
                if found is not None:
                    wanted = found[1]["number"]
                    assert torch.equal(found[0], values(wanted, 250 + wanted))
        told.put("")
    except BaseException as error:
        told.put(repr(error))
        raise


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, told = context.Barrier(2), context.Queue()
    workers = [context.Process(target=write_and_read, args=(tmp_path, start, told)) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert [told.get(timeout=60) for _ in workers] == ["", ""]
    for worker in workers:
        worker.join(60)
    shelf = Shelf(tmp_path, 4500)
    assert shelf.put(name(9), values(9), {})
    assert len(list(tmp_path.iterdir())) == len(kept(shelf)) <= 4
