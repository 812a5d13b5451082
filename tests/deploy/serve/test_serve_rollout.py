"""Which version answers: shares, switching under load, shadows, and what is told of it."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rollout_fakes import FULL, Behaviour, World, ask, during, until

from luthier.deploy.listing import summary
from luthier.deploy.serve.base import Answer, Refused
from luthier.deploy.serve.held import Meter, drawn
from luthier.deploy.serve.probation import Limits
from luthier.deploy.serve.rollout import Rollout
from luthier.deploy.state import Role
from luthier.deploy.versions import Deployment
from luthier.errors import RunError

SHADOW = Role("shadow")


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
