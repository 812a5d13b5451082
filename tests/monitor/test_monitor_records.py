"""What the records keep, give back, forget and refuse, in SQLite and in PostgreSQL."""

from __future__ import annotations

import json
import math
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from records_made import START, observations

from luthier.errors import RunError, SettingError
from luthier.monitor import packing
from luthier.monitor.history import LOOKED, History
from luthier.monitor.observation import Observation
from luthier.monitor.records import STEP, Records, row_of

FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


def rows(made, model="m", *, keep_input=False):
    return [row_of(model, one, keep_input=keep_input) for one in made]


@given(arrays.arrays(np.float32, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0), elements=FLOATS))
def test_arrays_survive_packing_to_the_last_bit(array) -> None:
    back = packing.unpack(packing.pack(array))
    assert back.shape == array.shape and back.dtype == np.float32
    np.testing.assert_array_equal(back, array)


@given(arrays.arrays(np.float32, 8, elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_half_as_many_bytes_lose_no_more_than_float16_does(array) -> None:
    packed = packing.pack(array, half=True)
    assert len(packed) < len(packing.pack(array))
    clipped = np.clip(array, -65504, 65504)
    np.testing.assert_allclose(packing.unpack(packed), clipped, rtol=2**-10, atol=2**-24)


@given(st.one_of(st.text(), st.lists(st.text()), st.binary()))
def test_inputs_survive_packing(value) -> None:
    assert packing.unpack_input(packing.pack_input(value)) == value


def test_inputs_that_are_not_kept() -> None:
    assert packing.pack_input(b"x" * packing.LARGEST_INPUT) is None
    assert packing.pack_input({"not": "an input"}) is None
    with pytest.raises(RunError, match="damaged"):
        packing.unpack(b"\x02\x01\x05")


def test_what_is_added_is_given_back_in_its_order(location) -> None:
    made = observations(30)
    with Records(location) as records:
        assert records.add(rows(made)) == 30
        found = records.latest("m", most=20)
        assert found.ids == [f"r{at}" for at in range(10, 30)]
        np.testing.assert_array_equal(found.outputs, [one.output for one in made[10:]])
        np.testing.assert_allclose(found.features, [one.features for one in made[10:]], rtol=1e-3, atol=1e-3)
        assert found.statistics == [one.statistics for one in made[10:]]
        assert found.times.tolist() == [one.time for one in made[10:]]
        assert len(records.latest("m", since=START + 25)) == 5
        assert records.inputs("m", ["r3"]) == {}


def test_models_and_versions_are_kept_apart(location) -> None:
    with Records(location) as records:
        records.add(rows(observations(3, version="2")) + rows(observations(2, first=3, version="1")))
        records.add(rows(observations(4), "other"))
        assert records.models() == ["m", "other"]
        assert records.versions("m") == {"2": 3, "1": 2}
        assert list(records.versions("m")) == ["2", "1"], "the one seen last comes last"
        assert len(records.latest("m", version="2")) == records.count("m", "2") == 3
        assert records.model("m") == "m"
        with pytest.raises(SettingError, match="several models: m, other"):
            records.model(None)
        with pytest.raises(RunError, match="no records of 'x'"):
            records.model("x")


def test_an_id_that_comes_again_is_kept_once(location) -> None:
    with Records(location) as records:
        assert records.add(rows(observations(5))) == 5
        assert records.add(rows(observations(8, seed=1))) == 3
        assert records.count("m") == 8
        np.testing.assert_array_equal(records.latest("m").outputs[0], observations(5)[0].output)


def test_inputs_are_kept_only_where_that_is_asked_for(location) -> None:
    for keep in (False, True):
        with Records(location) as records:
            made = observations(1, first=keep, input="a secret")
            records.add(rows(made, keep_input=keep))
            assert records.inputs("m", [made[0].id]) == ({made[0].id: "a secret"} if keep else {})


def test_texts_that_databases_do_not_take(location) -> None:
    strange = Observation(
        "a\0b\ud800", START, "1", np.zeros(2), {"label": "x\0\ud800", "confidence": math.nan}
    )
    with Records(location) as records:
        assert records.add(rows([strange])) == 1
        assert records.latest("m").ids == ["ab?"]


def test_a_batch_is_written_whole_or_not_at_all(location) -> None:
    made = rows(observations(3))
    made[2]["output"] = None
    with Records(location) as records:
        with pytest.raises(Exception, match=r"(?i)null|constraint"):
            records.add(made)
        assert records.models() == []


def test_what_is_too_old_or_too_much_goes_in_small_steps_with_its_labels(location) -> None:
    with Records(location) as records:
        records.add(rows(observations(STEP + 300)))
        records.add(rows(observations(5), "other"))
        records.label("m", {"r0": "cat", f"r{STEP + 299}": "dog"})
        assert records.retain("m", age=None, count=200) == STEP
        assert records.retain("m", age=None, count=200) == 100
        assert records.retain("m", age=None, count=200) == 0
        kept = records.latest("m")
        assert len(kept) == 200 and kept.ids[-1] == f"r{STEP + 299}"
        assert kept.labels == {f"r{STEP + 299}": "dog"}
        assert records.known("m", ["r0"]) == set()
        newest = START + STEP + 299
        assert records.retain("m", age=49.5, count=None, now=newest) == 150
        assert records.latest("m").times.min() >= newest - 49.5
        assert records.count("other") == 5


def test_labels_are_kept_and_replaced(location) -> None:
    with Records(location) as records:
        records.add(rows(observations(4)))
        assert records.label("m", {"r0": "cat", "r1": 2.5, "r2": ["a", "b"]}) == (3, 0)
        assert records.label("m", {"r0": "dog", "r1": 2.5, "r3": None}) == (1, 1)
        assert records.latest("m").labels == {"r0": "dog", "r1": 2.5, "r2": ["a", "b"], "r3": None}


@settings(max_examples=15, deadline=None)
@given(sent=st.lists(st.dictionaries(st.sampled_from(["r0", "r1", "r2"]), st.integers(0, 3)), max_size=5))
def test_the_last_label_stands_however_often_it_was_sent(tmp_path_factory, sent) -> None:
    expected: dict[str, int] = {}
    with Records(tmp_path_factory.mktemp("labels") / "r.sqlite") as records:
        records.add(rows(observations(3)))
        for labels in sent:
            new, changed = records.label("m", labels)
            assert new == len(labels.keys() - expected.keys())
            assert changed == sum(expected.get(one, value) != value for one, value in labels.items())
            expected |= labels
        assert records.latest("m").labels == expected


def test_an_alarm_begins_once_and_ends_once(location) -> None:
    with Records(location) as records:
        history = History(records)
        assert history.begin_alarm("m", "1", "harm", {"n": 3}, 10.0)
        assert not history.begin_alarm("m", "1", "harm", {"n": 4}, 11.0)
        assert history.begin_alarm("m", "2", "harm", {}, 11.0)
        assert history.end_alarm("m", "1", "harm", 12.0)
        assert not history.end_alarm("m", "1", "harm", 13.0)
        first = history.alarms("m")[-1]
        assert (first.version, first.began, first.ended, first.said) == ("1", 10.0, 12.0, {"n": 3})
        assert history.begin_alarm("m", "1", "harm", {}, 14.0)


def test_of_many_who_look_at_once_one_is_told_of_the_alarm(location) -> None:
    Records(location).close()
    told: list[bool] = []

    def begin() -> None:
        with Records(location) as records:
            told.append(History(records).begin_alarm("m", "1", "harm", {}, 1.0))

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == [False, False, False, True]


def test_looks_are_kept_and_the_oldest_go(location, monkeypatch) -> None:
    monkeypatch.setattr("luthier.monitor.history.LOOKED", 3)
    assert LOOKED > 3
    with Records(location) as records:
        records.add(rows(observations(4)))
        history = History(records)
        for at in range(5):
            history.keep_look("m", "1", at, {"at": at, "nothing": math.nan}, float(at))
        looks = history.looks("m", "1", most=10)
        assert [look.said["at"] for look in looks] == [4, 3, 2]
        assert json.dumps(looks[0].said["nothing"]) == "NaN"
        assert records.since("m", "1", records.newest("m", "1") - 3) == 3


def test_a_new_file_is_its_owners_alone(tmp_path) -> None:
    path = tmp_path / "folder" / "new.sqlite"
    with Records(path) as records:
        records.add(rows(observations(1)))
        assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    path.chmod(0o640)
    Records(path).close()
    assert path.stat().st_mode & 0o777 == 0o640, "what the owner allows since stays"


def test_records_that_are_not_there(tmp_path) -> None:
    with pytest.raises(RunError, match=r"no records at(.|\n)*--record"):
        Records(tmp_path / "none.sqlite", exists=True)
    assert not (tmp_path / "none.sqlite").exists()
    with Records(tmp_path / "new.sqlite") as records, pytest.raises(RunError, match="no observations yet"):
        records.model(None)
