"""A look is kept, spends what came since the last one, and turns an alarm on and off once."""

from __future__ import annotations

import time

import pytest
from records_made import classifier, observations, reference

from luthier.monitor.gauges import Gauges
from luthier.monitor.history import History
from luthier.monitor.judgement import Estimate, Judgement
from luthier.monitor.looking import look, open_alarms
from luthier.monitor.recorder import open_recorder
from luthier.monitor.records import Records, row_of
from luthier.monitor.reference import Kept


class Scripted:
    """Judges as it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.harm = False
        self.asked: list[tuple[int, int | None]] = []

    def judge(self, requests, *, new=None) -> Judgement:
        self.asked.append((len(requests), new))
        estimate = Estimate(
            "accuracy", 0.8, (0.75, 0.85), 0.9, (0.88, 0.92), 0.1, 0.05, len(requests), "by a script"
        )
        return Judgement(
            n=len(requests), estimate=estimate, harm=self.harm, harm_by="estimate" if self.harm else ""
        )


@pytest.fixture
def kept() -> Kept:
    return Kept(reference(), classifier())


def add(records: Records, count: int, first: int = 0) -> None:
    records.add([row_of("m", one, keep_input=False) for one in observations(count, first=first)])


def test_an_alarm_is_turned_on_and_off_once(location, kept) -> None:
    judge = Scripted()
    with Records(location) as records:

        def at(now: float):
            return look(records, kept, "m", "1", judge=judge, now=now)  # type: ignore[arg-type]

        add(records, 60)
        assert [(one.turned, one.harm, one.began) for one in [at(1.0)]] == [("", False, None)]
        add(records, 40, first=60)
        judge.harm = True
        first, second = at(2.0), at(3.0)
        assert (first.turned, first.began, second.turned, second.began) == ("on", 2.0, "", 2.0)
        assert [alarm.kind for alarm in open_alarms(History(records), "m")] == ["harm"]
        judge.harm = False
        assert [(one.turned, one.harm) for one in (at(4.0), at(5.0))] == [("off", False), ("", False)]
        # The first look has all requests to spend on, the second those since; an alarm that is on is held
        # against the whole window, so that it does not end for want of new requests.
        assert judge.asked == [(60, None), (100, 40), (100, None), (100, None), (100, 0)]
        records.label("m", {"r1": "cat", "r2": "dog", "r3": "dog"}, now=6.0)
        at(7.0)
        at(8.0)
        assert judge.asked[-2:] == [(100, 3), (100, 0)], "labels count as requests do"
        (alarm,) = History(records).alarms("m")
        assert (alarm.began, alarm.ended) == (2.0, 4.0)
        looks = History(records).looks("m", "1", most=9)
        assert [one.said["alarm"] for one in looks] == [False, False, False, False, True, True, False]


def test_versions_have_alarms_of_their_own(tmp_path, kept) -> None:
    judge = Scripted()
    judge.harm = True
    with Records(tmp_path / "r.sqlite") as records:
        for version in ("1", "2"):
            rows = observations(30, first=100 * int(version), version=version)
            records.add([row_of("m", one, keep_input=False) for one in rows])
            assert look(records, kept, "m", version, judge=judge).turned == "on"  # type: ignore[arg-type]
        assert len(open_alarms(History(records), "m")) == 2
        assert len(open_alarms(History(records), "m", "2")) == 1


def test_gauges_tell_of_recording_and_of_the_last_look(tmp_path, kept, monkeypatch) -> None:
    monkeypatch.setattr("luthier.monitor.gauges.PATIENCE", 0.0)
    place = tmp_path / "r.sqlite"
    recorder = open_recorder(place, model="m")
    recorder.record(observations(60))
    assert recorder.flush(60)
    judge = Scripted()
    judge.harm = True
    with Records(place) as records:
        look(records, kept, "m", "1", judge=judge)  # type: ignore[arg-type]
    gauges = Gauges(place, "m", recorder)
    deadline = time.monotonic() + 60
    while "monitor_harm" not in (found := gauges()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert found["monitor_recorded"] == 60 and found["monitor_dropped"] == found["monitor_failing"] == 0
    assert (found["monitor_harm"], found["monitor_accuracy"], found["monitor_accuracy_tested"]) == (
        1.0,
        0.8,
        0.9,
    )
    other = Gauges(place, "m", recorder, lambda: "2")
    while not other.alarms():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "monitor_harm" not in other(), "of version 2 there is no look"
    assert found["monitor_look_age_seconds"] >= 0 and gauges.alarms() == ["1"]
    assert all(isinstance(value, float) for value in found.values())
    recorder.close()


def test_gauges_of_a_store_that_does_not_answer_are_those_of_recording(tmp_path) -> None:
    (tmp_path / "r.sqlite").write_bytes(b"these are not the pages of a database" * 100)
    gauges = Gauges(tmp_path / "r.sqlite", "m")
    assert gauges() == {} and gauges.alarms() == []
