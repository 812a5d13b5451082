from __future__ import annotations

import asyncio
import math
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.deploy.serve.probation import RECENT, Counts, Limits, NewAlarms, judge
from luthier.errors import SettingError

LIMITS = Limits()


def counts(requests: int = 0, failed: int = 0, seconds: list[float] | None = None) -> Counts:
    return Counts(requests, failed, deque(seconds or [], maxlen=RECENT))


@pytest.mark.parametrize(
    ("failed", "requests", "bad"),
    [(0, 1000, False), (1, 1, False), (4, 4, False), (5, 5, True), (20, 1000, False), (40, 1000, True)],
)
def test_errors_count_beyond_chance_only(failed: int, requests: int, bad: bool) -> None:
    assert bool(judge(counts(requests, failed), None, LIMITS)) is bad


def test_a_version_may_fail_as_often_as_the_one_before() -> None:
    assert judge(counts(1000, 100), None, LIMITS)
    assert not judge(counts(1000, 100), counts(1000, 90), LIMITS)


def test_latency_is_held_against_that_of_the_version_before() -> None:
    quick, slow = counts(200, 0, [0.01] * 200), counts(200, 0, [0.05] * 200)
    assert "99th percentile of latency is 50 ms" in judge(slow, quick, LIMITS)
    assert not judge(quick, slow, LIMITS)
    assert not judge(slow, None, LIMITS)
    assert not judge(slow, counts(99, 0, [0.01] * 99), LIMITS)
    # Twice as long, but not by more than the slack.
    assert not judge(counts(200, 0, [0.025] * 200), quick, LIMITS)


def test_a_hiccup_is_no_slow_version() -> None:
    quick = counts(200, 0, [0.01] * 200)
    assert not judge(counts(200, 0, [0.01] * 196 + [2.0] * 4), quick, LIMITS)
    assert judge(counts(200, 0, [0.01] * 180 + [2.0] * 20), quick, LIMITS)


@given(st.integers(0, 300), st.integers(0, 300), st.lists(st.floats(0, 10), max_size=200))
def test_a_version_never_fails_by_its_own_measure(failed: int, more: int, seconds: list[float]) -> None:
    own = counts(failed + more, failed, seconds)
    assert not judge(own, own.copy(), LIMITS)


@given(st.integers(5, 200), st.integers(0, 200))
def test_more_errors_never_make_it_better(failed: int, more: int) -> None:
    if judge(counts(failed + more, failed), None, LIMITS):
        assert judge(counts(failed + more + 1, failed + 1), None, LIMITS)


@given(st.lists(st.floats(0, 100), min_size=1))
def test_a_percentile_is_one_of_the_seconds_and_most_are_within(seconds: list[float]) -> None:
    found = counts(0, 0, seconds).percentile(0.9)
    assert found in seconds and sum(value <= found for value in seconds) >= 0.9 * len(seconds) - 1e-9


def test_of_nothing_there_is_no_percentile() -> None:
    assert math.isnan(counts().percentile()) and counts().share == 0


@pytest.mark.parametrize("values", [{"seconds": -1}, {"errors": 1.5}, {"errors": math.nan}, {"slower": 0.5}])
def test_limits_that_cannot_be_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(SettingError, match=f"{next(iter(values))} cannot be"):
        Limits(**values)  # type: ignore[arg-type]


def asked(said: dict[int, list[list[str]]], *whom: tuple[int, int | None]) -> list[list[str]]:
    """What is new each time that monitoring is asked about a version, given what it says each time."""

    async def run() -> list[list[str]]:
        alarms = NewAlarms(lambda version: said[int(version)].pop(0), 0.0)
        return [await alarms.ask(*each) for each in whom]

    return asyncio.run(run())


def test_only_what_monitoring_begins_to_complain_of_counts() -> None:
    said = {1: [["a"], ["a"], ["a", "b"], ["a", "b"], ["a"], ["a", "b"]]}
    assert asked(said, *[(1, None)] * 6) == [[], [], ["b"], [], [], ["b"]]


def test_what_is_on_for_the_version_before_is_not_ended_by_going_back() -> None:
    said = {1: [["a"]], 2: [[], ["a"], ["a", "b"]]}
    assert asked(said, (1, None), (2, 1), (2, 1), (2, 1)) == [[], [], [], ["b"]]


def test_each_version_has_alarms_of_its_own() -> None:
    said = {1: [[], []], 2: [[], ["a"]], 3: [["a"], ["a"]]}
    assert asked(said, (1, None), (2, 1), (3, 1), (2, 1), (3, 1), (1, None)) == [[], [], [], ["a"], [], []]


def test_monitoring_that_fails_or_was_just_asked_complains_of_nothing() -> None:
    def broken(version: str) -> list[str]:
        raise ValueError("no")

    async def run() -> None:
        assert await NewAlarms(broken, 0.0).ask(1) == [] == await NewAlarms(None, 0.0).ask(1)
        asked = NewAlarms(lambda version: [str(next(numbers))], 1000.0)
        assert await asked.ask(1) == [] == await asked.ask(1)
        assert next(numbers) == 1

    numbers = iter(range(10))
    asyncio.run(run())
