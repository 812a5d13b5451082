from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.deploy.gate import Facts
from luthier.deploy.state import DeploymentState, Role, Version
from luthier.errors import LuthierError, RunError, SettingError

FACTS = Facts(
    "text-classification", ("no", "yes"), "accuracy", True, {"accuracy": 0.9}, {"accuracy": (0.8, 1.0)}
)


def version(number: int) -> Version:
    return Version(number, f"digest{number}", "2026-01-01T00:00:00+00:00", "runs/x", "model", 10, FACTS)


def deployed(count: int, *, full: int | None = None) -> DeploymentState:
    """So many versions, each of which has been in full charge up to ``full``."""
    state = DeploymentState()
    for number in range(1, count + 1):
        role = Role("full" if full is None or number <= full else "staged")
        state = state.add(version(number), role)
    return state


# -- roles -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["full", "shadow", "staged", "canary:10%", "canary:0.5%", "canary:99%"])
def test_a_role_is_read_as_it_is_written(text: str) -> None:
    assert str(Role.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "half", "canary", "canary:0%", "canary:100%", "canary:nan", "canary:x", "full:3"]
)
def test_what_is_no_role_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(SettingError, match=repr(text)):
        Role.parse(text)


# -- single changes --------------------------------------------------------------------------------------


def test_the_first_version_is_in_full_charge_at_once_and_a_later_one_waits() -> None:
    state = DeploymentState().add(version(1), Role("staged"))
    assert state.full == 1 and state.standing(1) == "full"
    state = state.add(version(2), Role("staged"))
    assert (state.full, state.standing(2), state.next) == (1, "staged", 3)


def test_a_promoted_version_leaves_its_old_role() -> None:
    state = deployed(2, full=1).promote(2, Role("shadow"))
    state = state.promote(2, Role("canary", 10))
    assert (state.shadow, state.role(2)) == (None, "canary:10%")
    state = state.promote(2, Role("full"))
    assert (state.full, state.canary, state.standing(1), state.line) == (2, None, "former", (1, 2))


def test_the_version_in_full_charge_has_to_be_relieved() -> None:
    with pytest.raises(SettingError, match="in full charge"):
        deployed(2).promote(2, Role("shadow"))


def test_a_role_that_a_version_has_already_changes_nothing() -> None:
    state = deployed(2, full=1).promote(2, Role("canary", 10))
    assert state.promote(2, Role("canary", 10)) is state
    assert state.promote(1, Role("full")) is state
    assert state.promote(2, Role("canary", 20)).canary.percent == 20


def test_rolling_back_ends_a_canary_first_and_then_goes_down_the_line() -> None:
    state = deployed(4, full=3).promote(4, Role("canary", 10))
    state = state.rollback()
    assert (state.full, state.canary) == (3, None)
    assert state.rollback().full == 2
    assert state.rollback().rollback().full == 1
    with pytest.raises(SettingError, match="No version was in full charge before"):
        state.rollback().rollback().rollback()


def test_rolling_back_to_a_version_by_name_ends_a_canary_too() -> None:
    state = deployed(4, full=3).promote(4, Role("canary", 10)).rollback(1)
    assert (state.full, state.line, state.canary) == (1, (1,), None)
    assert state.rollback(4).line == (4,)
    with pytest.raises(SettingError, match="no version 9"):
        state.rollback(9)


def test_a_failed_version_is_relieved_by_the_one_before_and_comes_back_by_force_only() -> None:
    state = deployed(3, full=3).fail(3, "slow")
    assert (state.full, state.standing(3)) == (2, "failed")
    assert [(event.action, event.version) for event in state.history[-2:]] == [("fail", 3), ("rollback", 2)]
    with pytest.raises(SettingError, match="has failed: slow"):
        state.promote(3, Role("full"))
    with pytest.raises(SettingError, match="has failed: slow"):
        state.rollback(3)
    forced = state.promote(3, Role("full"), force=True)
    assert forced.full == 3 and not forced.versions[3].failed


def test_a_failed_version_before_is_passed_over() -> None:
    state = deployed(3, full=3).fail(2, "corrupt")
    assert state.full == 3
    assert state.rollback().full == 1


def test_a_version_that_nothing_can_relieve_stays() -> None:
    state = deployed(1)
    assert state.fail(1, "bad") is state


def test_a_failed_canary_or_shadow_ends() -> None:
    state = deployed(3, full=1).promote(2, Role("canary", 5)).promote(3, Role("shadow"))
    state = state.fail(2, "errors").fail(3, "corrupt")
    assert (state.full, state.canary, state.shadow) == (1, None, None)


def test_pruning_keeps_the_last_ones_and_those_in_use() -> None:
    state = deployed(6, full=4).rollback().promote(1, Role("shadow"))
    # 3 is in full charge, 2 is what a rollback would go back to, 1 the shadow, and 6 the last.
    pruned, gone = state.prune(1)
    assert gone == [4, 5] and sorted(pruned.versions) == [1, 2, 3, 6]
    assert pruned.next == 7 and pruned.full == 3
    assert pruned.prune(1) == (pruned, [])


# -- laws ------------------------------------------------------------------------------------------------

ROLES = st.one_of(
    st.sampled_from([Role("full"), Role("shadow"), Role("staged")]),
    st.floats(0.1, 99.9).map(lambda percent: Role("canary", percent)),
)
NUMBERS = st.integers(1, 6)
CHANGES = st.one_of(
    st.tuples(st.just("add"), ROLES),
    st.tuples(st.just("promote"), NUMBERS, ROLES, st.booleans()),
    st.tuples(st.just("rollback"), st.one_of(st.none(), NUMBERS)),
    st.tuples(st.just("fail"), NUMBERS),
    st.tuples(st.just("prune"), st.integers(0, 3)),
)


def carried_out(state: DeploymentState, change: tuple) -> DeploymentState:
    what, *how = change
    if what == "add":
        return state.add(version(state.next), how[0])
    if what == "promote":
        return state.promote(how[0], how[1], force=how[2])
    if what == "rollback":
        return state.rollback(how[0])
    return state.fail(how[0], "bad") if what == "fail" else state.prune(how[0])[0]


@given(st.lists(CHANGES, max_size=25))
def test_whatever_happens_exactly_one_version_that_exists_is_in_full_charge(changes: list[tuple]) -> None:
    state = DeploymentState().add(version(1), Role("staged"))
    for change in changes:
        before = state
        try:
            state = carried_out(state, change)
        except LuthierError:
            assert state is before
            continue
        standings = [state.standing(number) for number in state.versions]
        assert standings.count("full") == 1
        assert not any(state.versions[number].failed for number in {*state.line, *state.in_use})
        assert standings.count("canary") == (state.canary is not None)
        assert standings.count("shadow") == (state.shadow is not None)
        assert set(state.line) <= set(state.versions) and len(set(state.line)) == len(state.line)
        assert state.in_use <= set(state.versions) and state.next > max(state.versions)
        assert state.history[: len(before.history)] == before.history
        assert (state.revision > before.revision) == (state != before)
        assert DeploymentState.from_json(json.loads(json.dumps(state.to_json()))) == state


@given(st.lists(NUMBERS, min_size=1, max_size=8))
def test_rolling_back_undoes_promotions_in_their_order(numbers: list[int]) -> None:
    state = deployed(6, full=1)
    line = [1]
    for number in numbers:
        state = state.promote(number, Role("full"))
        line = [other for other in line if other != number] + [number]
    while len(line) > 1:
        line.pop()
        state = state.rollback()
        assert state.full == line[-1]


# -- damage ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"format": 9}, "format 9"),
        ({"line": [7]}, "version 7"),
        ({"line": None}, "damaged"),
        ({"versions": [{"number": 1}]}, "damaged"),
        ({"shadow": 12}, "version 12"),
    ],
)
def test_a_state_that_cannot_be_is_refused(values: dict, words: str) -> None:
    with pytest.raises(RunError, match=words):
        DeploymentState.from_json({**deployed(2).to_json(), **values})


def test_nothing_is_in_charge_before_anything_is_deployed() -> None:
    with pytest.raises(RunError, match="Nothing is deployed"):
        _ = DeploymentState().full
