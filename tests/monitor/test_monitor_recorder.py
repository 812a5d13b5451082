"""The recorder never makes a server wait: full queues and disks, lost databases, kills, and the way back."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from records_made import START, observations

from luthier.errors import RunError, SettingError
from luthier.monitor import recorder as recording
from luthier.monitor.observation import Observation
from luthier.monitor.recorder import QueueRecorder, open_recorder
from luthier.monitor.records import Records

PATIENCE = 60.0


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries that a test can wait for."""
    monkeypatch.setattr(recording, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(recording, "LONGEST_PAUSE", 0.2)


def test_what_was_taken_is_written_in_order(location) -> None:
    recorder = open_recorder(location, model="m")
    for one in observations(60):
        recorder.record([one])
    assert recorder.flush(PATIENCE)
    counts = recorder.counts()
    assert (counts.recorded, counts.dropped, counts.waiting, counts.failing) == (60, 0, 0, False)
    recorder.close()
    with Records(location) as records:
        assert records.latest("m").ids == [f"r{at}" for at in range(60)]


def test_closing_writes_what_waits_and_later_ones_are_dropped(tmp_path) -> None:
    recorder = open_recorder(tmp_path / "r.sqlite", model="m")
    recorder.record(observations(40))
    recorder.close(PATIENCE)
    recorder.record(observations(2, first=40))
    assert recorder.dropped == 2
    with Records(tmp_path / "r.sqlite") as records:
        assert records.count("m") == 40


def test_many_threads_lose_nothing(tmp_path) -> None:
    recorder = open_recorder(tmp_path / "r.sqlite", model="m")
    made = observations(800)

    def send(part: int) -> None:
        for at in range(part, 800, 8):
            recorder.record(made[at : at + 1])

    threads = [threading.Thread(target=send, args=(part,)) for part in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder.flush(PATIENCE)
    assert recorder.counts().recorded == 800
    recorder.close()
    with Records(tmp_path / "r.sqlite") as records:
        assert set(records.latest("m").ids) == {f"r{at}" for at in range(800)}


def test_a_full_queue_drops_and_returns_at_once(tmp_path, monkeypatch) -> None:
    held = threading.Event()
    add = Records.add
    monkeypatch.setattr(Records, "add", lambda *given: (held.wait(PATIENCE), add(*given))[1])
    recorder = QueueRecorder(tmp_path / "r.sqlite", model="m", queue=50)
    started = time.perf_counter()
    recorder.record(observations(200))
    # Far less than the store is held for, on however busy a machine.
    assert time.perf_counter() - started < 5
    assert recorder.dropped == 150
    held.set()
    assert recorder.flush(PATIENCE) and recorder.counts().recorded == 50
    recorder.close()


def test_large_inputs_fill_the_queue_by_their_bytes(tmp_path, monkeypatch) -> None:
    held = threading.Event()
    add = Records.add
    monkeypatch.setattr(Records, "add", lambda *given: (held.wait(PATIENCE), add(*given))[1])
    recorder = QueueRecorder(tmp_path / "r.sqlite", model="m", keep_inputs=True, queue_bytes=10_000)
    recorder.record(observations(20, input=b"x" * 1_000))
    assert recorder.dropped == 11, "20 of 1,044 bytes each, of which 9 have room"
    held.set()
    recorder.close(PATIENCE)
    with Records(tmp_path / "r.sqlite") as records:
        assert records.inputs("m", ["r0"]) == {"r0": b"x" * 1_000}


def test_a_share_is_drawn_by_id_the_same_everywhere(tmp_path) -> None:
    made = observations(1000)
    found = []
    for name in ("a", "b"):
        recorder = open_recorder(tmp_path / f"{name}.sqlite", model="m", share=0.1)
        recorder.record(made)
        recorder.close(PATIENCE)
        counts = recorder.counts()
        assert counts.skipped + counts.recorded == 1000 and counts.dropped == 0
        with Records(tmp_path / f"{name}.sqlite") as records:
            found.append(records.latest("m").ids)
    assert found[0] == found[1] and 60 < len(found[0]) < 140


def test_what_cannot_be_recorded_is_dropped_alone(tmp_path, caplog) -> None:
    broken = Observation("x", START, "1", np.zeros(3), {}, {"length": "long"})  # type: ignore[dict-item]
    recorder = open_recorder(tmp_path / "r.sqlite", model="m")
    recorder.record([*observations(3), broken, *observations(3, first=3)])
    assert recorder.flush(PATIENCE)
    assert (recorder.counts().recorded, recorder.dropped) == (6, 1)
    assert "long" not in caplog.text
    recorder.close()


def test_old_observations_go_while_it_records(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(recording, "TIDYING", 0.0)
    recorder = open_recorder(tmp_path / "r.sqlite", model="m", count=25, days=None)
    for at in range(4):
        recorder.record(observations(20, first=20 * at))
        assert recorder.flush(PATIENCE)
    recorder.close(PATIENCE)
    with Records(tmp_path / "r.sqlite") as records:
        assert records.latest("m").ids == [f"r{at}" for at in range(55, 80)]


# -- when it cannot be written -------------------------------------------------------------------------------


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch):
    """SQLite's own limit stands for a disk: its error is that of a full one. Called, it makes room."""
    pages = [40]

    def limit(connection: object, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute(f"PRAGMA max_page_count = {pages[0]}").close()

    sa.event.listen(sa.Engine, "connect", limit)
    yield lambda: pages.__setitem__(0, 1_000_000)
    sa.event.remove(sa.Engine, "connect", limit)


def test_a_full_disk_is_said_once_and_recording_goes_on_when_there_is_room(
    tmp_path, small_disk, caplog
) -> None:
    recorder = QueueRecorder(tmp_path / "r.sqlite", model="m", queue=600)
    sent, deadline = 0, time.monotonic() + PATIENCE
    with caplog.at_level(logging.WARNING, "luthier.monitor.recorder"):
        while not recorder.counts().failing:
            assert time.monotonic() < deadline, "the disk never filled up"
            recorder.record(observations(100, first=sent))
            sent += 100
            recorder.flush(0.3)
        for _ in range(8):
            recorder.record(observations(100, first=sent))
            sent += 100
        time.sleep(0.5)  # Several retries.
        said = [record.message for record in caplog.records if "not recorded" in record.message]
        assert len(said) == 1 and "full" in said[0]
        assert recorder.dropped > 0, "what does not fit the queue is dropped, and counted"
        small_disk()
        assert recorder.flush(PATIENCE)
        assert any("recorded again" in record.message for record in caplog.records)
    counts = recorder.counts()
    assert not counts.failing and counts.recorded + counts.dropped == sent
    recorder.close()
    with Records(tmp_path / "r.sqlite") as records:
        assert records.count("m") == counts.recorded


def test_a_disk_that_is_really_full(tmp_path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 200_000)
        recorder = open_recorder(disk / "r.sqlite", model="m")
        recorder.record(observations(3000))
        wait_for(lambda: recorder.counts().failing)
        ballast.unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert recorder.flush(PATIENCE)
        assert recorder.counts().recorded == 3000 and recorder.dropped == 0
        recorder.close()
        with Records(disk / "r.sqlite") as records:
            assert records.count("m") == 3000
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_a_lost_database_is_found_again(cluster, caplog) -> None:
    recorder = QueueRecorder(cluster.database("lost").replace("tester@", "tester:secret@"), model="m")
    recorder.record(observations(20))
    assert recorder.flush(PATIENCE)
    cluster.stop()
    try:
        started = time.perf_counter()
        recorder.record(observations(20, first=20))
        assert time.perf_counter() - started < 5
        wait_for(lambda: recorder.counts().failing)
    finally:
        cluster.start()
    assert recorder.flush(PATIENCE)
    counts = recorder.counts()
    assert (counts.recorded, counts.dropped, counts.failing) == (40, 0, False)
    assert "lost" in caplog.text and "secret" not in caplog.text
    recorder.close()


def test_closing_while_nothing_can_be_written_takes_no_longer_than_asked(
    tmp_path, small_disk, caplog
) -> None:
    recorder = open_recorder(tmp_path / "r.sqlite", model="m")
    recorder.record(observations(3000))
    wait_for(lambda: recorder.counts().failing)
    started = time.perf_counter()
    recorder.close(5.0)
    assert time.perf_counter() - started < 30
    counts = recorder.counts()
    assert counts.recorded + counts.dropped == 3000 and counts.dropped > 0
    assert "were not recorded" in caplog.text


def test_an_unexpected_error_drops_a_batch_and_not_the_thread(tmp_path, monkeypatch) -> None:
    add, fails = Records.add, [True]

    def breaks(self, rows):
        if fails and fails.pop():
            raise RuntimeError("a bug")
        return add(self, rows)

    monkeypatch.setattr(Records, "add", breaks)
    recorder = open_recorder(tmp_path / "r.sqlite", model="m")
    recorder.record(observations(5))
    assert recorder.flush(PATIENCE) and recorder.dropped == 5
    recorder.record(observations(5, first=5))
    assert recorder.flush(PATIENCE) and recorder.counts().recorded == 5
    recorder.close()


# -- kills ---------------------------------------------------------------------------------------------------

WRITER = """
import sys, time
sys.path.insert(0, {here!r})
from records_made import observations
from luthier.monitor.recorder import open_recorder
recorder = open_recorder({location!r}, model="m")
at = 0
while True:
    recorder.record(observations(20, first=at))
    at += 20
    sys.stdout.write(f"{{recorder.counts().recorded}}\\n")
    sys.stdout.flush()
    time.sleep(0.005)
"""


def test_what_was_acknowledged_survives_a_kill(location) -> None:
    Records(location).close()
    code = WRITER.format(here=str(Path(__file__).parent), location=location)
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    acknowledged = 0
    try:
        for line in writer.stdout:
            acknowledged = int(line)
            if acknowledged >= 200:
                break
    finally:
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split("\n")
        writer.wait()
    # Whatever it still said before it died; the last line may be cut short.
    acknowledged = max([acknowledged, *(int(line) for line in rest[:-1] if line)])
    with Records(location) as records:
        ids = records.latest("m").ids
    assert acknowledged >= 200
    assert ids[:acknowledged] == [f"r{at}" for at in range(acknowledged)]
    assert len(ids) == len(set(ids))


# -- settings ------------------------------------------------------------------------------------------------


def test_settings_that_cannot_be(tmp_path) -> None:
    for share in (0.0, 1.5, -1.0):
        with pytest.raises(SettingError, match=f"share of {share}"):
            open_recorder(tmp_path / "r.sqlite", model="m", share=share)
    with pytest.raises(SettingError, match="kept for 0 days"):
        open_recorder(tmp_path / "r.sqlite", model="m", days=0)
    with pytest.raises(SettingError, match=r"not a database URL|driver"):
        open_recorder("nothing+known://me:secret@host/x", model="m")
    with pytest.raises(RunError, match="is a folder"):
        open_recorder(tmp_path, model="m")


def test_a_password_is_never_shown() -> None:
    recorder = QueueRecorder("postgresql+psycopg://me:secret@localhost:1/x", model="m")
    assert "secret" not in recorder.location
    recorder.close(1.0)
