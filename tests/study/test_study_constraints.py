"""Constraints as people write them: what is read, what is refused, and what holds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.errors import SettingError
from luthier.study.constraints import MEASURES, Constraint, parse_constraint


@pytest.mark.parametrize(
    ("text", "name", "relation", "bound"),
    [
        ("latency < 20 ms", "latency", "<", 20.0),
        ("latency<=0.5s", "latency", "<=", 500.0),
        ("Latency < 800 us", "latency", "<", 0.8),
        ("latency < 800 µs", "latency", "<", 0.8),
        ("memory < 2 GB", "memory", "<", 2000.0),
        ("memory < 2 GiB", "memory", "<", 2 * 1024**3 / 1e6),
        ("size < 100 MB", "size", "<", 100.0),
        ("size < 100mb", "size", "<", 100.0),
        ("size <= 1e8 B", "size", "<=", 100.0),
        ("size < 96 MiB", "size", "<", 100.663296),
        ("accuracy >= 0.9", "accuracy", ">=", 0.9),
        ("  rmse<.5  ", "rmse", "<", 0.5),
        ("loss > -1.5e-3", "loss", ">", -0.0015),
    ],
)
def test_a_constraint_is_read_as_people_write_it(text, name, relation, bound):
    found = parse_constraint(text)
    assert (found.name, found.relation) == (name, relation)
    assert found.bound == pytest.approx(bound, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["''", "NAME < NUMBER UNIT", "latency < 20 ms"]),
        ("latency", ["'latency'", "NAME < NUMBER UNIT"]),
        ("latency = 20 ms", ["NAME < NUMBER UNIT"]),
        ("20 ms > latency", ["NAME < NUMBER UNIT"]),
        ("latency < fast", ["NAME < NUMBER UNIT"]),
        ("latency < 20 ms and size < 1 MB", ["NAME < NUMBER UNIT"]),
        ("latency < 20", ["has no unit", "us, µs, ms, s"]),
        ("latency < 20 MB", ["the unit 'MB'", "ms"]),
        ("size < 100 ms", ["the unit 'ms'", "MiB"]),
        ("latency > 20 ms", ["asks for more latency", "Write latency < 20 ms."]),
        ("size < 0 MB", ["can never hold"]),
        ("memory <= -2 GB", ["can never hold"]),
        ("accuracy >= 90 percent", ["'percent'", "a metric has none"]),
        ("accuracy >= 1e999", ["no finite limit"]),
        (3, ["3", "NAME < NUMBER UNIT"]),
        (None, ["None"]),
    ],
)
def test_anything_else_is_refused_with_what_was_expected(text, words):
    with pytest.raises(SettingError) as caught:
        parse_constraint(text)
    for word in words:
        assert word in str(caught.value)


limits = st.floats(1e-3, 1e6).map(lambda value: float(f"{value:.6g}"))
measured = st.sampled_from(sorted(MEASURES)).flatmap(
    lambda name: st.builds(
        Constraint,
        st.just(name),
        st.sampled_from(["<", "<="]),
        limits,
        st.sampled_from([*MEASURES[name].units]),
    )
)
scored = st.builds(
    Constraint,
    st.sampled_from(["accuracy", "macro_f1", "rmse"]),
    st.sampled_from([">", ">=", "<", "<="]),
    limits,
)


@given(measured | scored)
def test_what_is_shown_reads_back(constraint):
    assert parse_constraint(str(constraint)) == constraint


@given(measured | scored, st.floats(-1e7, 1e7))
def test_it_holds_on_one_side_of_its_bound(constraint, value):
    below, above = value < constraint.bound, value > constraint.bound
    wanted = {"<": below, "<=": not above, ">": above, ">=": not below}[constraint.relation]
    assert constraint.holds(value) == wanted
    assert constraint.holds(constraint.bound) == ("=" in constraint.relation)
    assert not constraint.holds(math.nan)


@given(st.text(max_size=30))
def test_no_text_is_anything_but_read_or_refused(text):
    try:
        found = parse_constraint(text)
    except SettingError:
        return
    assert parse_constraint(str(found)) == found or found.limit != float(f"{found.limit:.12g}")


def test_reasons_are_in_the_units_of_the_limit():
    assert (
        parse_constraint("latency < 20 ms").broken(31.04) == "latency 31.04 ms, more than the 20 ms allowed"
    )
    assert parse_constraint("memory < 2 GB").broken(3100.0) == "memory 3.1 GB, more than the 2 GB allowed"
    assert parse_constraint("size < 90 MB").broken(90.0) == "size 90 MB, not below the 90 MB allowed"
    assert parse_constraint("accuracy >= 0.9").broken(0.85) == "accuracy 0.85, less than the 0.9 asked for"
    assert parse_constraint("accuracy > 0.9").broken(0.9) == "accuracy 0.9, not above the 0.9 asked for"
    assert "unknown" in parse_constraint("accuracy > 0.9").broken(math.nan)
