from __future__ import annotations

import asyncio
import itertools
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rollout_fakes import Behaviour, World, ask, during, make, until

from luthier.deploy.listing import summary
from luthier.deploy.serve.base import Answer, Refused
from luthier.deploy.serve.held import Meter, drawn
from luthier.deploy.serve.probation import Limits
from luthier.deploy.serve.rollout import Rollout
from luthier.deploy.state import Role
from luthier.deploy.versions import Deployment
from luthier.errors import MissingExtra, ModelError, RunError, SettingError

FULL, SHADOW = Role("full"), Role("shadow")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make(tmp_path)


def history(world: World, action: str) -> list[int]:
    return [event.version for event in world.deployment.state.history if event.action == action]


# -- the contract ------------------------------------------------------------------------------------------


def test_it_keeps_the_contract(world: World) -> None:
    rollout = world.rollout()
    assert rollout.state == "loading" and rollout.metadata["name"] == "reviews"

    async def run() -> None:
        with pytest.raises(Refused) as early:
            await rollout.answer(["x"], request="r")
        assert early.value.status == 503
        await rollout.ready()
        assert rollout.state == "ready"
        assert rollout.metadata == {
            "name": "reviews", "versions": ["1"], "task": "text-classification", "input": "text",
            "labels": ["no", "yes"], "backend": "fake",
        }  # fmt: skip
        found = await rollout.answer(["a", "bad", "c"], request="r")
        assert [isinstance(one, Answer) for one in found] == [True, False, True]
        assert await rollout.answer([], request="r") == []
        assert await ask(rollout, version="1") == "1"
        with pytest.raises(Refused) as absent:
            await rollout.answer(["x"], request="r", version="2")
        assert absent.value.status == 404
        world.behaviours[1].seconds = 0.05
        accepted = asyncio.ensure_future(ask(rollout))
        await asyncio.sleep(0.01)
        closing = asyncio.ensure_future(rollout.close())
        await asyncio.sleep(0.01)
        assert rollout.state == "draining"
        with pytest.raises(Refused) as late:
            await rollout.answer(["x"], request="r")
        assert late.value.status == 503
        await closing
        assert await accepted == "1" and world.loaded == []

    asyncio.run(run())


def test_a_deployment_that_is_not_there_is_said(tmp_path: Path, world: World) -> None:
    rollout = Rollout(Deployment("absent", tmp_path), world.open)
    with pytest.raises(RunError, match="no deployment 'absent'"):
        asyncio.run(rollout.ready())


# -- shares ------------------------------------------------------------------------------------------------


@given(st.text(max_size=20), st.integers(1, 99), st.floats(0.1, 99.9), st.floats(0.1, 99.9))
def test_a_request_meets_the_same_version_and_a_larger_share_takes_in_a_smaller(
    request: str, version: int, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    assert drawn("n", version, request, low) == drawn("n", version, request, low)
    assert drawn("n", version, request, low) <= drawn("n", version, request, high)


@pytest.mark.parametrize("percent", [1, 10, 50, 99])
@pytest.mark.parametrize("version", [2, 3])
def test_a_canary_gets_its_share(percent: float, version: int) -> None:
    found = sum(drawn("n", version, f"request {number}", percent) for number in range(10_000))
    # Five standard deviations of a binomial count at most.
    assert abs(found - 100 * percent) < 5 * (10_000 * percent / 100 * (1 - percent / 100)) ** 0.5


def test_another_canary_meets_other_requests() -> None:
    both = sum(drawn("n", 2, str(n), 50) and drawn("n", 3, str(n), 50) for n in range(4000))
    assert 850 < both < 1150


def test_requests_are_shared_out_among_the_versions_in_charge(world: World) -> None:
    world.deployment.promote(2, Role("canary", 30))

    async def work(rollout: Rollout) -> None:
        await until(lambda: rollout.metadata["versions"] == ["1", "2"])
        for number in range(100):
            expected = "2" if drawn("reviews", 2, f"r{number}", 30) else "1"
            assert await ask(rollout, f"r{number}") == expected == await ask(rollout, f"r{number}")

    during(world.rollout(), work)


# -- switching ---------------------------------------------------------------------------------------------


def test_versions_change_under_load_without_one_failed_request(world: World) -> None:
    for behaviour in world.behaviours.values():
        behaviour.seconds, behaviour.load = 0.002, 0.02
    seen: list[str] = []

    async def client(rollout: Rollout, number: int, stop: asyncio.Event) -> None:
        for turn in itertools.count():
            if stop.is_set():
                return
            seen.append(await ask(rollout, f"{number}-{turn}"))

    async def work(rollout: Rollout) -> None:
        stop = asyncio.Event()
        clients = [asyncio.ensure_future(client(rollout, number, stop)) for number in range(8)]
        promote, rollback = world.deployment.promote, world.deployment.rollback
        for change, versions in (
            (lambda: promote(2, Role("canary", 50)), {"1", "2"}),
            (lambda: promote(2, FULL), {"2"}),
            (lambda: promote(3, FULL), {"3"}),
            (rollback, {"2"}),
            (rollback, {"1"}),
        ):
            await asyncio.to_thread(change)
            await until(lambda versions=versions: set(seen[-40:]) == versions)
        stop.set()
        await asyncio.gather(*clients)

    # What was relieved goes at once where there is no probation.
    during(world.rollout(limits=Limits(seconds=0)), work)
    assert set(seen) == {"1", "2", "3"} and world.loaded == []


def test_the_version_before_stays_loaded_as_long_as_the_probation_lasts(world: World) -> None:
    async def work(rollout: Rollout) -> None:
        world.deployment.promote(2, FULL)
        await until(lambda: rollout.metadata["versions"] == ["2"])
        assert world.loaded == [1, 2]
        await until(lambda: world.loaded == [2])

    during(world.rollout(limits=Limits(seconds=2.0)), work)


def test_a_version_that_loads_for_long_holds_up_nothing(world: World) -> None:
    world.behaviours[3].load = 1000.0

    async def work(rollout: Rollout) -> None:
        world.deployment.promote(2, FULL)
        await until(lambda: rollout.metadata["versions"] == ["2"])
        world.deployment.promote(3, FULL)
        await until(lambda: 3 in world.services)
        assert await ask(rollout) == "2"
        world.deployment.rollback(1)
        await until(lambda: rollout.metadata["versions"] == ["1"])
        assert await ask(rollout) == "1"

    during(world.rollout(), work)


# -- candidates that are no good -----------------------------------------------------------------------------


def test_a_candidate_that_does_not_load_never_displaces_what_runs(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.behaviours[2].broken = ModelError("its weights are damaged")

    async def work(rollout: Rollout) -> None:
        world.deployment.promote(2, FULL)
        await until(lambda: world.deployment.state.versions[2].failed)
        state = world.deployment.state
        assert (state.full, state.standing(2)) == (1, "failed")
        assert state.versions[2].failed == "its weights are damaged"
        assert await ask(rollout) == "1" and world.loaded == [1]

    with caplog.at_level(logging.ERROR, "luthier.serve"):
        during(world.rollout(), work)
    assert "version 2 has failed: its weights are damaged" in caplog.text


def test_a_candidate_whose_files_were_changed_is_not_loaded(world: World) -> None:
    (world.deployment.model(2) / "luthier.json").write_text("3")
    world.deployment.promote(2, Role("canary", 50))

    async def work(rollout: Rollout) -> None:
        await until(lambda: world.deployment.state.versions[2].failed)
        assert "was changed since it was deployed" in world.deployment.state.versions[2].failed
        assert 2 not in world.services and rollout.metadata["versions"] == ["1"]

    during(world.rollout(), work)


def test_a_server_starts_with_the_last_good_version(world: World) -> None:
    world.deployment.promote(2, FULL)
    world.deployment.promote(3, FULL)
    world.behaviours[3].broken = world.behaviours[2].broken = ValueError("no")

    async def work(rollout: Rollout) -> None:
        assert await ask(rollout) == "1"

    during(world.rollout(), work)
    assert world.deployment.state.full == 1 and history(world, "fail") == [3, 2]


def test_where_nothing_loads_the_server_says_why_and_the_state_stays(world: World) -> None:
    world.behaviours[1].broken = ValueError("no")
    before = world.deployment.state
    rollout = world.rollout()
    with pytest.raises(ModelError, match="Version 1 of 'reviews' cannot be loaded"):
        asyncio.run(rollout.ready())
    assert rollout.state == "failed" and world.deployment.state == before


def test_what_the_server_lacks_is_no_fault_of_the_versions(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.deployment.promote(2, FULL)
    world.behaviours[2].broken = MissingExtra("The format onnx", "export")
    before = world.deployment.state
    with pytest.raises(MissingExtra):
        asyncio.run(world.rollout().ready())
    assert world.deployment.state == before
    world.behaviours[3].broken = SettingError("no backend of that name")

    async def work(rollout: Rollout) -> None:
        world.deployment.promote(3, Role("canary", 50))
        await until(lambda: "cannot be loaded here: no backend" in caplog.text)
        assert world.deployment.state.canary is not None and len(world.services[3]) == 1

    world.behaviours[2].broken = None
    with caplog.at_level(logging.ERROR, "luthier.serve"):
        during(world.rollout(), work)


def test_going_back_to_a_version_that_no_longer_loads_leaves_what_runs(world: World) -> None:
    world.deployment.promote(2, FULL)
    world.behaviours[1].broken = ValueError("no")

    async def work(rollout: Rollout) -> None:
        world.deployment.rollback()
        await until(lambda: 1 in world.services)
        await asyncio.sleep(0.1)
        assert await ask(rollout) == "2" and len(world.services[1]) == 1

    during(world.rollout(), work)


def test_a_damaged_state_changes_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def work(rollout: Rollout) -> None:
        good = world.deployment.file.read_text()
        world.deployment.file.write_text("{")
        await until(lambda: "cannot be read" in caplog.text)
        assert await ask(rollout) == "1"
        world.deployment.file.write_text(good)
        world.deployment.promote(2, FULL)
        await until(lambda: rollout.metadata["versions"] == ["2"])

    with caplog.at_level(logging.ERROR, "luthier.serve"):
        during(world.rollout(), work)


# -- going back by itself ----------------------------------------------------------------------------------


async def busy(rollout: Rollout, count: int, prefix: str = "r") -> None:
    for number in range(count):
        try:
            await ask(rollout, f"{prefix}{number}")
        except Refused as refused:
            assert refused.status == 500


def test_it_goes_back_where_requests_fail(world: World) -> None:
    world.behaviours[2].fails = True

    async def work(rollout: Rollout) -> None:
        await busy(rollout, 5)
        world.deployment.promote(2, FULL)
        await until(lambda: rollout.metadata["versions"] == ["2"])
        await busy(rollout, 10)
        await until(lambda: rollout.metadata["versions"] == ["1"])
        assert await ask(rollout) == "1"

    during(world.rollout(), work)
    state = world.deployment.state
    assert state.full == 1 and "of 10 requests failed" in state.versions[2].failed
    assert state.history[-1].action == "rollback"


def test_it_goes_back_where_answers_become_slow(world: World) -> None:
    world.behaviours[2].seconds = 0.05

    async def work(rollout: Rollout) -> None:
        await busy(rollout, 20)
        world.deployment.promote(2, FULL)
        await until(lambda: rollout.metadata["versions"] == ["2"])
        await asyncio.gather(*(busy(rollout, 5, str(client)) for client in range(5)))
        await until(lambda: rollout.metadata["versions"] == ["1"])

    during(world.rollout(limits=Limits(requests=20, slack=0.001, slower=1.5)), work)
    assert "99th percentile" in world.deployment.state.versions[2].failed


def test_it_goes_back_where_monitoring_complains_of_something_new(world: World) -> None:
    alarms: dict[str, list[str]] = {"1": ["the inputs drift"], "2": []}

    async def work(rollout: Rollout) -> None:
        await asyncio.sleep(0.1)
        world.deployment.promote(2, FULL)
        await until(lambda: rollout.metadata["versions"] == ["2"])
        await asyncio.sleep(0.1)
        # That goes on with any version, and going back would not end it.
        alarms["2"].append("the inputs drift")
        await asyncio.sleep(0.1)
        assert world.deployment.state.full == 2
        alarms["2"].append("accuracy fell")
        await until(lambda: rollout.metadata["versions"] == ["1"])

    during(world.rollout(alarms=lambda version: list(alarms[version])), work)
    assert world.deployment.state.versions[2].failed == "accuracy fell"


def test_a_canary_that_monitoring_complains_of_ends(world: World) -> None:
    alarms: list[str] = []
    world.deployment.promote(2, Role("canary", 50))

    async def work(rollout: Rollout) -> None:
        await until(lambda: rollout.metadata["versions"] == ["1", "2"])
        await asyncio.sleep(0.1)
        alarms.append("accuracy fell")
        await until(lambda: rollout.metadata["versions"] == ["1"])

    during(world.rollout(alarms=lambda version: list(alarms) if version == "2" else []), work)
    state = world.deployment.state
    assert (state.full, state.versions[2].failed) == (1, "accuracy fell")


def test_after_the_probation_it_stays(world: World) -> None:
    async def work(rollout: Rollout) -> None:
        world.deployment.promote(2, FULL)
        await until(lambda: rollout.metadata["versions"] == ["2"])
        await until(lambda: world.loaded == [2])
        world.behaviours[2].fails = True
        await busy(rollout, 20)
        await asyncio.sleep(0.1)

    during(world.rollout(limits=Limits(seconds=0.2)), work)
    assert world.deployment.state.full == 2


def test_a_bad_canary_ends_and_the_version_in_full_charge_stays(world: World) -> None:
    world.behaviours[2].fails = True
    world.deployment.promote(2, Role("canary", 50))

    async def work(rollout: Rollout) -> None:
        await until(lambda: rollout.metadata["versions"] == ["1", "2"])
        await busy(rollout, 40)
        await until(lambda: world.deployment.state.canary is None)
        await until(lambda: world.loaded == [1])
        assert await ask(rollout) == "1"

    during(world.rollout(limits=Limits(seconds=0)), work)
    assert world.deployment.state.standing(2) == "failed"


def test_the_only_version_stays_however_bad_it_is(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.behaviours[1].fails = True

    async def work(rollout: Rollout) -> None:
        await busy(rollout, 10)
        await until(lambda: "has failed" in caplog.text)
        await asyncio.sleep(0.1)
        assert rollout.metadata["versions"] == ["1"]

    with caplog.at_level(logging.ERROR, "luthier.serve"):
        during(world.rollout(), work)
    assert caplog.text.count("has failed") == 1 and not world.deployment.state.versions[1].failed


def test_of_several_servers_one_writes_and_all_follow(world: World) -> None:
    world.behaviours[2].fails = True
    other = world.rollout()

    async def work(rollout: Rollout) -> None:
        await other.ready()
        world.deployment.promote(2, FULL)
        both = (rollout, other)
        await until(lambda: all(one.metadata["versions"] == ["2"] for one in both))
        await asyncio.gather(*(busy(one, 10) for one in both))
        await until(lambda: all(one.metadata["versions"] == ["1"] for one in both))
        await other.close()

    during(world.rollout(), work)
    assert history(world, "fail") == [2] and history(world, "rollback") == [1]


def test_it_goes_back_though_that_cannot_be_written_and_writes_it_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.behaviours[2].fails = True

    def refuse(*_: Any) -> None:
        raise RunError("the disk is full")

    async def work(rollout: Rollout) -> None:
        world.deployment.promote(2, FULL)
        await until(lambda: rollout.metadata["versions"] == ["2"])
        with monkeypatch.context() as patch:
            patch.setattr(Deployment, "change", refuse)
            await busy(rollout, 10)
            await until(lambda: rollout.metadata["versions"] == ["1"])
            assert await ask(rollout) == "1" and world.deployment.state.full == 2
        await until(lambda: world.deployment.state.full == 1)

    during(world.rollout(), work)


def test_what_failed_comes_back_by_force(world: World) -> None:
    world.behaviours[2].fails = True

    async def work(rollout: Rollout) -> None:
        world.deployment.promote(2, FULL)
        await until(lambda: rollout.metadata["versions"] == ["2"])
        await busy(rollout, 10)
        await until(lambda: world.deployment.state.full == 1)
        world.behaviours[2].fails = False
        world.deployment.promote(2, FULL, force=True)
        await until(lambda: rollout.metadata["versions"] == ["2"])
        await busy(rollout, 10)
        await asyncio.sleep(0.1)
        assert world.deployment.state.full == 2

    during(world.rollout(), work)


# -- shadow, and what is told --------------------------------------------------------------------------------


def test_a_shadow_is_compared_and_what_it_says_goes_nowhere(world: World) -> None:
    world.behaviours[2] = Behaviour(says="1")
    world.deployment.promote(2, SHADOW)

    async def work(rollout: Rollout) -> None:
        await until(lambda: rollout.metadata["versions"] == ["1", "2"])
        for number in range(10):
            if number == 5:
                world.behaviours[2].says = "2"
            assert await ask(rollout, f"r{number}") == "1"
            await until(lambda number=number: rollout.gauges()["shadow_compared"] == number + 1)
        gauges = rollout.gauges()
        assert (gauges["shadow_agreed"], gauges["shadow_dropped"], gauges["version_shadow"]) == (5, 0, 2)
        assert await ask(rollout, version="2") == "2"

    during(world.rollout(), work)
    told = summary(world.deployment)["comparison"]
    assert (told["version"], told["compared"], told["agreement"], told["failed"]) == (2, 10, 0.5, 0)
    assert told["shadow_seconds"] > 0 and told["confidence_difference"] == 0


def test_a_slow_shadow_holds_up_nobody_and_is_dropped(world: World) -> None:
    world.behaviours[2].seconds = 1000.0
    world.deployment.promote(2, SHADOW)

    async def work(rollout: Rollout) -> None:
        await until(lambda: rollout.metadata["versions"] == ["1", "2"])
        for number in range(200):
            assert await ask(rollout, f"r{number}") == "1"
        assert rollout.gauges()["shadow_dropped"] >= 130
        world.behaviours[2].seconds = 0.0
        world.deployment.promote(2, Role("staged"))
        await until(lambda: rollout.metadata["versions"] == ["1"])
        # The fake's own close would wait for the endless answer; the shadow was cancelled first.
        await until(lambda: world.loaded == [1])

    during(world.rollout(limits=Limits(seconds=0)), work)


def test_requests_are_counted_by_version_and_outcome(world: World) -> None:
    told: list[tuple[str, str]] = []

    class Told(Meter):
        def request(self, version: str, outcome: str) -> None:
            told.append((version, outcome))

        def forget(self, version: str) -> None:
            told.append((version, "forgotten"))

    async def work(rollout: Rollout) -> None:
        await ask(rollout)
        await rollout.answer(["bad"], request="r")
        world.behaviours[1].fails = True
        await rollout.answer(["x"], request="r")
        world.deployment.promote(2, FULL)
        await until(lambda: rollout.metadata["versions"] == ["2"])
        await ask(rollout)
        await until(lambda: ("1", "forgotten") in told)

    during(world.rollout(meter=Told(), limits=Limits(seconds=0)), work)
    assert told[:3] == [("1", "answered"), ("1", "refused"), ("1", "failed")] and ("2", "answered") in told
    rows = {row["version"]: (row["requests"], row["errors"]) for row in summary(world.deployment)["versions"]}
    assert rows == {1: (3, 1), 2: (1, 0), 3: (0, 0)}
    (file,) = world.deployment.serving.glob("*.json")
    assert json.loads(file.read_text())["versions"]["1"] == {"requests": 3, "errors": 1}
